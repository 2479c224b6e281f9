"""A bar over the models that are trained, with the epoch of the one at work; none in a pipe."""

from __future__ import annotations

from collections.abc import Hashable
from types import TracebackType
from typing import Any

from ..environment import bars_wanted
from ..train.callback import Callback


class Watch:
    """Shows how many of `n` trainings are done, and what is trained now."""

    def __init__(self, n: int, *, n_folds: int = 1):
        self.n, self.n_done, self.n_folds, self.text, self.width = n, 0, n_folds, "", 0
        self.bar: Any = None            # of fastprogress, which has no types

    def __enter__(self) -> Watch:
        if bars_wanted():
            from fastprogress import progress_bar  # late: it imports matplotlib in a notebook
            self.bar = progress_bar(range(self.n), leave=False)
            self.bar.update(0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.bar is not None and self.n_done < self.n:      # otherwise the bar has ended itself
            self.bar.on_iter_end()

    def model(self, label: str, fold: Hashable) -> None:
        """Say which model comes now."""
        self.text = label + (f", fold {fold}" if self.n_folds > 1 else "")
        self.say(self.text)

    def done(self, counts: bool) -> None:
        """One more training is done, if it `counts`: baselines do not."""
        self.n_done += counts
        if self.bar is not None:
            self.bar.update(min(self.n_done, self.n))

    def say(self, text: str) -> None:
        """Show a text beside the bar."""
        if self.bar is not None:
            self.width = max(self.width, len(text))
            self.bar.comment = text.ljust(self.width)           # over what a longer text has left on a terminal
            self.bar.update_bar(self.n_done)

    def callbacks(self) -> list[Callback]:
        """What a fit is to call, so that its epochs are shown."""
        return [] if self.bar is None else [_Epochs(self)]


class _Epochs(Callback):
    """Says which epoch begins."""

    def __init__(self, watch: Watch):
        self.watch = watch

    def before_epoch(self) -> None:
        self.watch.say(f"{self.watch.text}, epoch {self.learn.epoch + 1} of {self.learn.n_epochs}")

"""Progress: a table of epochs, with fastprogress bars in a notebook or a terminal, and without bars in a pipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...environment import bars_wanted, in_notebook
from ...processes import is_main
from ..callback import Callback
from .order import Order


class Progress(Callback):
    """Prints one line per epoch. `bar` set to False leaves out the bars; `epochs` set to False leaves out the lines and
    the bars within an epoch, for a callback that calls `write` itself."""

    order = Order.PROGRESS
    main_only = True

    def __init__(self) -> None:
        self.bar, self.epochs = True, True
        self.master: Any = None         # of fastprogress, which has no types

    def before_fit(self) -> None:
        self.header: list[str] = []
        self.master = self._master() if self.bar and bars_wanted() else None
        if self.master:
            self.master.update(0)

    def before_train(self) -> None:
        self._start()

    def before_validate(self) -> None:
        self._start()

    def after_batch(self) -> None:
        if self.master and self.epochs:
            self.child.update(self.learn.i + 1)

    after_chunk = after_batch

    def after_epoch(self) -> None:
        if self.learn.recorder not in self.learn.cbs:
            return                      # there is no row to print
        if self.master:
            self.master.update(self.learn.epoch + 1)
        if self.epochs:
            self.write(self.learn.recorder.rows[-1])

    def write(self, row: Mapping[str, float]) -> None:
        """Print a line of the table, under a new header if it is the first one or the columns have changed; seconds
        come last. Of several processes, the first one alone prints."""
        if not is_main():
            return
        names = [*(k for k in row if k != "seconds"), *(["seconds"] if "seconds" in row else [])]
        cells = [f"{row[k]:.2f}" if k == "seconds" else f"{row[k]:.4f}" if isinstance(row[k], float) else str(row[k])
                 for k in names]
        if self.master and in_notebook():
            if names != self.header:
                self.master.write(names, table=True)
            self.master.write(cells, table=True)
            if hasattr(self.master, "out"):
                self.master.show()
        else:
            self._print(names, cells)
        self.header = names

    def cleanup_fit(self) -> None:
        if self.master and in_notebook():
            self.master.on_iter_end()
        self.master = None

    def _print(self, names: list[str], cells: list[str]) -> None:
        if names != self.header:
            print("  ".join(name.rjust(10) for name in names), flush=True)
        print("  ".join(cell.rjust(10) for cell in cells), flush=True)

    def _master(self) -> Any:
        from fastprogress import master_bar  # late: it imports matplotlib in a notebook
        return master_bar(range(self.learn.n_epochs))

    def _start(self) -> None:
        if self.master and self.epochs and len(self.learn.batches):
            from fastprogress import progress_bar
            self.child = progress_bar(range(len(self.learn.batches)), parent=self.master)
            self.child.update(0)

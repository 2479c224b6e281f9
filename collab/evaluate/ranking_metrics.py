"""RankingMetrics: ranking metrics in the history, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..data.databunch import CollabDataBunch
from ..data.implicit import check_threshold
from ..errors import DataError
from ..sharded_rows import ShardedRows
from ..train.callback import Callback
from ..train.callbacks.order import Order
from .evaluation import check_request, columns, measure
from .excluded import Exclude
from .held_out import HeldOut, say_unknown


class RankingMetrics(Callback):
    """Record and print ranking metrics of the validation part after every `every`-th epoch and the last: "ndcg@10" and
    so on, for one `k` or several; in other epochs they are NaN. `threshold` and `exclude` are those of `evaluate`.
    `SaveBest("ndcg@10")` may watch them."""

    order = Order.RANKING_METRICS

    def __init__(self, k: int | Sequence[int] = 10, metrics: Sequence[str] = ("ndcg", "recall"), every: int = 1,
                 threshold: float | None = None, exclude: Exclude = "train"):
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.ks, self.metrics = check_request(k, metrics)
        check_threshold(threshold)
        self.every, self.threshold, self.exclude = every, threshold, exclude

    @property
    def modes(self) -> dict[str, str | None]:
        """Column -> "max", since larger values are better; None for "popularity", "novelty" and
        "diversity", where neither are."""
        return {column: None if name in ("popularity", "novelty", "diversity") else "max"
                for column, (name, _) in columns(self.ks, self.metrics).items()}

    def before_fit(self) -> None:
        if not isinstance(self.learn.data, CollabDataBunch):
            raise TypeError(f"RankingMetrics needs a CollabDataBunch, got {type(self.learn.data).__name__}")
        if any(isinstance(p, ShardedRows) for p in self.learn.model.parameters()):
            raise DataError("RankingMetrics scores all items, and their table is spread over processes: leave it out, "
                            "collab_learner(data, metrics=[]), and evaluate(learn) after the `with`")
        with self.learn.untouched():
            self.held_out = HeldOut.of(self.learn.data, threshold=self.threshold, exclude=self.exclude)
        say_unknown(self.held_out.left_out, int(self.held_out.n_relevant.sum()))

    def after_validate(self) -> None:
        learn, due = self.learn, (self.learn.epoch + 1) % self.every == 0 or self.learn.epoch + 1 == self.learn.n_epochs
        values = measure(learn, self.held_out, self.ks, self.metrics) if due else {}
        learn.scores.values |= {name: values[name].nanmean().item() if due else math.nan
                                for name in columns(self.ks, self.metrics)}

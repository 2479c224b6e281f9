"""CollabInterpretation: reads a trained learner, and never changes it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..learner import CollabLearner


class CollabInterpretation:
    """Tables of what was learned. Made from a learner, also from one that `load_learner` gave."""

    def __init__(self, learn: CollabLearner):
        self.learn, self.data = learn, learn.data

    @classmethod
    def from_learner(cls, learn: CollabLearner) -> CollabInterpretation:
        """The interpretation of a learner as it is now."""
        return cls(learn)

    def biases(self, by: str = "item", n: int = 15, largest: bool = True, min_ratings: int = 0) -> pd.DataFrame:
        """The `n` largest (or smallest) biases: id, title (where known), n_ratings, mean_rating, bias.

        The bias is what remains of an item's mean rating when the tastes of those who rated it are accounted for,
        in units of the model's score before the sigmoid. `by` is "item" or "user"; ids with fewer than
        `min_ratings` training ratings are left out. Raises DataError for a model without biases."""
        if by not in ("item", "user"):
            raise ValueError(f"by={by!r} is neither 'item' nor 'user'")
        if n < 1:
            raise ValueError(f"a table has at least 1 row, got n={n}")
        is_item = by == "item"
        vocab = self.data.items if is_item else self.data.users
        bias = self.learn.bias(is_item=is_item).numpy()
        rows, ratings = self.data.train.tensors[1 if is_item else 0].cpu(), self.data.train.tensors[2].cpu()
        counts = self.data.counts(by)[1:].numpy()
        sums = np.bincount(rows, weights=ratings, minlength=len(vocab))[1:]
        chosen = np.flatnonzero(counts >= min_ratings)
        order = chosen[np.argsort(-bias[chosen] if largest else bias[chosen], kind="stable")][:n]
        table = pd.DataFrame({"id": vocab.decode(order + 1)})
        if is_item and (titles := self.data.titles(table["id"])) is not None:
            table["title"] = titles
        return table.assign(n_ratings=counts[order], mean_rating=sums[order] / counts[order], bias=bias[order])

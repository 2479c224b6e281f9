"""CollabInterpretation: reads a trained learner, and never changes it."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from numbers import Integral

import numpy as np
import pandas as pd
import torch

from ..data.batches import TensorBatches
from ..data.vocab import Vocab
from ..learner import CollabLearner
from ..recommend import top_k
from .calibration import calibration, plot_calibration
from .charts import chart_map
from .errors import errors
from .explanation import Explanation, explain
from .maps import layout, tsne
from .pca import PCA
from .pictures import plot_biases, plot_counts, plot_cross, plot_map, plot_norms, plot_predictions
from .report import report

BLOCK = 2048        # rows of similarities that are held at a time
Measure = str | float


class CollabInterpretation:
    """What was learned, in tables. Made from a learner, also from one that `load_learner` gave.

    Tables have a row an id: `id`, `title` (of items, where known), `n_ratings` in the training part, and what was
    asked for. `by` is "item" or "user"; ids with fewer than `min_ratings` training ratings are left out. What a model
    does not learn (`EmbeddingDot` and `EmbeddingNet` have no biases) raises DataError, in one sentence."""

    def __init__(self, learn: CollabLearner):
        if not isinstance(learn, CollabLearner):
            raise TypeError(f"expected a CollabLearner, got {type(learn).__name__}")
        self.learn, self.data = learn, learn.data

    @classmethod
    def from_learner(cls, learn: CollabLearner) -> CollabInterpretation:
        """The interpretation of a learner as it is now."""
        return cls(learn)

    def errors(self, part: TensorBatches | pd.DataFrame | None = None) -> pd.DataFrame:
        """RMSE and MAE on `part` (batches or a table of ratings; by default the validation part), beside the mean
        rating and biases alone."""
        return errors(self.learn, part)

    def biases(self, by: str = "item", n: int = 15, largest: bool = True, min_ratings: int = 0) -> pd.DataFrame:
        """The `n` largest (or smallest) biases: id, title, n_ratings, mean_rating, bias.

        The bias is what remains of an item's mean rating when the tastes of those who rated it are accounted for,
        in units of the model's score before the sigmoid; of a `RatingClassifier` (see its `bias_effect`) in ratings."""
        _check_count(n)
        bias = self.learn.bias(is_item=self._is_item(by)).numpy()
        counts, sums = self._ratings(by)
        chosen = np.flatnonzero(counts >= min_ratings)
        order = chosen[np.argsort(-bias[chosen] if largest else bias[chosen], kind="stable")][:n]
        with np.errstate(invalid="ignore"):         # nobody rated a cold id, and its mean is NaN
            return self._labels(by, order).assign(mean_rating=sums[order] / counts[order], bias=bias[order])

    def norms(self, by: str = "item", min_ratings: int = 0) -> pd.DataFrame:
        """The length of every embedding beside its number of ratings, longest first: id, title, n_ratings, norm."""
        norm = self.learn.weight(is_item=self._is_item(by)).norm(dim=1).numpy()
        chosen = np.flatnonzero(self._ratings(by)[0] >= min_ratings)
        order = chosen[np.argsort(-norm[chosen], kind="stable")]
        return self._labels(by, order).assign(norm=norm[order])

    def pca(self, n_components: int = 3, by: str = "item", top: int | None = 1000, min_ratings: int = 0) -> PCA:
        """The principal components of the embeddings of the `top` most rated ids (None: of all)."""
        counts = self._ratings(by)[0]
        order = np.argsort(-counts, kind="stable")[:top]
        order = order[counts[order] >= min_ratings]
        weight = self.learn.weight(is_item=self._is_item(by)).numpy()[order]
        return PCA(weight, self._labels(by, order), n_components)

    def neighbors(self, item: Hashable, k: int = 6, measure: Measure = "cosine", by: str = "item",
                  min_ratings: int = 5) -> pd.DataFrame:
        """The `k` nearest: id, title, n_ratings, score, without the one that is asked about.

        `measure` is "cosine", "dot", or a number alpha for dot / |v|^alpha, v being the neighbour: 0 ranks like the
        dot product, which favours long (often popular) embeddings, and 1 like the cosine. `item` is an id, a title or
        a part of one; of several that hold it the most rated is taken, with a warning that names others."""
        _check_count(k)
        vocab = self._vocab(by)
        row = vocab[self._meant(item) if by == "item" else item]
        weight = self.learn.weight(is_item=self._is_item(by))
        scaled, query = _scaled(weight, measure), weight[row - 1]
        if measure == "cosine":
            query = torch.nn.functional.normalize(query, dim=0)
        chosen = torch.from_numpy(np.flatnonzero(self._ratings(by)[0] >= min_ratings))
        chosen = chosen[chosen != row - 1]
        asked = torch.zeros(1, dtype=torch.int64)
        found, scores = top_k(lambda _, rows: (scaled[rows] @ query)[None], asked, chosen, k)
        here = found[0] >= 0
        return self._labels(by, found[0][here].numpy()).assign(score=scores[0][here].numpy())

    def similar_pairs(self, threshold: float = 0.8, n: int = 100, by: str = "item",
                      min_ratings: int = 0) -> pd.DataFrame:
        """The `n` most similar pairs with a cosine of at least `threshold`, best first: id, title, other_id,
        other_title, score. Memory is that of a block of rows, never of all pairs."""
        _check_count(n)
        chosen = np.flatnonzero(self._ratings(by)[0] >= min_ratings)
        unit = torch.nn.functional.normalize(self.learn.weight(is_item=self._is_item(by))[chosen], dim=1)
        best, left, right = torch.empty(0), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        for i in range(0, len(unit), BLOCK):
            for j in range(i, len(unit), BLOCK):
                cosine = unit[i:i + BLOCK] @ unit[j:j + BLOCK].T
                a, b = torch.nonzero(cosine.triu(1) >= threshold if i == j else cosine >= threshold, as_tuple=True)
                if i == j:
                    a, b = a[a < b], b[a < b]       # triu leaves zeros, which a threshold of 0 or less would let in
                best = torch.cat([best, cosine[a, b]])
                left, right = torch.cat([left, a + i]), torch.cat([right, b + j])
                order = torch.argsort(best, descending=True, stable=True)[:n]
                best, left, right = best[order], left[order], right[order]
        one, other = (self._labels(by, chosen[rows.numpy()]).drop(columns="n_ratings") for rows in (left, right))
        return pd.concat([one, other.add_prefix("other_")], axis=1).assign(score=best.numpy())

    def explain(self, user: Hashable, item: Hashable, n_factors: int = 5, n_nearest: int = 5) -> Explanation:
        """Why a user gets this score for an item (an id, a title or a part of one): the parts it is the sum of, and
        the user's own rated items that are nearest to it. See `Explanation`."""
        return explain(self.learn, user, self._meant(item), n_factors, n_nearest)

    calibration = calibration
    map = layout
    tsne = tsne
    report = report

    # Pictures ----------------------------------------------------------------------------------------------------

    chart_map = chart_map
    plot_map = plot_map
    plot_biases = plot_biases
    plot_norms = plot_norms
    plot_predictions = plot_predictions
    plot_cross = plot_cross
    plot_counts = plot_counts
    plot_calibration = plot_calibration

    # Inside ------------------------------------------------------------------------------------------------------

    def _is_item(self, by: str) -> bool:
        if by not in ("item", "user"):
            raise ValueError(f"by={by!r} is neither 'item' nor 'user'")
        return by == "item"

    def _vocab(self, by: str) -> Vocab:
        return self.data.items if self._is_item(by) else self.data.users

    def _ratings(self, by: str) -> tuple[np.ndarray, np.ndarray]:
        """(number, sum) of the training ratings of every known id, each of shape (ids,)."""
        rows, ratings = self.data.train.tensors[1 if self._is_item(by) else 0].cpu(), self.data.train.tensors[2].cpu()
        n = len(self._vocab(by))
        return np.bincount(rows, minlength=n)[1:], np.bincount(rows, weights=ratings, minlength=n)[1:]

    def _labels(self, by: str, places: np.ndarray) -> pd.DataFrame:
        """id, title (where known) and n_ratings of known ids by their place, 0 being the first."""
        table = pd.DataFrame({"id": self._vocab(by).decode(places + 1)})
        if by == "item" and (titles := self.data.titles(table["id"])) is not None:
            table["title"] = titles
        return table.assign(n_ratings=self._ratings(by)[0][places])

    def _meant(self, item: Hashable) -> Hashable:
        if not isinstance(item, str) or item in self.data.items:
            return item
        id, *others = self.data.find_items(item)
        if others:
            names = self.data.titles([id, *others[:3]]) or []
            warnings.warn(f"{item!r} is taken for {names[0]}; {len(others):,} others hold it too, such as "
                          f"{', '.join(names[1:])}", stacklevel=3)
        return id


def _scaled(weight: torch.Tensor, measure: Measure) -> torch.Tensor:
    """Rows divided by their length to the power that the measure asks for; rows of zeros stay."""
    if isinstance(measure, str) and measure not in ("cosine", "dot"):
        raise ValueError(f"measure {measure!r} is not 'cosine', 'dot' or a number alpha for dot / |v|^alpha")
    alpha = {"cosine": 1.0, "dot": 0.0}[measure] if isinstance(measure, str) else float(measure)
    return weight / weight.norm(dim=1, keepdim=True).clamp(min=1e-12) ** alpha


def _check_count(n: int) -> None:
    if not isinstance(n, Integral) or n < 1:
        raise ValueError(f"the number of rows must be a whole number, at least 1, got {n!r}")

"""CollabInterpretation: reads a trained learner, and never changes it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from numbers import Real

import numpy as np
import pandas as pd
import torch

from ..data.batches import TensorBatches
from ..data.frames import Table
from ..data.vocab import Vocab
from ..errors import warn
from ..evaluate.accuracy import ERRORS, errors
from ..learner.collab_learner import CollabLearner
from ..loaders import in_blocks
from ..numerics import products
from ..retrieval.topk import top_k
from . import maps
from .calibration import calibration, plot_calibration
from .charts import chart_map
from .coverage import coverage, plot_coverage
from .explanation import Explanation, explain
from .labels import check_count
from .pca import PCA
from .pictures import plot_biases, plot_counts, plot_cross, plot_map, plot_norms, plot_predictions
from .report import report

BLOCK = 2048        # rows of similarities that are held at a time
ROUNDING = 1e-6     # cosines are that exact in float32: those of equal rows are 0.9999999 or 1, as it happens
Measure = str | float


class CollabInterpretation:
    """What was learned, in tables. Made from a learner, also from one that `load_learner` gave.

    Tables have one row per id: `id`, `title` (of items, where known), `n_ratings` in the training part, and what was
    asked for. `by` is "item" or "user"; ids with fewer than `min_ratings` training ratings are left out. What a model
    does not learn (`EmbeddingDot` and `EmbeddingNet` have no biases) raises DataError, in one sentence."""

    def __init__(self, learn: CollabLearner):
        if not isinstance(learn, CollabLearner):
            raise TypeError(f"expected a CollabLearner, got {type(learn).__name__}")
        self.learn, self.data = learn, learn.data

    @classmethod
    def from_learner(cls, learn: CollabLearner) -> CollabInterpretation:
        """The interpretation of a learner, which is read anew by every call: after further training, as it is then."""
        return cls(learn)

    def errors(self, part: TensorBatches | pd.DataFrame | None = None, *,
               metrics: Sequence[str] = ERRORS) -> pd.DataFrame:
        """RMSE and MAE on `part` (batches or a table of ratings; by default the validation part), beside the mean
        rating and biases alone; or other `metrics`, of "rmse", "mae", "log_loss" and "coverage(0.9)": see
        `evaluate.errors`. Warns where biases alone have the lower RMSE, and says what to do."""
        return errors(self.learn, part, metrics=metrics)

    def biases(self, by: str = "item", n: int = 15, largest: bool = True, min_ratings: int = 0) -> pd.DataFrame:
        """The `n` largest (or smallest) biases: id, title, n_ratings, mean_rating, bias.

        The bias is what remains of an item's mean rating when the tastes of those who rated it are accounted for,
        in units of the model's score before the sigmoid, where it has one; of a
        `RatingClassifier` (see its `biases`) in ratings."""
        check_count(n=n)
        bias, counts = self.learn.bias(is_item=self._is_item(by)).numpy(), self._counts(by)
        chosen = np.flatnonzero(counts >= min_ratings)
        order = chosen[np.argsort(-bias[chosen] if largest else bias[chosen], kind="stable")][:n]
        sums = np.zeros(len(counts) + 1)
        for users, items, ratings in in_blocks(self.data.train):
            sums += np.bincount((items if by == "item" else users).cpu(), ratings.cpu(), len(sums))
        sums = sums[1:]
        means = np.where(counts > 0, sums / counts.clip(min=1), np.nan)
        return self._labels(by, order).assign(mean_rating=means[order], bias=bias[order])

    def norms(self, by: str = "item", min_ratings: int = 0) -> pd.DataFrame:
        """The length of every embedding beside its number of ratings, longest first: id, title, n_ratings, norm."""
        norm = self.learn.weight(is_item=self._is_item(by)).norm(dim=1).numpy()
        chosen = np.flatnonzero(self._counts(by) >= min_ratings)
        order = chosen[np.argsort(-norm[chosen], kind="stable")]
        return self._labels(by, order).assign(norm=norm[order])

    def pca(self, n_components: int = 3, by: str = "item", top: int | None = 1000, min_ratings: int = 0) -> PCA:
        """The principal components of the embeddings of the `top` most rated ids (None: of all)."""
        order = self._most_rated(by, top, min_ratings)
        weight = self.learn.weight(is_item=self._is_item(by)).numpy()[order]
        return PCA(weight, self._labels(by, order), n_components)

    def neighbors(self, item: Hashable, k: int = 6, measure: Measure = "cosine", by: str = "item",
                  min_ratings: int = 5) -> pd.DataFrame:
        """The `k` nearest: id, title, n_ratings, score, without the one that is asked about.

        `measure` is "cosine", "dot", or a number alpha for dot / |v|^alpha, v being the neighbour: 0 ranks like the
        dot product, which favours long (often popular) embeddings, and 1 like the cosine. `item` is an id or a title
        (see `Catalogue`; `data.find_item` finds one by a part of its title)."""
        check_count(k=k)
        row = self.data.catalogue[item] if self._is_item(by) else self.data.users[item]
        weight = self.learn.weight(is_item=self._is_item(by))
        scaled, query = _scaled(weight, measure), weight[row - 1]
        if measure == "cosine":
            query = torch.nn.functional.normalize(query, dim=0)
        chosen = torch.from_numpy(self._rated(by, min_ratings))
        chosen = chosen[chosen != row - 1]
        asked = torch.zeros(1, dtype=torch.int64)
        found, scores = top_k(lambda _, rows: products(query[None], scaled, rows), asked, chosen,
                              min(k, max(len(chosen), 1)))
        here = found[0] >= 0
        return self._labels(by, found[0][here].numpy()).assign(score=scores[0][here].numpy())

    def similar_pairs(self, threshold: float = 0.8, n: int = 100, by: str = "item",
                      min_ratings: int = 5) -> pd.DataFrame:
        """The `n` most similar pairs with a cosine of at least `threshold`, best first, equal ones by their places: id,
        title, other_id, other_title, score. Scores are rounded to 1e-6, which is how exact they are. Memory is that of
        a block of rows and of `n` pairs, never of all pairs."""
        check_count(n=n)
        chosen = self._rated(by, min_ratings)
        unit = torch.nn.functional.normalize(self.learn.weight(is_item=self._is_item(by))[chosen], dim=1)
        best, left, right = np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
        for i in range(0, len(unit), BLOCK):
            for j in range(i, len(unit), BLOCK):
                cosine = unit[i:i + BLOCK] @ unit[j:j + BLOCK].T
                if i == j:
                    cosine.masked_fill_(torch.ones_like(cosine, dtype=torch.bool).tril(), -torch.inf)
                floor = max(threshold, best[-1] if len(best) == n else -1.0)     # what would not stay is not kept
                a, b, scores = _at_least(cosine, floor, n)
                best, left, right = (np.concatenate(two) for two in ((best, scores), (left, a + i), (right, b + j)))
                order = np.lexsort((right, left, -best))[:n]
                best, left, right = best[order], left[order], right[order]
        one, other = (self._labels(by, chosen[rows]).drop(columns="n_ratings") for rows in (left, right))
        return pd.concat([one, other.add_prefix("other_")], axis=1).assign(score=best)

    def explain(self, user: Hashable, item: Hashable, n_factors: int = 5, n_nearest: int = 5) -> Explanation:
        """Why a user gets this score for an item (its id or title): the parts it is the sum of, and the user's own
        rated items that are nearest to it. See `Explanation`."""
        check_count(n_factors=n_factors, n_nearest=n_nearest)
        return explain(self.learn, user, item, n_factors, n_nearest)

    calibration = calibration
    coverage = coverage
    map = maps.map
    tsne = maps.tsne
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
    plot_coverage = plot_coverage

    # Inside ------------------------------------------------------------------------------------------------------

    def _is_item(self, by: str) -> bool:
        if by not in ("item", "user"):
            raise ValueError(f"by={by!r} is neither 'item' nor 'user'")
        return by == "item"

    def _vocab(self, by: str) -> Vocab:
        return self.data.items if self._is_item(by) else self.data.users

    def _counts(self, by: str) -> np.ndarray:
        """The number of training ratings of every known id."""
        return self.data.counts(by)[1:].numpy()

    def _most_rated(self, by: str, top: int | None, min_ratings: int) -> np.ndarray:
        """The places of the `top` most rated ids (None: all) that have at least `min_ratings`, the most rated first."""
        check_count(top=top)
        counts = self._counts(by)
        order = np.argsort(-counts, kind="stable")[:top]
        return order[counts[order] >= min_ratings]

    def _labels(self, by: str, places: np.ndarray) -> pd.DataFrame:
        """id, title (where known) and n_ratings of known ids by their place, 0 being the first."""
        table = pd.DataFrame({"id": self._vocab(by).decode(places + 1)})
        if by == "item" and (titles := self.data.titles(table["id"])) is not None:
            table = Table(table.assign(title=titles))
        return table.assign(n_ratings=self._counts(by)[places])

    def _rated(self, by: str, min_ratings: int) -> np.ndarray:
        """The places of the ids with at least `min_ratings` training ratings, ascending."""
        counts = self._counts(by)
        if not len(chosen := np.flatnonzero(counts >= min_ratings)):
            warn(f"no {by} has {min_ratings} training ratings, so that nothing is compared; min_ratings=0 compares all")
        return chosen


def _at_least(cosine: torch.Tensor, floor: float, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, columns, cosines) that are at least `floor`, when rounded; of more than `n` the best and all as good."""
    if cosine.max() < floor - ROUNDING:             # most blocks, and the quickest to find out
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    here = cosine >= floor - ROUNDING
    if int(here.count_nonzero()) > n:
        here = cosine >= cosine.flatten().topk(n).values[-1].item() - ROUNDING
    a, b = torch.nonzero(here, as_tuple=True)
    scores = cosine[a, b].double().numpy().round(6)
    keep = scores >= floor
    return a.numpy()[keep], b.numpy()[keep], scores[keep]


def _scaled(weight: torch.Tensor, measure: Measure) -> torch.Tensor:
    """Rows divided by their length to the power that the measure asks for; rows of zeros stay."""
    number = isinstance(measure, Real) and math.isfinite(measure)
    if not number and measure not in ("cosine", "dot"):
        raise ValueError(f"measure {measure!r} is not 'cosine', 'dot' or a number alpha for dot / |v|^alpha")
    alpha = {"cosine": 1.0, "dot": 0.0}[measure] if isinstance(measure, str) else float(measure)
    return weight / weight.norm(dim=1, keepdim=True).clamp(min=1e-12) ** alpha

"""Principal components of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import DataError
from ..plotting import LABEL, SCATTER, axes, head
from .glyphs import drawable
from .labels import check_count
from .placement import scatter_with_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PCA:
    """The principal components of n rows of factors, by the eigenvectors of their covariance (Pearson 1901), in
    float64 and in memory of n x n_factors. A component's sign makes its largest loading positive.

    `components` (n_components, n_factors), `explained_variance` and `explained_variance_ratio` (n_components,),
    `mean` (n_factors,), and `scores`, a frame with one row per id: id, title and n_ratings where known, then one
    column per component, named 0, 1 and so on. Raises ValueError for more components than factors, and
    DataError for fewer than two rows."""

    def __init__(self, weight: np.ndarray, labels: pd.DataFrame, n_components: int = 3):
        n, n_factors = weight.shape
        if not 1 <= n_components <= n_factors:
            raise ValueError(f"n_components must lie between 1 and the number of factors, {n_factors}, "
                             f"got {n_components}")
        if n < 2:
            raise DataError(f"principal components need at least two rows, got {n}; lower min_ratings or raise top")
        centred = weight.astype(np.float64)
        self.mean = centred.mean(0)
        centred -= self.mean
        variances, vectors = np.linalg.eigh(centred.T @ centred / (n - 1))
        order = np.argsort(-variances, kind="stable")[:n_components]
        components = vectors[:, order].T
        largest = np.abs(components).argmax(1)
        self.components = components * np.sign(components[np.arange(n_components), largest])[:, None]
        self.explained_variance = variances[order].clip(min=0)
        self.explained_variance_ratio = self.explained_variance / max(variances.clip(min=0).sum(), np.finfo(float).tiny)
        columns = pd.DataFrame(centred @ self.components.T, columns=range(n_components))
        self.scores = pd.concat([labels.reset_index(drop=True), columns], axis=1)

    def table(self, k: int = 0, n: int = 5) -> pd.DataFrame:
        """Both ends of component `k`: the `n` highest scores, then the `n` lowest, the lowest last; all rows if there
        are at most 2 n."""
        self._check(k)
        check_count(n=n)
        ranked = self.scores.iloc[np.argsort(-self.scores[k].to_numpy(), kind="stable")]
        ends = ranked if len(ranked) <= 2 * n else pd.concat([ranked.head(n), ranked.tail(n)])
        labels = [c for c in self.scores if not isinstance(c, int)]
        return ends[[*labels, k]].rename(columns={k: "score"}).reset_index(drop=True)

    def plot(self, x: int = 0, y: int = 1, *, ax: Axes | None = None, top: int | None = 100) -> Axes:
        """Draw a scatter of two components: the ends of each have labels, and others, the outermost first, where there
        is room. `top` takes the most rated only. Raises ValueError for a component that is not there."""
        self._check(x)
        self._check(y)
        check_count(top=top)
        ratio, shown = self.explained_variance_ratio, self.scores
        if top is not None:
            shown = shown.nlargest(top, "n_ratings")
        labels = drawable(shown, LABEL)
        places = shown[[x, y]].to_numpy() if x != y else shown[[x]].to_numpy().repeat(2, axis=1)
        spread = np.maximum(places.std(0), np.finfo(float).tiny)
        outermost = np.argsort(-np.linalg.norm((places - places.mean(0)) / spread, axis=1), kind="stable")
        ax = axes(ax, size=SCATTER)
        ax.set(xlabel=f"component {x} ({ratio[x]:.0%} of the variance)", ylabel=f"component {y} ({ratio[y]:.0%})")
        head(ax, f"Components {x} and {y} of " + (f"the {len(shown):,} most rated" if len(shown) < len(self.scores)
                                                  else f"{len(shown):,} embeddings"))
        scatter_with_labels(ax, places[:, 0], places[:, 1], labels, order=outermost.tolist())
        return ax

    def _check(self, k: int) -> None:
        if k not in range(len(self.components)):
            raise ValueError(f"component {k} is not there: they are 0 to {len(self.components) - 1}")

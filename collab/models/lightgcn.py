"""LightGCN: factors that are smoothed over the graph of who chose what."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.interactions import Interactions
from ..numerics import products, rows_at, sparse_product
from ..ragged import Ragged
from .base import SIDES, CollabModel, Scorer, Side
from .dot_form import DotForm
from .kept_rows import KeptRows
from .layers import embedding


class LightGCN(CollabModel):
    """score = x_u . z_i (He et al. 2020, "LightGCN", eqs. 3, 4 and 6), each the mean over layers 0 to `n_layers` of

        x_u^(k+1) = sum_{i in N(u)} z_i^(k) / sqrt(|N(u)| |N(i)|)
        z_i^(k+1) = sum_{u in N(i)} x_u^(k) / sqrt(|N(i)| |N(u)|)

    where x^(0) and z^(0) are the embeddings `u_weight` (n_users, n_factors) and `i_weight`, the only parameters, and N
    holds each pair of the training part once. Row 0 and rows without interactions have the mean of the others.

    One batch multiplies the whole interaction matrix 2 `n_layers` times: use large batches. After training x and z are
    constant: `factors` gives them as tables."""

    ranks = True
    default_loss = "bpr"
    unknown_row = True          # no embedding stands for it: see `_smoothed`
    multiplies_all = True

    def __init__(self, n_factors: int, n_users: int, n_items: int, n_layers: int = 2, init_std: float = 0.1):
        super().__init__()
        if n_layers < 0:
            raise ValueError(f"n_layers must be at least 0, got {n_layers!r}")
        self.n_layers = n_layers
        self.u_weight, self.i_weight = embedding(n_users, n_factors, init_std), embedding(n_items, n_factors, init_std)
        self.by_user, self.by_item = KeptRows(), KeptRows()
        self.set_interactions(Interactions.of(None, n_users, n_items))

    def set_interactions(self, interactions: Interactions) -> None:
        """Keep the graph: for each side who its neighbours are, with the weight 1 / sqrt(|N(u)| |N(i)|)."""
        n_users, n_items = self.u_weight.num_embeddings, self.i_weight.num_embeddings
        users, items = (t.to(self.u_weight.weight.device) for t in interactions[:2])
        pairs = Ragged.unique(users, items, None, n_users, n_items)
        degrees = pairs.counts[pairs.rows] * torch.bincount(pairs.columns, minlength=n_items)[pairs.columns]
        graph = Ragged(pairs.starts, pairs.columns, degrees.to(self.u_weight.weight).rsqrt())
        self.by_user.keep(graph)
        self.by_item.keep(graph.transposed(n_items))

    def id_tables(self) -> dict[Side, list[Tensor]]:
        return {}

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        x, z = self._smoothed()
        return (rows_at(x, users) * rows_at(z, items)).sum(1)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return self.scorer()(users, items)

    def scorer(self) -> Scorer:
        """The layers are computed here, and only once."""
        x, z = self._smoothed()
        return lambda users, items: products(rows_at(x, users), rows_at(z, items))

    def factors(self, side: Side) -> Tensor:
        """x of every user, or z of every item."""
        return self._smoothed()[SIDES.index(side)]

    @torch.no_grad()
    def dot_form(self) -> DotForm:
        return DotForm(*self._smoothed())

    def _smoothed(self) -> tuple[Tensor, Tensor]:
        """x (n_users, n_factors) and z (n_items, n_factors)."""
        x, z = self.u_weight.weight, self.i_weight.weight
        by_user, by_item = self.by_user.rows.csr(len(z), x.dtype), self.by_item.rows.csr(len(x), x.dtype)
        users, items = x, z
        for _ in range(self.n_layers):
            x, z = sparse_product(by_user, by_item, z), sparse_product(by_item, by_user, x)
            users, items = users + x, items + z
        return self._filled(users, self.by_user), self._filled(items, self.by_item)

    def _filled(self, table: Tensor, neighbours: KeptRows) -> Tensor:
        """The mean of the layers, and in rows without neighbours the mean of the others."""
        known = neighbours.rows.counts > 0
        average = table[known].mean(0) if known.any() else torch.zeros_like(table[0])
        return torch.where(known[:, None], table, average) / (self.n_layers + 1)

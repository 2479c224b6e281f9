"""TwoTower: a query encoder and a candidate encoder, whose product is the score."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..numerics import products
from .base import CollabModel, Side
from .dot_form import DotForm
from .hybrid import Known, Size, metadata
from .layers import embedding


class Tower(nn.Module):
    """Rows (n,) -> vectors (n, n_factors): the embedding of the id plus that of its metadata, through a ReLU network
    with the sizes `hidden` where there is one, scaled to length 1 if `normalise`."""

    def __init__(self, n_factors: int, n_rows: int, known: Known | Size | None, hidden: Sequence[int], normalise: bool,
                 init_std: float):
        super().__init__()
        width = hidden[0] if hidden else n_factors
        self.ids, self.meta, self.normalise = embedding(n_rows, width, init_std), metadata(known, width), normalise
        sizes, layers = [*hidden, n_factors], list[nn.Module]()
        for n_in, n_out in pairwise(sizes):
            layers += [nn.ReLU(), nn.Linear(n_in, n_out)]
        self.layers = nn.Sequential(*layers)

    def forward(self, rows: Tensor) -> Tensor:
        x = self.ids(rows)
        if self.meta is not None:
            x = x + self.meta(rows)
        x = self.layers(x)
        return F.normalize(x, dim=1) if self.normalise else x


class TwoTower(CollabModel):
    """score = q(user) . c(item) (Covington et al. 2016; Yi et al. 2019): both encoders read an id and metadata.

    - `users`, `items`: (codes, weights, number of features) of `Features`, or None for a side of ids alone.
    - `hidden`: the sizes of each tower's layers: the first is that of the embeddings, `n_factors` comes after the last.
      By default the embeddings are the vectors, as in LightFM (Kula 2015).
    - `normalise`: the score is a cosine; train it with a temperature of about 0.05 to 0.1.

    `factors` are the encoded sides: a user's best items are the nearest rows of one table, which is all that serving
    needs. Cold ids have the average id embedding and their own metadata."""

    default_loss = "softmax"

    def __init__(self, n_factors: int, n_users: int, n_items: int, users: Known | Size | None = None,
                 items: Known | Size | None = None, hidden: Sequence[int] = (), normalise: bool = False,
                 init_std: float = 0.05):
        super().__init__()
        self.query = Tower(n_factors, n_users, users, hidden, normalise, init_std)
        self.candidate = Tower(n_factors, n_items, items, hidden, normalise, init_std)
        sizes = [tower.meta and tower.meta.size for tower in (self.query, self.candidate)]
        self.config |= {"users": sizes[0], "items": sizes[1]}

    def id_tables(self) -> dict[Side, list[Tensor]]:
        """The embeddings of ids; those of metadata have one row per feature."""
        return {"user": [self.query.ids.weight], "item": [self.candidate.ids.weight]}

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.query(users) * self.candidate(items)).sum(1)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return products(self.query(users), self.candidate(items))

    def factors(self, side: Side) -> Tensor:
        """The encoded users or items."""
        tower = self.query if side == "user" else self.candidate
        return tower(torch.arange(tower.ids.num_embeddings, device=tower.ids.weight.device))

    @torch.no_grad()
    def dot_form(self) -> DotForm:
        return DotForm(self.factors("user"), self.factors("item"), unit=self.query.normalise)

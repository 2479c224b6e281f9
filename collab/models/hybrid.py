"""HybridNet: SVD++ on ids and metadata."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .dot_form import DotForm
from .layers import Range, embedding, sigmoid_range
from .svdpp import Half, SVDpp

Known = tuple[Tensor, Tensor, int]      # codes, weights and the number of features: see collab.data.features.Features
Size = tuple[int, int, int]             # rows, codes per row, features
MAX_CELLS = 1 << 22                     # in a dense block of rows x features


class Metadata(nn.Module):
    """The weighted sum of the embeddings of a row's features, shape (n, n_out): a category adds its embedding, a bag
    the mean of its embeddings, a number its embedding times the number, a missing value nothing. The encoded features
    are buffers.

    Rows are made dense in blocks of at most MAX_CELLS; training keeps those of its batch."""

    codes: Tensor
    weights: Tensor

    def __init__(self, size: Size, n_out: int):
        super().__init__()
        rows, width, n_features = self.size = size
        self.table = embedding(n_features, n_out)
        self.register_buffer("codes", torch.zeros(rows, width, dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(rows, width))

    def forward(self, rows: Tensor) -> Tensor:
        n = self.table.num_embeddings
        dense = (self.weights.new_zeros(len(some), n).scatter_add_(1, self.codes[some], self.weights[some])
                 for some in rows.split(max(1, MAX_CELLS // n)))
        return torch.cat([part @ self.table.weight for part in dense])      # its gradient is cheaper than a gather's


class HybridNet(SVDpp):
    """SVD++ whose factors and biases are sums over an id and its metadata, in the manner of factorisation machines
    (Rendle 2010; LightFM: Kula 2015), plus a network over both sides' factors where there are `hidden` layers:

        x_u = p_u + |N(u)|^-1/2 sum_j y_j + sum_{f of u} a_f,   b_u = bias_u + sum_{f of u} c_f,   items alike
        score = range(mu + b_u + b_i + x_u . z_i + net([x_u, z_i]))

    A cold item, without ratings but with metadata, has the id of row 0, no history, and its own metadata; `id_drop`
    trains for that. `users` and `items` are (codes, weights, number of features) of `Features`, or None for a side
    without. `history`: whether to use the interactions beyond knowing which rows have none."""

    def __init__(self, n_factors: int, n_users: int, n_items: int, interactions: tuple[Tensor, ...] | None = None,
                 users: Known | Size | None = None, items: Known | Size | None = None, hidden: Sequence[int] = (),
                 drop: float = 0.3, id_drop: float = 0.02, history: bool = True, y_range: Range | None = None,
                 mean: float | None = None):
        super().__init__(n_factors, n_users, n_items, interactions, y_range, mean, drop, id_drop, history)
        self.u_meta, self.i_meta = metadata(users, n_factors + 1), metadata(items, n_factors + 1)
        self.config |= {"users": self.u_meta and self.u_meta.size, "items": self.i_meta and self.i_meta.size}
        layers: list[nn.Module] = []
        for n_in, n_out in zip([2 * n_factors, *hidden], hidden):
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(drop)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], 1)) if hidden else None

    def side(self, side: str, rows: Tensor, own: Tensor | None = None, sums: Tensor | None = None) -> Half:
        x, bias = super().side(side, rows, own, sums)
        meta = self.u_meta if side == "u" else self.i_meta
        if meta is None:
            return x, bias
        known = meta(rows)
        return x + known[:, :-1], bias + known[:, -1]

    def score(self, user: Half, item: Half) -> Tensor:
        if self.layers is None:
            return super().score(user, item)
        (x, b_u), (z, b_i), mu = self._with_shared(user, item)
        score = self.drop(x * z).sum(1) + b_u + b_i + mu
        return sigmoid_range(score + self.onto_score(self.layers, torch.cat([x, z], 1), self.y_range), self.y_range)

    def dot_form(self) -> DotForm | None:
        return super().dot_form() if self.layers is None else None

    def cross_score(self, user: Half, item: Half) -> Tensor:
        if self.layers is None:
            return super().cross_score(user, item)
        n = len(item[0])
        scores = [self.score((x.expand(n, -1), bias.expand(n)), item) for x, bias in zip(*user)]
        return torch.stack(scores) if scores else item[0].new_empty(0, n)


def metadata(known: Known | Size | None, n_out: int) -> Metadata | None:
    """The `Metadata` of features, or of their size alone, for values that are loaded later; None for None."""
    if known is None:
        return None
    codes, weights, n = known
    if not isinstance(codes, Tensor) or not isinstance(weights, Tensor):
        return Metadata((int(codes), int(weights), n), n_out)
    meta = Metadata((codes.shape[0], codes.shape[1], n), n_out)
    meta.codes, meta.weights = codes.clone(), weights.clone()      # loading other weights writes into them
    return meta

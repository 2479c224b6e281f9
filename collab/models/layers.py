"""Parts of models: embedding tables, their products, the sigmoid onto a range."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..numerics import entries_at, run_of
from ..sharded_rows import ShardedRows, drawn_rows, in_shards

Range = tuple[float, float]
LARGE = 1 << 14     # smaller batches always gather the rows of their pairs


def embedding(n: int, size: int, std: float = 0.01) -> nn.Embedding:
    """An embedding table of shape (n, size), drawn from a normal distribution truncated at two deviations; see
    `sharded_tables` for one that is never whole."""
    if in_shards():
        table = nn.Embedding(n, size, device="meta")
        table.weight = drawn_rows(n, size, std)
        return table
    table = nn.Embedding(n, size)
    nn.init.trunc_normal_(table.weight, std=std, a=-2 * std, b=2 * std)
    return table


def dots(u: nn.Embedding, v: nn.Embedding, users: Tensor, items: Tensor) -> Tensor:
    """u_users . v_items of each pair, shape (bs,).

    Where all n_users x n_items scores take less room than the factors of a large batch, such as a full batch of dense
    ratings, they come from one product of matrices, which is many times faster than gathering rows and adding up their
    gradients. Both ways agree to rounding."""
    if (len(users) >= LARGE and u.num_embeddings * v.num_embeddings <= 2 * u.embedding_dim * len(users)
            and not isinstance(u.weight, ShardedRows)):
        return entries_at(u.weight @ v.weight.T, users, items)
    return (u(users) * v(items)).sum(1)


def rows_of(table: nn.Embedding, rows: Tensor) -> Tensor:
    """table(rows), without a copy where the rows are consecutive, as all items are."""
    run = run_of(rows)
    return table(rows) if run is None else table.weight[run]


def sigmoid_range(x: Tensor, y_range: Range | None) -> Tensor:
    """Squash x into the open interval y_range; None leaves it unchanged."""
    if y_range is None:
        return x
    low, high = y_range
    s = torch.sigmoid(x)        # in place without gradients: a table of all scores is large
    return s * (high - low) + low if s.requires_grad else s.mul_(high - low).add_(low)


def inverse_sigmoid_range(y: float, y_range: Range | None) -> float:
    """The x for which sigmoid_range(x, y_range) is y, which must lie inside the range."""
    if y_range is None:
        return y
    low, high = y_range
    if not low < y < high:
        raise ValueError(f"{y} does not lie inside y_range {y_range}")
    return math.log((y - low) / (high - y))


def without_gradient(term: Tensor) -> Tensor:
    """The term, with a gradient of exactly 0; unlike `detach`, which leaves none, so that steps are counted."""
    return term.detach() + 0.0 * term


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation (Ioffe and Szegedy 2015). A training batch of a single row, which has no variance, is
    normalised by the running statistics, and leaves them unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)

"""Factor models of a rating: two embeddings, multiplied or fed to a small network.

Every model takes two int64 tensors of rows, `users` and `items`, each of shape (bs,), and returns scores of
shape (bs,), for any bs from 1 up; `config` holds the arguments that build the model again. Where the score is
a product, `cross(users, items)` scores every pair of two such tensors at once: (len(users), len(items)), without
gradients in float64 (see `products`)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..numerics import MAX_NUMBERS, entries_at, products

Range = tuple[float, float]
LARGE = 1 << 14     # smaller batches always gather the rows of their pairs
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU,
    "mish": nn.Mish, "softplus": nn.Softplus, "hardswish": nn.Hardswish, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def embedding(n: int, size: int, std: float = 0.01) -> nn.Embedding:
    """An embedding table of shape (n, size), drawn from a normal distribution cut off at two deviations."""
    table = nn.Embedding(n, size)
    nn.init.trunc_normal_(table.weight, std=std, a=-2 * std, b=2 * std)
    return table


def dots(u: nn.Embedding, v: nn.Embedding, users: Tensor, items: Tensor) -> Tensor:
    """u_users . v_items of each pair, shape (bs,).

    A batch so large that all n_users x n_items scores take less room than its factors, such as a full batch of ratings
    that are not too sparse, takes its scores from all of them: one product of matrices is many times faster than
    gathering rows and adding up their gradients. Both ways agree to rounding."""
    if len(users) >= LARGE and u.num_embeddings * v.num_embeddings <= 2 * u.embedding_dim * len(users):
        return entries_at(u.weight @ v.weight.T, users, items)
    return (u(users) * v(items)).sum(1)


def rows_of(table: nn.Embedding, rows: Tensor) -> Tensor:
    """table(rows), without a copy where the rows are consecutive: all items, in most cases."""
    first, n = (int(rows[0]), len(rows)) if len(rows) else (0, 0)
    run = torch.arange(first, first + n, device=rows.device)
    return table.weight[first:first + n] if n and torch.equal(rows, run) else table(rows)


def sigmoid_range(x: Tensor, y_range: Range | None) -> Tensor:
    """Squash x into the open interval y_range; None leaves it as it is."""
    if y_range is None:
        return x
    low, high = y_range
    s = torch.sigmoid(x)        # without gradients in place: a table of all scores is large
    return s * (high - low) + low if s.requires_grad else s.mul_(high - low).add_(low)


def inverse_sigmoid_range(y: float, y_range: Range | None) -> float:
    """The x for which sigmoid_range(x, y_range) is y, which must lie inside the range."""
    if y_range is None:
        return y
    low, high = y_range
    if not low < y < high:
        raise ValueError(f"{y} does not lie inside y_range {y_range}")
    return math.log((y - low) / (high - y))


class EmbeddingDot(nn.Module):
    """score = p_u . q_i  (Koren, Bell, Volinsky 2009, eq. 1). `u_weight` (n_users, n_factors), `i_weight` alike.

    `init_std` is the deviation of the normal distribution (cut off at two of them) that both begin with."""

    def __init__(self, n_factors: int, n_users: int, n_items: int, init_std: float = 0.01):
        super().__init__()
        self.config: dict[str, Any] = {"n_factors": n_factors, "n_users": n_users, "n_items": n_items,
                                       "init_std": init_std}
        self.u_weight = embedding(n_users, n_factors, init_std)
        self.i_weight = embedding(n_items, n_factors, init_std)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return dots(self.u_weight, self.i_weight, users, items)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return products(self.u_weight(users), rows_of(self.i_weight, items))


class EmbeddingDotBias(nn.Module):
    """score = range(mu + b_u + b_i + p_u . q_i)  (Koren, Bell, Volinsky 2009, eq. 4), range a sigmoid onto y_range.

    `mean` sets where mu starts: at the mean rating, so that the biases are deviations from it and weight decay
    pulls a score towards the mean, not towards the middle of the range. Without it mu starts at 0. `init_std` is the
    deviation that the factors begin with; that of the biases is 0.01. With `unknown_row`, row 0 and the rows of cold
    ids are its own, as they are in a model that `fold` made of others, and no averages of the rest.
    `u_weight`, `i_weight`, `u_bias`, `i_bias` are embeddings; `mu` is a scalar parameter."""

    def __init__(self, n_factors: int, n_users: int, n_items: int, y_range: Range | None = None,
                 mean: float | None = None, init_std: float = 0.01, unknown_row: bool = False):
        super().__init__()
        self.config: dict[str, Any] = {"n_factors": n_factors, "n_users": n_users, "n_items": n_items,
                                       "y_range": y_range, "mean": mean, "init_std": init_std,
                                       "unknown_row": unknown_row}
        self.y_range, self.unknown_row = y_range, unknown_row
        self.u_weight, self.u_bias = embedding(n_users, n_factors, init_std), embedding(n_users, 1)
        self.i_weight, self.i_bias = embedding(n_items, n_factors, init_std), embedding(n_items, 1)
        self.mu = nn.Parameter(torch.tensor(0.0 if mean is None else inverse_sigmoid_range(mean, y_range)))

    def param_groups(self) -> list[dict[str, Any]]:
        """Factors, which get all of the weight decay, and biases, which get none of it."""
        return [{"name": "factors", "params": [self.u_weight.weight, self.i_weight.weight]},
                {"name": "biases", "params": [self.u_bias.weight, self.i_bias.weight, self.mu], "decay": 0.0}]

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        dot = dots(self.u_weight, self.i_weight, users, items)
        score = dot + self.u_bias(users).squeeze(1) + self.i_bias(items).squeeze(1) + self.mu
        return sigmoid_range(score, self.y_range)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        dot = products(self.u_weight(users), rows_of(self.i_weight, items))
        dot += self.u_bias(users)           # in place: with many items a table of scores is large
        dot += rows_of(self.i_bias, items).T
        dot += self.mu
        return sigmoid_range(dot, self.y_range)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation (Ioffe and Szegedy 2015). A training batch of a single row, which has no variance, is
    normalised by the running statistics, and leaves them as they are."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class EmbeddingNet(nn.Module):
    """Concatenated embeddings through a network: for each size in `hidden` a linear layer, batch normalisation if
    `batch_norm`, an activation and dropout, then a linear layer onto the score and a sigmoid onto y_range.

    `emb_drop` is the dropout on the embeddings. `drop` is that after the hidden layers: one number for all,
    or one for each. `activation` is one of the names in ACTIVATIONS, or a class of modules; one with a class of your
    own is passed to `load_learner`. `init_std` is the deviation that the embeddings begin with.
    Raises ValueError where the number of `drop`s differs from that of the layers, or for another activation."""

    def __init__(self, n_factors: int, n_users: int, n_items: int, hidden: Sequence[int] = (10,),
                 emb_drop: float = 0.05, drop: float | Sequence[float] = 0.5, y_range: Range | None = None,
                 activation: str | type[nn.Module] = "relu", batch_norm: bool = False, init_std: float = 0.01):
        super().__init__()
        name, made = _activation(activation)
        drops = [drop] * len(hidden) if isinstance(drop, (int, float)) else list(drop)
        if len(drops) != len(hidden):
            raise ValueError(f"drop has {len(drops)} numbers for {len(hidden)} hidden layers: {drop} and {hidden}")
        self.config: dict[str, Any] = {"n_factors": n_factors, "n_users": n_users, "n_items": n_items,
                                       "hidden": list(hidden), "emb_drop": emb_drop, "drop": drops, "y_range": y_range,
                                       "activation": name, "batch_norm": batch_norm, "init_std": init_std}
        self.y_range = y_range
        self.u_weight, self.i_weight = (embedding(n, n_factors, init_std) for n in (n_users, n_items))
        self.emb_drop = nn.Dropout(emb_drop)
        sizes = [2 * n_factors, *hidden]
        layers: list[nn.Module] = []
        for n_in, n_out, p in zip(sizes, sizes[1:], drops):
            layers += [nn.Linear(n_in, n_out), *([BatchNorm(n_out)] if batch_norm else []), made(), nn.Dropout(p)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def param_groups(self) -> list[dict[str, Any]]:
        """Factors, and the dense layers behind them."""
        return [{"name": "factors", "params": [self.u_weight.weight, self.i_weight.weight]},
                {"name": "dense", "params": list(self.layers.parameters())}]

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        x = self.emb_drop(torch.cat([self.u_weight(users), self.i_weight(items)], dim=1))
        return sigmoid_range(self.layers(x).squeeze(1), self.y_range)

    def crossing(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(users (m,), items (n,)) -> scores (m, n) without dropout, float64, with the layers of now. The first layer
        is a sum over both sides, of which each is computed once a row."""
        layers: Any = copy.deepcopy(self.layers).double().eval()
        first, rest, width = layers[0], layers[1:], self.u_weight.embedding_dim

        @torch.no_grad()
        def scores(users: Tensor, items: Tensor) -> Tensor:
            u = products(self.u_weight(users), first.weight[:, :width]) + first.bias
            parts = [u.new_empty(len(users), 0)]
            for some in items.split(max(1, MAX_NUMBERS // max(1, u.numel()))):
                i = products(self.i_weight(some), first.weight[:, width:])
                parts.append(rest((u[:, None] + i).flatten(0, 1)).view(len(users), len(some)))
            return sigmoid_range(torch.cat(parts, 1), self.y_range)
        return scores


def _activation(given: str | type[nn.Module]) -> tuple[str, type[nn.Module]]:
    """(name, class) of an activation: one of ours, or a class of modules under its own name."""
    for name, made in ACTIVATIONS.items():
        if given in (name, made):
            return name, made
    if isinstance(given, type) and issubclass(given, nn.Module):
        return given.__name__, given
    raise ValueError(f"activation {given!r} is not one of {', '.join(ACTIVATIONS)}, nor a class of modules; a learner "
                     "exported with a class of your own is loaded with load_learner(path, model=EmbeddingNet(...))")

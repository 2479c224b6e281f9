"""EmbeddingNet: the embeddings of a user and an item through a network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..numerics import MAX_NUMBERS, products
from .base import CollabModel, Group, Scorer, Side, named_tables
from .layers import BatchNorm, Range, embedding, sigmoid_range

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU,
    "mish": nn.Mish, "softplus": nn.Softplus, "hardswish": nn.Hardswish, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class EmbeddingNet(CollabModel):
    """Concatenated embeddings through a network: for each size in `hidden` a linear layer, batch normalisation if
    `batch_norm`, an activation and dropout, then a linear layer onto the score and a sigmoid onto y_range.

    `emb_drop` is the dropout on the embeddings. `drop` is that after the hidden layers: one number for all,
    or one for each. `activation` is a name in ACTIVATIONS or an nn.Module class; a model with a class of your own has
    to be passed to `load_learner`. `init_std` is the initial deviation of the embeddings.
    Raises ValueError where the number of `drop`s differs from that of the layers, or for another activation."""

    def __init__(self, n_factors: int, n_users: int, n_items: int, hidden: int | Sequence[int] = (10,),
                 emb_drop: float = 0.05, drop: float | Sequence[float] = 0.5, y_range: Range | None = None,
                 activation: str | type[nn.Module] = "relu", batch_norm: bool = False, init_std: float = 0.01):
        super().__init__()
        name, made = _activation(activation)
        hidden = [hidden] if isinstance(hidden, int) else list(hidden)
        drops = [drop] * len(hidden) if isinstance(drop, (int, float)) else list(drop)
        if len(drops) != len(hidden):
            raise ValueError(f"drop has {len(drops)} numbers for {len(hidden)} hidden layers: {drop} and {hidden}")
        self.config |= {"hidden": list(hidden), "drop": drops, "activation": name}
        self.y_range = y_range
        self.u_weight, self.i_weight = (embedding(n, n_factors, init_std) for n in (n_users, n_items))
        self.emb_drop = nn.Dropout(emb_drop)
        sizes = [2 * n_factors, *hidden]
        layers: list[nn.Module] = []
        for n_in, n_out, p in zip(sizes, sizes[1:], drops):
            layers += [nn.Linear(n_in, n_out), *([BatchNorm(n_out)] if batch_norm else []), made(), nn.Dropout(p)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def id_tables(self) -> dict[Side, list[Tensor]]:
        return named_tables(self, "weight")

    def param_groups(self) -> list[Group]:
        """Factors, and the dense layers behind them."""
        return [{"name": "factors", "params": [self.u_weight.weight, self.i_weight.weight]},
                {"name": "dense", "params": list(self.layers.parameters())}]

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        x = self.emb_drop(torch.cat([self.u_weight(users), self.i_weight(items)], dim=1))
        return sigmoid_range(self.onto_score(self.layers, x, self.y_range), self.y_range)

    def scorer(self) -> Scorer:
        """(users (m,), items (n,)) -> scores (m, n), float64, without dropout, with a copy of the layers. The first
        layer is a sum over both sides, each of which is computed once per row."""
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
    """(name, class) of an activation: one of ACTIVATIONS, or an nn.Module class under its own name."""
    for name, made in ACTIVATIONS.items():
        if given in (name, made):
            return name, made
    if isinstance(given, type) and issubclass(given, nn.Module):
        return given.__name__, given
    raise ValueError(f"activation {given!r} is not one of {', '.join(ACTIVATIONS)}, nor an nn.Module class; load a "
                     "learner exported with a class of your own with load_learner(path, model=EmbeddingNet(...))")

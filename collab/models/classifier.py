"""Ratings as classes: a softmax over the distinct ratings.

Rows (users, items), int64 of shape (bs,), give logits (bs, C), one per level; `to_scores` makes them expected ratings
(bs,)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..numerics import products
from .base import CollabModel, Group, Side, named_tables
from .layers import embedding


class RatingClassifier(CollabModel):
    """P(rating = levels[c] | u, i) = softmax_c(a_c + z_c (s_u + s_i) + b_u,c + b_i,c + w_c . (p_u * q_i)), the softmax
    over ratings of restricted Boltzmann machines (Salakhutdinov, Mnih, Hinton 2007) on products of factors.

    `levels` are the C distinct ratings, ascending. `u_weight`, `i_weight` (k factors) and `u_bias`, `i_bias` (C biases)
    and `u_shift`, `i_shift` (1) are embeddings, `class_bias` a (C,) and `class_weight` w (C, k) parameters. z_c lies
    along the scale, from -2 for the lowest level to 2 for the highest, so that a shift, which has no weight decay,
    moves all ratings up or down, and the biases hold what is particular to a level. w_c starts as z_c for every factor:
    a factor begins as a taste for high or low ratings.
    `counts` (C,) are the numbers of training ratings on each level: the softmax starts at their shares, or without them
    at equal ones. `drop` is the dropout on the products p_u * q_i.
    Raises ValueError for fewer than two levels, levels that do not ascend, or counts that are not one positive number
    per level."""

    classes = True
    default_loss = "cross_entropy"
    levels: Tensor
    z: Tensor

    def __init__(self, n_factors: int, n_users: int, n_items: int, levels: Sequence[float],
                 counts: Sequence[float] | None = None, drop: float = 0.0):
        super().__init__()
        levels = tuple(map(float, levels))
        if len(levels) < 2 or any(low >= high for low, high in pairwise(levels)):
            raise ValueError(f"levels must be at least two ratings, ascending, got {levels}")
        counts = tuple(map(float, [1.0] * len(levels) if counts is None else counts))
        if len(counts) != len(levels) or min(counts) <= 0:
            raise ValueError(f"counts must be {len(levels)} positive numbers, one per level, got {counts}")
        self.config |= {"levels": levels, "counts": counts}
        self.register_buffer("levels", torch.tensor(levels))
        self.u_weight, self.u_bias = embedding(n_users, n_factors), embedding(n_users, len(levels))
        self.i_weight, self.i_bias = embedding(n_items, n_factors), embedding(n_items, len(levels))
        self.u_shift, self.i_shift = embedding(n_users, 1), embedding(n_items, 1)
        self.drop = nn.Dropout(drop)
        self.class_bias = nn.Parameter(torch.tensor(counts).log() - torch.tensor(counts).mean().log())
        self.register_buffer("z", 4 * (self.levels - levels[0]) / (levels[-1] - levels[0]) - 2, persistent=False)
        self.class_weight = nn.Parameter(self.z[:, None].repeat(1, n_factors))

    def id_tables(self) -> dict[Side, list[Tensor]]:
        return named_tables(self, "weight", "bias", "shift")

    def param_groups(self) -> list[Group]:
        """Factors with all of the weight decay, biases with a fifth of it, and parameters without any."""
        return [{"name": "factors", "params": [self.u_weight.weight, self.i_weight.weight]},
                {"name": "biases", "params": [self.u_bias.weight, self.i_bias.weight], "decay": 0.2},
                {"name": "shifts", "params": [self.u_shift.weight, self.i_shift.weight, self.class_bias,
                                              self.class_weight], "decay": 0.0}]

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        product = self.drop(self.u_weight(users) * self.i_weight(items))
        return product @ self.class_weight.T + self._biases(users, False) + self._biases(items, True) + self.class_bias

    def to_scores(self, output: Tensor) -> Tensor:
        """The mean rating under logits (..., C): sum over c of levels[c] P(c), shape (...)."""
        return output.float().softmax(-1) @ self.levels

    def rating_levels(self) -> Tensor:
        return self.levels

    def probabilities(self, users: Tensor, items: Tensor) -> Tensor:
        """P(level) of each pair: (bs, C)."""
        return self(users, items).softmax(1)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        """The expected rating of every pair, (len(users), len(items)): one matrix product per class, and a softmax
        that is accumulated class by class, so that memory does not grow with factors or classes."""
        p, q = self.u_weight(users), self.i_weight(items)
        u_bias, i_bias = self._biases(users, False) + self.class_bias, self._biases(items, True)
        logits = (products(p * w, q) + u_bias[:, c:c + 1] + i_bias[:, c] for c, w in enumerate(self.class_weight))
        top = next(logits)
        total, weighted = torch.ones_like(top), self.levels[0].expand_as(top)
        for level, logit in zip(self.levels[1:], logits):
            higher = torch.maximum(top, logit)
            old, new = (top - higher).exp(), (logit - higher).exp()
            total, weighted, top = total * old + new, weighted * old + level * new, higher
        return weighted / total

    def biases(self, side: Side) -> Tensor:
        """The effect of the biases and the shift of a row on the expected rating, (rows,), in ratings: that of the row
        less that of the average row (row 0), for the average of the other side, factors aside."""
        is_item = side == "item"
        rows = torch.arange((self.i_bias if is_item else self.u_bias).num_embeddings, device=self.levels.device)
        expected = self.to_scores(self.class_bias + self._biases(rows[:1], not is_item) + self._biases(rows, is_item))
        return expected - expected[0]

    def _biases(self, rows: Tensor, is_item: bool) -> Tensor:
        """b_c + z_c s of each row: (n, C)."""
        bias, shift = (self.i_bias, self.i_shift) if is_item else (self.u_bias, self.u_shift)
        return bias(rows) + shift(rows) * self.z

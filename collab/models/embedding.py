"""Dot models: the score is the product of a user's and an item's factors, with biases or without.

A model takes two int64 tensors of rows, `users` and `items`, each of shape (bs,), and returns scores of shape (bs,),
for any bs from 1 up. `cross(users, items)` scores every pair of two such tensors at once: (len(users), len(items)),
without gradients in float64 (see `numerics.products`)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..compiled import DotTables
from ..data.interactions import Interactions
from ..moved import keeps_old_names
from ..numerics import products
from .base import NO_USERS, SIDES, CollabModel, Group, Scorer, Side, named_tables
from .dot_form import DotForm, TableScorer
from .layers import Range, dots, embedding, inverse_sigmoid_range, rows_of, sigmoid_range

SET = {"forward", "scorer", "dot_form", "factors", "biases", "cross"}
"""Methods that somebody may set on a model."""


class EmbeddingDot(CollabModel):
    """score = p_u . q_i  (Koren, Bell, Volinsky 2009, eq. 1). `u_weight` (n_users, n_factors), `i_weight` alike.

    `init_std` is the initial deviation of both (normal, truncated at two deviations)."""

    reads_tables = True

    def __init__(self, n_factors: int, n_users: int, n_items: int, init_std: float = 0.01):
        super().__init__()
        self.u_weight = embedding(n_users, n_factors, init_std)
        self.i_weight = embedding(n_items, n_factors, init_std)

    def id_tables(self) -> dict[Side, list[Tensor]]:
        return named_tables(self, "weight")

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return dots(self.u_weight, self.i_weight, users, items)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return products(self.u_weight(users), rows_of(self.i_weight, items))

    def scorer(self) -> Scorer:
        return table_scorer(self)

    def dot_form(self) -> DotForm:
        return DotForm(self.factors("user").detach(), self.factors("item").detach())

    def dot_tables(self) -> DotTables | None:
        return DotTables(self.u_weight.weight, self.i_weight.weight) if are_plain(self) else None

    def with_users(self, interactions: Interactions, kept: Tensor, fresh: Tensor,
                   solved: Callable[[], Tensor]) -> CollabModel:
        return with_user_rows(self, interactions.n_users, kept, fresh, solved())


class EmbeddingDotBias(CollabModel):
    """score = range(mu + b_u + b_i + p_u . q_i)  (Koren, Bell, Volinsky 2009, eq. 4), range a sigmoid onto y_range.

    `mean` sets where mu starts: at the mean rating, so that the biases are deviations from it and weight decay
    pulls a score towards the mean, not towards the middle of the range. Without it mu starts at 0. `init_std` is the
    initial deviation of the factors; that of the biases is 0.01. With `unknown_row`, row 0 and the rows of cold ids are
    the model's own, as in some that `merge_dot_models` makes, not averages of the rest.
    `u_weight`, `i_weight`, `u_bias`, `i_bias` are embeddings; `mu` is a scalar parameter."""

    reads_tables = True

    def __init__(self, n_factors: int, n_users: int, n_items: int, y_range: Range | None = None,
                 mean: float | None = None, init_std: float = 0.01, unknown_row: bool = False):
        super().__init__()
        self.y_range, self.unknown_row = y_range, unknown_row
        self.u_weight, self.u_bias = embedding(n_users, n_factors, init_std), embedding(n_users, 1)
        self.i_weight, self.i_bias = embedding(n_items, n_factors, init_std), embedding(n_items, 1)
        self.mu = nn.Parameter(torch.tensor(0.0 if mean is None else inverse_sigmoid_range(mean, y_range)))

    def id_tables(self) -> dict[Side, list[Tensor]]:
        return {} if self.unknown_row else named_tables(self, "weight", "bias")

    def param_groups(self) -> list[Group]:
        """Factors, which get all of the weight decay, and biases, which get none of it."""
        return [{"name": "factors", "params": [self.u_weight.weight, self.i_weight.weight]},
                {"name": "biases", "params": [self.u_bias.weight, self.i_bias.weight, self.mu], "decay": 0.0}]

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        dot = dots(self.u_weight, self.i_weight, users, items)
        b_u, mu = (self.shared(term, self.y_range) for term in (self.u_bias(users).squeeze(1), self.mu))
        return sigmoid_range(dot + b_u + self.i_bias(items).squeeze(1) + mu, self.y_range)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        dot = products(self.u_weight(users), rows_of(self.i_weight, items))
        dot += self.shared(self.u_bias(users), self.y_range)    # in place: with many items a table of scores is large
        dot += rows_of(self.i_bias, items).T
        dot += self.shared(self.mu, self.y_range)
        return sigmoid_range(dot, self.y_range)

    def scorer(self) -> Scorer:
        return table_scorer(self)

    def dot_form(self) -> DotForm:
        users, items, u_bias, i_bias = (own(side).detach() for own in (self.factors, self.biases) for side in SIDES)
        return DotForm(users, items, u_bias, i_bias, self.mu.item(), self.y_range)

    def dot_tables(self) -> DotTables | None:
        return DotTables(self.u_weight.weight, self.i_weight.weight, self.u_bias.weight, self.i_bias.weight, self.mu,
                         self.y_range) if are_plain(self) else None

    def with_users(self, interactions: Interactions, kept: Tensor, fresh: Tensor,
                   solved: Callable[[], Tensor]) -> CollabModel:
        return with_user_rows(self, interactions.n_users, kept, fresh, solved())


def are_plain(model: nn.Module) -> bool:
    """Whether all parts of the model are embeddings that look rows up and do nothing else."""
    return all(type(part) is nn.Embedding and part.max_norm is None and part.padding_idx is None
               and not part.scale_grad_by_freq for part in model.children())


def only_reads(model: nn.Module) -> bool:
    """Whether the scorer reads weights and does nothing else, so that neither modes nor random states can change: of a
    class that says so itself (`reads_tables`, not inherited), on which nothing was set, with embeddings alone."""
    return ("reads_tables" in vars(type(model)) and not model.training and vars(model).keys().isdisjoint(SET)
            and all(type(part) is nn.Embedding for part in model._modules.values()))


def table_scorer(model: CollabModel) -> Scorer:
    """The scorer of a model that is its `dot_form`, or a `cross` that was set on this very model."""
    form = None if "cross" in vars(model) else model.dot_form()
    return model.cross if form is None else TableScorer(form)


def with_user_rows(model: CollabModel, n_users: int, kept: Tensor, fresh: Tensor, solved: Tensor) -> CollabModel:
    """A copy of the model with `n_users` rows of users: row u of its tables of users is row `kept[u]` of the model's,
    but for the rows `fresh`, which are `solved`: factors and then the bias, (len(fresh), width). Raises Unsupported
    for a model that has another table of users."""
    made, first = copy.deepcopy(model), 0
    tables = [table for name in ("u_weight", "u_bias") if isinstance(table := getattr(made, name, None), nn.Embedding)]
    if any(own is not table.weight for own, table in zip(made.id_tables().get("user", []), tables, strict=False)) or (
            len(made.id_tables().get("user", [])) > len(tables)):
        raise model.lacks(NO_USERS)
    for table in tables:
        before = table.weight
        rows = before.detach()[kept.to(before.device)]
        rows[fresh] = solved[:, first:first + rows.shape[1]].to(rows)
        table.weight, table.num_embeddings = nn.Parameter(rows, before.requires_grad), n_users
        first += rows.shape[1]
    if "n_users" in made.config:
        made.config["n_users"] = n_users
    return made


keeps_old_names(__name__)

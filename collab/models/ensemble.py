"""Ensembles: the mean of several models' scores, or dot models merged into one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..data.interactions import Interactions
from ..files import Config
from .arguments import class_name
from .base import SIDES, CollabModel, Group, Scorer, Side
from .embedding import EmbeddingDot, EmbeddingDotBias
from .plain import as_collab
from .svdpp import SVDpp


class Ensemble(CollabModel):
    """The mean of the members' scores: rows of users and items (bs,) in, (bs,) out.

    An ensemble of classifiers is a classifier (`classes` is True): P = mean of the members' P (a linear opinion pool),
    given as logits log P (bs, C), and its expected rating is the mean of theirs.
    Raises ValueError for no models, or models of different numbers of users or items, or different levels."""

    made_of_trained = True

    def __init__(self, models: Sequence[nn.Module]):
        super().__init__()
        if not models:
            raise ValueError("there are no models to combine")
        self.members = nn.ModuleList(models)
        check_same(self.parts, "n_users", "n_items", "levels")
        self.unknown_row = all(part.unknown_row for part in self.parts)
        self.classes = all(part.classes for part in self.parts)
        self.ranks = any(part.ranks for part in self.parts)
        self.default_loss = "cross_entropy" if self.classes else "mse"

    @property
    def parts(self) -> list[CollabModel]:
        """The members as `CollabModel`s."""
        return [as_collab(member) for member in self.members]

    @property
    def config(self) -> Config:         # type: ignore[override]    # a property: a copy would be out of date
        """The members' classes and configurations, and their common sizes, as training has left them: `ALS` measures
        its alpha."""
        sizes = {key: value for part in self.parts for key, value in part.config.items()
                 if key in ("n_users", "n_items")}
        members = [{"name": class_name(type(m)), "config": as_collab(m).config} for m in self.members]
        return {"members": members, **sizes}

    def stored_config(self) -> Config | None:
        return None if any(part.stored_config() is None for part in self.parts) else self.config

    def param_groups(self) -> list[Group]:
        """The members' groups, joined by name."""
        joined: dict[str, Group] = {}
        for part in self.parts:
            for group in part.param_groups():
                first = joined.setdefault(group["name"], {**group, "params": []})
                first["params"] = [*first["params"], *group["params"]]
        return list(joined.values())

    def id_tables(self) -> dict[Side, list[Tensor]]:
        tables = [part.id_tables() for part in self.parts]
        return {side: [table for own in tables for table in own.get(side, [])] for side in SIDES}

    def set_interactions(self, interactions: Interactions) -> None:
        for part in self.parts:
            part.set_interactions(interactions)

    @property
    def keeps_interactions(self) -> bool:
        return any(part.keeps_interactions for part in self.parts)

    @property
    def crosses(self) -> bool:
        return super().crosses and all(part.crosses for part in self.parts)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        if self.classes:
            return self.probabilities(users, items).log()
        return self._mean([part.to_scores(part(users, items)) for part in self.parts], users)

    def to_scores(self, output: Tensor) -> Tensor:
        """The expected rating (bs,) of classifiers; otherwise the output itself."""
        return self.parts[0].to_scores(output) if self.classes else output

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return self._mean([part.cross(users, items) for part in self.parts], users)

    def scorer(self) -> Scorer:
        scorers = [part.scorer() for part in self.parts]
        return lambda users, items: self._mean([score(users, items) for score in scorers], users)

    def probabilities(self, users: Tensor, items: Tensor) -> Tensor:
        if not self.classes:
            return super().probabilities(users, items)
        return _mean([part.probabilities(users, items) for part in self.parts])

    @property
    def levels(self) -> Tensor:
        """The rating levels of classifiers."""
        return self.rating_levels()

    def rating_levels(self) -> Tensor:
        return self.parts[0].rating_levels() if self.classes else super().rating_levels()

    def _mean(self, parts: Sequence[Tensor], users: Tensor) -> Tensor:
        """Combine the members' scores, (m,) or (m, n), of `users` (m,)."""
        return _mean(parts)


def merge_dot_models(models: Sequence[nn.Module]) -> EmbeddingDot | EmbeddingDotBias:
    """Merge dot models into one whose score before the sigmoid is the mean of theirs.

    The mean over M models of p_m . q_m is the product of the concatenated p_m / sqrt(M) and q_m / sqrt(M), so that
    their numbers of factors add up; biases and mu are averaged. Without a sigmoid it equals their `Ensemble`. `SVDpp`
    and `HybridNet` without hidden layers, whose factors are constant after training, are first made an
    `EmbeddingDotBias` that keeps their rows of unknown and cold ids (`unknown_row`).

    Raises ValueError for no models, models that are neither all `EmbeddingDot` nor all of the others, or models that
    differ in range or in numbers of users or items."""
    merged = [_constant(m) for m in models]
    if not merged or type(merged[0]) not in (EmbeddingDot, EmbeddingDotBias) or len({type(m) for m in merged}) > 1:
        raise ValueError("only models that are all EmbeddingDot or all EmbeddingDotBias or SVDpp merge into one, got "
                         f"{', '.join(type(m).__name__ for m in models) or 'none'}; Ensemble(models) takes any")
    check_same(merged, "n_users", "n_items", "y_range")
    first = merged[0]
    assert isinstance(first, EmbeddingDot | EmbeddingDotBias)
    config = {**first.config, "n_factors": sum(m.config["n_factors"] for m in merged)}
    if any(m.unknown_row for m in merged):      # the others' are averages anyway
        config["unknown_row"] = True
    with torch.random.fork_rng(devices=[]):     # building draws initial weights, which are replaced
        made = type(first)(**config)
    states = [m.state_dict() for m in merged]
    tensors = {name: [state[name] for state in states] for name in states[0]}
    made.load_state_dict({name: torch.cat(parts, 1) / len(parts) ** 0.5 if name.endswith("_weight.weight")
                          else _mean(parts) for name, parts in tensors.items()})
    return made.to(first.u_weight.weight.device)


@torch.no_grad()
def _constant(model: nn.Module) -> CollabModel:
    """An SVDpp without hidden layers as the EmbeddingDotBias of its factors in evaluation; others unchanged."""
    part = as_collab(model)
    if not isinstance(part, SVDpp) or (form := part.dot_form()) is None:
        return part
    sizes = form.users.shape[1], len(form.users), len(form.items)
    with torch.random.fork_rng(devices=[]):
        made = EmbeddingDotBias(*sizes, y_range=form.y_range, mean=part.config.get("mean"), unknown_row=True)
    made.mu.copy_(part.mu)
    assert form.u_bias is not None and form.i_bias is not None
    for name, table in (("u_weight", form.users), ("i_weight", form.items), ("u_bias", form.u_bias[:, None]),
                        ("i_bias", form.i_bias[:, None])):
        made.get_parameter(f"{name}.weight").copy_(table)
    return made.to(part.mu.device)


def _mean(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).mean(0)


def check_same(models: Sequence[CollabModel], *keys: str) -> None:
    """Raise ValueError where the models' configurations differ in one of the keys."""
    for key in keys:
        values = [m.config[key] for m in models if key in m.config]
        if any(value != values[0] for value in values):
            raise ValueError(f"the models differ in {key}: {', '.join(map(str, values))}")

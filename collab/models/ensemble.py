"""Several models as one: the mean of their scores, or, for products, one model of all their factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .embedding import EmbeddingDot, EmbeddingDotBias
from .svdpp import SVDpp

Score = Callable[[Tensor, Tensor], Tensor]


class Ensemble(nn.Module):
    """score = mean over the members of their scores: rows of users and items (bs,) in, (bs,) out.

    Of classifiers (`classes` is True) it is a classifier too: P = mean of the members' P (a linear opinion pool), given
    as logits log P (bs, C), and its expected rating is the mean of theirs.
    Raises ValueError for no models, or models of different numbers of users or items, or different levels."""

    def __init__(self, models: Sequence[nn.Module]):
        super().__init__()
        if not models:
            raise ValueError("there are no models to combine")
        _same(models, "n_users", "n_items", "levels")
        self.members = nn.ModuleList(models)
        self.unknown_row = all(getattr(m, "unknown_row", False) for m in models)
        self.classes = all(getattr(m, "classes", None) is True for m in models)

    @property
    def config(self) -> dict[str, Any]:
        """The members' classes and configurations, and the sizes that these agree on."""
        sizes: dict[str, Any] = {key: value for m in self.members for key, value in _config(m).items()
                                 if key in ("n_users", "n_items")}
        return {"members": [{"name": type(m).__name__, "config": _config(m)} for m in self.members], **sizes}

    @property
    def levels(self) -> Tensor:
        """The levels of classifiers."""
        return self._first.levels

    def param_groups(self) -> list[dict[str, Any]]:
        """The members' groups, joined by name."""
        joined: dict[str, dict[str, Any]] = {}
        for m in self.members:
            own: Any = getattr(m, "param_groups", lambda m=m: [{"name": "all", "params": [*m.parameters()]}])
            for group in own():
                first = joined.setdefault(group["name"], {**group, "params": []})
                first["params"] = [*first["params"], *group["params"]]
        return list(joined.values())

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self._probabilities(users, items).log() if self.classes else self.scores(users, items)

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """The mean of the members' scores, (bs,)."""
        return self._mean([_score(m)(users, items) for m in self.members], users)

    @property
    def expected(self) -> Callable[[Tensor], Tensor] | None:
        """logits (bs, C) -> the mean rating under them; None where the members are no classifiers."""
        return self._first.expected if self.classes else None

    @property
    def probabilities(self) -> Score | None:
        """(users, items) -> the mean of the members' P(level), (bs, C); None where they are no classifiers."""
        return self._probabilities if self.classes else None

    @property
    def cross(self) -> Score | None:
        """(users, items) -> the mean score of every pair, (m,), (n,) to (m, n); None where a member has no cross."""
        crosses = [cross for m in self.members if callable(cross := getattr(m, "cross", None))]
        whole = len(crosses) == len(self.members)
        return (lambda users, items: self._mean([c(users, items) for c in crosses], users)) if whole else None

    @property
    def crossing(self) -> Callable[[], Score] | None:
        """() -> `cross` for many calls with the weights of now (see `SVDpp.crossing`); None where there is no cross."""
        return None if self.cross is None else self._crossing

    def _crossing(self) -> Score:
        members: Any = self.members
        ready = [own() if callable(own := getattr(m, "crossing", None)) else m.cross for m in members]
        return lambda users, items: self._mean([cross(users, items) for cross in ready], users)

    def _mean(self, parts: Sequence[Tensor], users: Tensor) -> Tensor:
        """What the members' scores (m,) or (m, n) of `users` (m,) become."""
        return _mean(parts)

    def _probabilities(self, users: Tensor, items: Tensor) -> Tensor:
        members: Any = self.members
        return _mean([m.probabilities(users, items) for m in members])

    @property
    def _first(self) -> Any:
        return self.members[0]


def fold(models: Sequence[nn.Module]) -> EmbeddingDot | EmbeddingDotBias:
    """One model whose score before the sigmoid is the mean of that of the models: since the mean over M of p_m . q_m is
    the product of the concatenated p_m / sqrt(M) and q_m / sqrt(M), it has the sum of their factors, and the means of
    their biases and of mu. Without a sigmoid it is their ensemble. `SVDpp` and `HybridNet` without hidden layers, whose
    sides are constant after training, count as the `EmbeddingDotBias` of these, which keeps their rows of unknown and
    of cold ids (`unknown_row`).

    Raises ValueError for no models, ones that are neither all `EmbeddingDot` nor all of these others, or that differ
    in their range or in their numbers of users or items."""
    models = [_constant(m) for m in models]
    if not models or type(models[0]) not in (EmbeddingDot, EmbeddingDotBias) or len({type(m) for m in models}) > 1:
        raise ValueError("only models that are all EmbeddingDot or all EmbeddingDotBias or SVDpp fold into one, got "
                         f"{', '.join(type(m).__name__ for m in models) or 'none'}; Ensemble(models) takes any")
    _same(models, "n_users", "n_items", "y_range")
    first: Any = models[0]
    config = {**first.config, "n_factors": sum(_config(m)["n_factors"] for m in models)}
    if any(getattr(m, "unknown_row", False) for m in models):       # the others' are averages as they are
        config["unknown_row"] = True
    with torch.random.fork_rng(devices=[]):     # building draws initial weights, which are replaced
        folded = type(first)(**config)
    states = [m.state_dict() for m in models]
    tensors = {name: [state[name] for state in states] for name in states[0]}
    folded.load_state_dict({name: torch.cat(parts, 1) / len(parts) ** 0.5 if name.endswith("_weight.weight")
                            else _mean(parts) for name, parts in tensors.items()})
    return folded.to(first.u_weight.weight.device)


@torch.no_grad()
def _constant(model: nn.Module) -> nn.Module:
    """An SVDpp whose score is a product of its sides, as the EmbeddingDotBias of what these are in evaluation."""
    if not isinstance(model, SVDpp) or getattr(model, "layers", None) is not None:
        return model
    config = {key: model.config[key] for key in ("n_factors", "n_users", "n_items", "y_range", "mean")}
    with torch.random.fork_rng(devices=[]):
        made = EmbeddingDotBias(**config, unknown_row=True)
    made.mu.copy_(model.mu)
    for name in ("u_weight", "i_weight", "u_bias", "i_bias"):
        made.get_parameter(f"{name}.weight").copy_(model.learned(name))
    return made.to(model.mu.device)


def _score(model: Any) -> Score:
    """What gives the model's scores (bs,)."""
    return model.scores if callable(getattr(type(model), "scores", None)) else model


def _mean(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).mean(0)


def _config(model: nn.Module) -> dict[str, Any]:
    """The model's configuration, empty where it keeps none."""
    return config if isinstance(config := getattr(model, "config", None), dict) else {}


def _same(models: Sequence[nn.Module], *keys: str) -> None:
    """Raises ValueError where the models' configurations differ in one of the keys."""
    for key in keys:
        values = [c[key] for m in models if key in (c := _config(m))]
        if any(value != values[0] for value in values):
            raise ValueError(f"the models differ in {key}: {', '.join(map(str, values))}")

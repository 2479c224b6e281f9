"""CollabModel: everything a model may be asked, with a default answer to each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar, Literal
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..compiled import DotTables
from ..data.interactions import Interactions
from ..errors import DataError, renamed
from ..files import Config, plain_value
from ..numerics import cosines
from .arguments import class_name, recording
from .dot_form import DotForm, Ridge
from .layers import Range, without_gradient
from .looked_up import looked_up
from .mixture import Predictive

Side = Literal["user", "item"]
SIDES: tuple[Side, Side] = ("user", "item")
Scorer = Callable[[Tensor, Tensor], Tensor]
"""Rows of users (m,) and of items (n,) in, the scores of all their pairs (m, n) out."""

Group = dict[str, Any]
"""A parameter group: its name, params, and decay."""

MAX_PAIRS = 1 << 16     # pairs per forward pass, scored one by one: a model's layers may be wide
TABLES = {("user", "weight"): "u_weight", ("item", "weight"): "i_weight",
          ("user", "bias"): "u_bias", ("item", "bias"): "i_bias"}
SCORING = ("cross", "scorer", "logits", "dot_form", "dot_tables", "score_new", "closed_form", "with_users",
           "id_tables", "predictive", "predictive_new", "drawn_scorer", "score_drawn", "rating_noise")
DECIDES = {"forward": SCORING, "score_new": ("closed_form",), "cross": ("scorer",), "logits": ("linear_logits",)}
"""What a method decides is inherited with it alone."""
RENAMED = {"predicts_ratings": "ranks", "score_history": "score_new", "fold_in": "score_new", "crossing": "scorer",
           "expected": "to_scores"}
NO_USERS = "cannot add users: it has no table of vectors for users alone; train again with their ratings"

NO_PROBABILITIES = ("gives scores, not probabilities; train a model of draws or a classifier: "
                    "collab_learner(data, 'bayes'), collab_learner(data, 'classifier')")
NO_NOISE = "knows no noise of a user or an item; train a model of draws: collab_learner(data, 'bayes')"
NO_INTERVALS = "gives scores without their uncertainty; train a model of draws: collab_learner(data, 'bayes')"
COMPARED = WeakSet[nn.Module]()           # not an attribute, which copies would take along


class Unsupported(DataError, TypeError):
    """A model was asked for something it does not support: the message names the model and what it lacks."""


class CollabModel(nn.Module):
    """A model of users and items: int64 rows of both, shape (bs,), to one output per pair.

    A subclass defines `forward` and overrides what else it supports; the rest raises `Unsupported`. Row 0 of each side
    is the unknown user or item. Embeddings called `u_weight`, `i_weight` (rows, n_factors), `u_bias` and `i_bias`
    (rows, 1) are taken for factors and biases. A subclass that redefines `forward` does not inherit the methods in
    SCORING, which may no longer hold, but gets the defaults of this class.

    `config` holds the arguments that rebuild the model, recorded at construction, without `interactions`. A model
    whose arguments are JSON values is loaded from a file by its class name, once the class is imported."""

    registry: ClassVar[dict[str, type[CollabModel]]] = {}

    config: Config
    ranks: bool = False
    """Whether scores only order items; otherwise they are ratings."""
    classes: bool = False
    """Whether the output is logits over the levels of ratings, (bs, C)."""
    default_loss: str = "mse"
    """The name in `collab.learner` of the loss or objective used when none is given."""
    solved: bool = False
    """Whether its weights solve equations (see `SolvedModel`); otherwise they are trained step by step."""
    n_sweeps: int = 0
    """The default number of sweeps: 1 for a model that one sweep solves, 0 for a model that is not solved."""
    made_of_trained: bool = False
    """Whether it combines models that were trained separately."""
    of_draws: bool = False
    """Whether `factors` are those of several draws, none of which has a meaning of its own."""
    unknown_row: bool = False
    """Whether the model sets row 0 and the rows of cold ids itself; otherwise they are set to the average."""
    same_input: bool = True
    """Whether in training a user's input is the same in every row of a batch."""
    own_interactions: bool = False
    """Whether it was built with interactions of its own, which a learner leaves as they are."""
    leave_out: bool = False
    """Whether training leaves the item of a row out of that row's input."""
    window: int = 0
    """How many of a user's items a sequential model reads, in order; 0 where their order does not matter."""

    def __init__(self) -> None:
        super().__init__()
        if not isinstance(getattr(type(self), "config", None), property):
            vars(self).setdefault("config", {})         # of a class without arguments

    def __init_subclass__(cls, **kwargs: object):
        super().__init_subclass__(**kwargs)
        for old, new in RENAMED.items():
            if old in vars(cls):
                renamed(f"{cls.__name__}.{old}", f"{new}, its opposite" if new == "ranks" else new)
                value = vars(cls)[old]
                setattr(cls, new, not value if new == "ranks" else value)
        own, bases = vars(cls), cls.__mro__
        for decides, names in DECIDES.items():
            first = next(k for k, base in enumerate(bases) if decides in vars(base))
            for name in names:
                if next(k for k, base in enumerate(bases) if name in vars(base)) > first:
                    setattr(cls, name, vars(CollabModel)[name])
        if "__init__" in own:
            cls.__init__ = recording(own["__init__"])   # type: ignore[method-assign]   # some would forget a decorator
        if "<locals>" not in cls.__qualname__:
            CollabModel.registry[class_name(cls)] = cls

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module) and callable(getattr(CollabModel, name, None)):
            raise TypeError(f"{type(self).__name__}.{name} is a method of every model; give the layer another name")
        super().__setattr__(name, value)

    def stored_config(self) -> Config | None:
        """`config` as a file stores it; None where it cannot rebuild the model, since the class cannot be imported by
        name or the arguments are not JSON values."""
        try:
            json.dumps(self.config, default=plain_value)
        except TypeError:
            return None
        return self.config if CollabModel.registry.get(class_name(type(self))) is type(self) else None

    @property
    def kind(self) -> str:
        """The class name that messages use."""
        return type(self).__name__

    def lacks(self, what: str) -> Unsupported:
        """An error that names the model and what it lacks."""
        return Unsupported(f"{self.kind} {what}")

    # Scores ------------------------------------------------------------------------------------------------------

    def to_scores(self, output: Tensor) -> Tensor:
        """The scores (bs,) of an output: the output itself or, for a classifier's logits, the expected rating."""
        return output

    @property
    def compared(self) -> bool:
        """Whether scores are being compared with others of the same user alone: an objective says so for a batch."""
        return self in COMPARED

    def shared(self, term: Tensor, y_range: Range | None = None) -> Tensor:
        """A term that all scores of a user share. Where these are only `compared` it cancels, unless a range bends the
        scores: its gradient is then exactly 0, not the rounding of a sum, which Adam and Adagrad scale up to steps."""
        return without_gradient(term) if self.compared and y_range is None else term

    def onto_score(self, layers: nn.Sequential, x: Tensor, y_range: Range | None) -> Tensor:
        """What layers make of x (n, width), the last of which gives one number: (n,). Its bias is a `shared` term."""
        if not self.compared:
            return layers(x).squeeze(1)
        *_, last = layers
        assert isinstance(last, nn.Linear)
        return F.linear(layers[:-1](x), last.weight, self.shared(last.bias, y_range)).squeeze(1)

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """The scores of n pairs, (n,), MAX_PAIRS at a time. Raises ValueError for an output of another shape."""
        parts = [torch.empty(0, device=users.device)]
        for u, i in zip(users.split(MAX_PAIRS), items.split(MAX_PAIRS)):
            if len(u):
                parts.append(self.to_scores(self(u, i)))
                if parts[-1].shape != u.shape:
                    raise ValueError(f"{self.kind} gave scores of shape {tuple(parts[-1].shape)} for {len(u)} pairs; a "
                                     f"model returns one score per pair, shape ({len(u)},)")
        return torch.cat(parts)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        """The scores of every pair of users (m,) and items (n,) at once, (m, n), with gradients in training."""
        raise self.lacks("cannot score every pair of a batch at once: it has no cross(users, items)")

    @property
    def crosses(self) -> bool:
        """Whether the model defines `cross`."""
        return type(self).cross is not CollabModel.cross

    def scorer(self) -> Scorer:
        """A function that scores every pair while the weights do not change; shared work is done once, here."""
        return self.cross if self.crosses else self._pair_by_pair

    def _pair_by_pair(self, users: Tensor, items: Tensor) -> Tensor:
        left, right = users.repeat_interleave(len(items)), items.repeat(len(users))
        return self.scores(left, right).view(len(users), len(items))

    def logits(self, users: Tensor, targets: Tensor, items: Tensor) -> Tensor:
        """The scores of all `items` (n,) for users (m,), (m, n), as a loss over all items takes them. `targets` (m,)
        are the items of the batch, for a model that leaves them out of its input."""
        return self.cross(users, items)

    def linear_logits(self, users: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """The `logits` of all items as hidden (m, k) @ weight (n_items, k).T + bias (n_items,), so that a loss over all
        items makes a few of them at a time; None where they are not of that form."""
        return None

    def score_new(self, items: Tensor, ratings: Tensor) -> Tensor:
        """The scores of all items, (n_items,), for a new user who rated the rows `items` (n,) with `ratings` (n,)."""
        raise self.lacks("cannot score new users: its score is not a product of a user and an item, and it has no "
                         "score_new(items, ratings); train again with their ratings")

    @property
    def scores_new(self) -> bool:
        """Whether the model defines `score_new`."""
        return type(self).score_new is not CollabModel.score_new

    def closed_form(self) -> tuple[DotForm, Ridge] | None:
        """The equations that `score_new` solves, where it solves a new user's vector in closed form: the tables, of
        whose users only row 0 counts, to which new ones are pulled; and how strongly. None otherwise. For ratings, a
        learner adds what it knows of users beforehand (`retrieval.prior`)."""
        return None

    def probabilities(self, users: Tensor, items: Tensor) -> Tensor:
        """P(rating = level) of n pairs, (n, C)."""
        raise self.lacks(NO_PROBABILITIES)

    def predictive(self, users: Tensor, items: Tensor) -> Predictive:
        """How the ratings of n pairs are distributed, for intervals; or those of one user, (1,), for n items."""
        raise self.lacks(NO_INTERVALS)

    def predictive_new(self, items: Tensor, ratings: Tensor, asked: Tensor) -> Predictive:
        """The same of n items `asked` (n,), for a new user who rated the rows `items` (m,) with `ratings` (m,)."""
        raise self.lacks(NO_INTERVALS)

    def drawn_scorer(self, generator: torch.Generator) -> Scorer:
        """A scorer by draws from the posterior, another one for each user: a possible truth in place of the mean."""
        raise self.lacks(NO_INTERVALS)

    def score_drawn(self, items: Tensor, ratings: Tensor, generator: torch.Generator) -> Tensor:
        """The scores of all items, (n_items,), by one draw, for a new user: see `score_new`."""
        raise self.lacks(NO_INTERVALS)

    def rating_noise(self, side: Side) -> Tensor:
        """How far ratings of each row of a side lie around their prediction, as a standard deviation, (rows,)."""
        raise self.lacks(NO_NOISE)

    @property
    def gives_intervals(self) -> bool:
        """Whether the model defines `predictive`."""
        return type(self).predictive is not CollabModel.predictive

    def rating_levels(self) -> Tensor:
        """The C levels of ratings that have a probability each, ascending."""
        raise self.lacks(NO_PROBABILITIES)

    # What was learned --------------------------------------------------------------------------------------------

    def factors(self, side: Side) -> Tensor:
        """The factors of every row of a side, (rows, n_factors), with their gradients where these are recorded."""
        return self._embedding(side, "weight", "factors")

    def biases(self, side: Side) -> Tensor:
        """The bias of every row of a side, (rows,), in units of the score before a sigmoid."""
        return self._embedding(side, "bias", "biases").squeeze(1)

    def _embedding(self, side: Side, kind: str, what: str) -> Tensor:
        table = getattr(self, TABLES[side, kind], None)
        if not isinstance(table, nn.Embedding):
            raise self.lacks(f"learns no {what} of {side}s")
        return table.weight

    def dot_form(self) -> DotForm | None:
        """The model as two tables of vectors, detached, or None where its score is not their product."""
        return None

    def dot_tables(self) -> DotTables | None:
        """The parameters of which the output is a dot product, for compiled training; None where it is more."""
        return None

    def similarity(self, side: Side) -> Scorer:
        """A function that scores how similar rows of a side are: by default, the cosine of their factors."""
        return cosines(self.factors(side).detach())

    # Data and training -------------------------------------------------------------------------------------------

    def set_interactions(self, interactions: Interactions) -> None:
        """Keep the training part, in a model that scores from it. It is not part of the state dict."""

    @property
    def keeps_interactions(self) -> bool:
        """Whether it scores from the training part."""
        return type(self).set_interactions is not CollabModel.set_interactions

    @property
    def multiplies_all(self) -> bool:
        """Whether a batch costs as much as all training ratings."""
        return False

    def id_tables(self) -> dict[Side, list[Tensor]]:
        """The parameters with one row per user, and those with one row per item; their rows of unknown and cold ids are
        set to the average of the trained rows. By default, those in which `forward` looks rows up (see `looked_up`)."""
        return {} if self.unknown_row else looked_up(self)

    def param_groups(self) -> list[Group]:
        """Groups {"name", "params", "decay"}: `decay` is the share of the weight decay, by default 1."""
        return [{"name": "all", "params": list(self.parameters())}]

    def with_users(self, interactions: Interactions, kept: Tensor, fresh: Tensor,
                   solved: Callable[[], Tensor]) -> CollabModel:
        """A model that also knows the users in `interactions`: its user row u is row `kept[u]` of this one, except for
        the rows `fresh`, which are new or have rated more: `solved()` gives their [p, b], (len(fresh), width)."""
        raise self.lacks(NO_USERS)

    @property
    def takes_users(self) -> bool:
        """Whether the model defines `with_users`."""
        return type(self).with_users is not CollabModel.with_users


def named_tables(model: nn.Module, *kinds: str) -> dict[Side, list[Tensor]]:
    """The weights of the embeddings u_<kind> and i_<kind>, by side."""
    return {"user": [model.get_parameter(f"u_{kind}.weight") for kind in kinds],
            "item": [model.get_parameter(f"i_{kind}.weight") for kind in kinds]}

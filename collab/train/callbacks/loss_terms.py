"""LossTerms: terms that are added to the loss of each training batch, and recorded by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..callback import Callback
from .order import Order

Term = Callable[[nn.Module], Tensor]
OBSERVED = "observed"
TAKEN = ("epoch", "loss", "train_loss", OBSERVED, "valid_loss", "seconds")


class LossTerms(Callback):
    """Adds terms to the loss of every training batch, such as `LossTerms(L2(0.1), Gravity(1.0))`; validation keeps the
    plain loss. A term is a function of the model that returns a tensor of shape (). Its mean over each epoch is a
    column of the history, named after its `name` or that of the function. The column `train_loss` is then the total,
    "observed" the loss alone; `recorder.parts` has them batch by batch.

    Raises ValueError for names that are taken; before training, TypeError for a second LossTerms, or for a term that
    does not return such a tensor or does not fit the model."""

    order = Order.LOSS_TERMS
    in_eval = True      # so that lr_find tests the loss that is trained

    def __init__(self, *terms: Term):
        self.terms = {_name(term): term for term in terms}
        if len(self.terms) < len(terms):
            raise ValueError(f"each term needs a name of its own, got {[_name(term) for term in terms]}")

    @property
    def modes(self) -> dict[str, str]:
        """Which values of each column are better: the smaller ones of all that is added to a loss."""
        return dict.fromkeys((OBSERVED, *self.terms), "min")

    def before_fit(self) -> None:
        if any(isinstance(cb, LossTerms) and cb is not self for cb in self.learn.cbs):
            raise TypeError("put all terms into one LossTerms: with two, neither knows the loss without terms")
        if taken := set(self.terms) & {*TAKEN, *(metric.name for metric in self.learn.scores.metrics)}:
            raise ValueError(f"a term cannot be named {taken.pop()!r}: that is another column of the history")
        with torch.no_grad():
            for name, term in self.terms.items():
                value: object = term(self.learn.model)
                if not isinstance(value, Tensor) or value.shape:
                    raise TypeError(f"the term {name!r} must give a tensor of shape (), got {value!r:.100}")

    def after_loss(self) -> None:
        learn = self.learn
        if learn.training:
            parts = {OBSERVED: learn.loss} | {name: term(learn.model) for name, term in self.terms.items()}
            learn.loss = functools.reduce(torch.add, parts.values())
            learn.recorder.note(**{name: part.detach() for name, part in parts.items()})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.terms.values()))})"


def loss_terms_of(cbs: Iterable[Callback]) -> dict[str, Term]:
    """The terms that the callbacks add to the loss in training, by name."""
    return {name: term for cb in cbs if isinstance(cb, LossTerms) for name, term in cb.terms.items()}


def _name(term: Term) -> str:
    return str(getattr(term, "name", None) or getattr(term, "__name__", type(term).__name__))

"""The loss terms' part in folding in: a quadratic form of a new user's vector."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import warn
from ..models.dot_form import DotForm


def pull_of(terms: Mapping[str, object], form: DotForm, n_ratings: int) -> Tensor | None:
    """P (width, width), float64, with which the loss terms add w' P w to the sum of squared errors over the ratings of
    a user w = [p, b]. None without terms.

    Training adds a term to the mean error over `n_ratings`. A user's share of it is p' M p / n_users
    (`FactorTerm.user_form`), which is n_ratings / n_users p' M p beside the sum over the user's own ratings.
    Warns of terms without such an M."""
    known = form.items[1:].double()
    forms = {name: form_of(known) if callable(form_of := getattr(term, "user_form", None)) else None
             for name, term in terms.items()}
    if ignored := [repr(name) for name, m in forms.items() if m is None]:
        warn(f"new users are folded in without {', '.join(ignored)}, which the loss was trained with: only loss terms "
             "with a user_form(V), such as L2 and Gravity, apply to them")
    if not (parts := [m for m in forms.values() if m is not None]):
        return None
    k, width = form.items.shape[1], len(form.average)
    pull = known.new_zeros(width, width)
    pull[:k, :k] = torch.stack(parts).sum(0) * (n_ratings / (len(form.users) - 1))
    return pull

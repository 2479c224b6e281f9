"""What the terms of a loss ask of the vector of somebody new: a quadratic form, which is added to what is solved."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import warn
from ..models.dot_form import DotForm


def pull_of(terms: Mapping[str, object], form: DotForm, n_ratings: int) -> Tensor | None:
    """P (width, width), float64: w' P w is what the terms add to the sum of squared errors over the ratings of a user
    w = [p, b]. None without terms.

    Training adds a term of all n_users to the mean over `n_ratings`. Times n_ratings, with the share p' M p / n_users
    of each user (`FactorTerm.user_form`), that is n_ratings / n_users p' M p beside the sum over a user's own ratings.
    Warns of terms that have no such M."""
    known = form.items[1:].double()
    forms = {name: form_of(known) if callable(form_of := getattr(term, "user_form", None)) else None
             for name, term in terms.items()}
    if ignored := [repr(name) for name, m in forms.items() if m is None]:
        warn(f"somebody new is folded in without {', '.join(ignored)}, which the loss was trained with: only terms "
             "whose user_form(V) says what they ask of one user, such as L2 and Gravity, are part of that")
    if not (parts := [m for m in forms.values() if m is not None]):
        return None
    k, width = form.items.shape[1], len(form.average)
    pull = known.new_zeros(width, width)
    pull[:k, :k] = torch.stack(parts).sum(0) * (n_ratings / (len(form.users) - 1))
    return pull

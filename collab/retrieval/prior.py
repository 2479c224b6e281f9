"""The prior of new users: what the trained tables say of a user before any rating, by empirical Bayes.

Take users' vectors w = [p, b] as drawn from N(w_0, S) around the average user, and ratings as range(mu + b_j + w . d_j)
plus noise of variance v. Then the most probable w of a new user solves a ridge regression with the ridge v S^-1,
however many ratings there are. Both are read off the training:

- S is the mean over users of (w - w_0)(w - w_0)' + e (n M + T_n)^-1, one step of EM from the ridge of training, T_n.
  The first term alone is too small, since training has shrunk the vectors of users with few ratings; the second is
  what their ratings left open. M is the mean over ratings of s'^2 d d', where s' is the slope of the range, so that n M
  stands for the curvature of a user with n ratings; e is the mean squared error of training.
- v = e / (1 - c)^2 (generalized cross-validation: Golub, Heath and Wahba 1979), where c is the number of parameters
  that training used for each rating, of users and of items: the items have seen the ratings, so that e alone is too
  small. With variances S_1 of vectors, and n ratings, a row uses sum_k n l_k / (1 + n l_k) parameters, l_k being the
  eigenvalues of S_1 M / e. It is at most the error of the average user.

A user has the larger of this ridge and of that of training, along the axes that both have in common: with a history as
long as trained users have, new ones get what training would make of them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.dot_form import DotForm, Prior, Ridge
from .fold_in_ratings import ranged, units

SAMPLE = 1 << 16        # ratings, users and items, evenly spaced, that are looked at where there are more
ROUNDING = 1e-12        # of a variance, relative to another


@torch.no_grad()
def prior_of(form: DotForm, users: Tensor, items: Tensor, ratings: Tensor, ridge: Ridge,
             centre: Tensor | None = None) -> Prior:
    """The prior of new users around `centre` (width,), by default the average one, for a model whose training had this
    `ridge`. `users`, `items`, `ratings` (n,) are the training rows."""
    device, biased = form.items.device, form.u_bias is not None
    low, span, unit = units(form)
    centre = (form.average if centre is None else centre).double()
    counts = [torch.bincount(rows.to(device), minlength=len(table))
              for rows, table in ((users, form.users), (items, form.items))]
    some = _spread(torch.arange(len(users)))
    u, i, r = (t[some].to(device) for t in (users, items, ratings))
    vectors, designs = _with_bias(form.users[u], form.u_bias, u), _with_ones(form.items[i], biased)
    offset = form.mu + (0.0 if form.i_bias is None else form.i_bias[i].double())
    r = r.double() / unit
    scores, slopes, _ = ranged(offset + (vectors * designs).sum(1), low, span)
    tiny = ROUNDING * (r.square().mean() + designs.square().mean()) + torch.finfo(torch.float64).tiny
    error = (scores - r).square().mean() + tiny
    nobody = (ranged(offset + designs @ centre, low, span)[0] - r).square().mean()

    used, curvatures, known = 0.0, [], []
    for table, bias, n, partners in ((form.users, form.u_bias, counts[0], designs),
                                     (form.items, form.i_bias, counts[1], _with_ones(form.users[u], biased))):
        rows = _spread(torch.nonzero(n)[:, 0])
        own, moved = _with_bias(table[rows], bias, rows), partners * slopes[:, None]
        curvatures.append(moved.T @ moved / len(moved))
        known.append((own, n[rows].double()))
        used += _parameters(own, curvatures[-1] / error, n[n > 0])
    noise = torch.minimum(error / max(1 - used / len(users), ROUNDING) ** 2, nobody)

    scale = ridge.scale(centre, biased)         # from here on in coordinates in which training's ridge is n^power
    (own, n), curvature = known[0], curvatures[0] / scale / scale[:, None]
    off = (own - centre) * scale
    strengths, axes = torch.linalg.eigh(curvature)
    left = error / (n[:, None] * strengths.clamp(min=0) + n[:, None] ** ridge.power)
    variances, axes = torch.linalg.eigh(off.T @ off / len(off) + (axes * left.mean(0)) @ axes.T)
    return Prior(axes, noise / variances.clamp(min=ROUNDING * variances.max()))


def _parameters(vectors: Tensor, precision: Tensor, counts: Tensor) -> float:
    """How many parameters rows with so many ratings use (n_rows,), where one rating adds `precision` (width, width)
    and `vectors` (m, width) are some of the rows."""
    off = vectors - vectors.mean(0)
    shares = torch.linalg.eigvals(off.T @ off / len(off) @ precision).real.clamp(min=0)
    n, times = torch.unique(counts, return_counts=True)
    known = n[:, None] * shares
    return ((known / (1 + known)).sum(1) * times).sum().item()


def _spread(rows: Tensor) -> Tensor:
    """SAMPLE of the rows, evenly spaced; all where there are fewer."""
    return rows[:: -(-len(rows) // SAMPLE)] if len(rows) else rows


def _with_bias(factors: Tensor, bias: Tensor | None, rows: Tensor) -> Tensor:
    return factors.double() if bias is None else torch.cat([factors, bias[rows, None]], 1).double()


def _with_ones(factors: Tensor, biased: bool) -> Tensor:
    return torch.cat([factors, torch.ones_like(factors[:, :1])], 1).double() if biased else factors.double()

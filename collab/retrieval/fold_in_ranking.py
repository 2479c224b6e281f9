"""Fold new users into a model that was trained to rank: chosen items in, the vector that the objective asks for out.

With the items frozen, the scores mu + b_0 + b_i + q_i . p of a user who chose n items are linear in p, and the
objectives (BPR, logistic, softmax) are convex in scores: there is one best p, which minimises

    sqrt(n) (mean of the objective over the n rows) + ridge / 2 |p - p_0|^2

where p_0 and b_0 are the average user's; loss terms add p' P p / sqrt(n) (see `fold_in_terms`). `fold_in_ratings`
explains the root of n. The objective is exact: where training draws negatives, it is the mean over all that could be
drawn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..models.dot_form import DotForm
from ..numerics import cosines
from .equations import strongest
from .exact_loss import ExactLoss
from .ridge_search import once_each

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(scores of all items (n_items,), some of the items chosen (m,), all of them (n,)) -> the mean of the objective over
the m rows; see `Objective.exact_loss`."""

STEPS, TOLERANCE = 100, 1e-6        # of L-BFGS; of the largest entry of the gradient
MAX_SCORES = 1 << 22                # numbers that an objective compares at a time
SAMPLE, MAX_HISTORY = 16, 64        # users whose histories choose the ridge, and the longest of these
FINEST, WIDEST = 10 ** 0.5, 1e5     # the ridge is found to this factor, between 1 / WIDEST and WIDEST


class RankedFolding:
    """All that solving a new user's vector by an objective takes, as `Equations` do by ratings: `form` holds the items
    and, in row 0 of its users, to whom new ones are pulled, `ridge` says how strongly; `loss` is the objective, and
    `pull` the part of the loss terms. `mean` is that of the training ratings, None where items were chosen."""

    def __init__(self, form: DotForm, loss: ExactLoss, ridge: float, pull: Tensor | None = None,
                 mean: float | None = None):
        self.form, self.loss, self.ridge, self.pull, self.mean = form, loss, ridge, pull, mean

    def solve(self, items: Tensor, ratings: Tensor) -> Tensor:
        """[p, b] (without biases p), float64 (width,), of a user who chose the rows `items` (n,)."""
        return solve_ranked(self.form, self.loss.mean, items, self.ridge, pull=self.pull)

    def reasons(self, items: Tensor, ratings: Tensor, chosen: Tensor) -> Tensor:
        """For each of the rows `chosen` (k,), the liked item that is most similar to it by the cosine of factors, int64
        (k,), or 0 where none is."""
        rows = torch.unique(items[liked(ratings, self.mean)])
        if not len(rows) or not len(chosen):
            return torch.zeros_like(chosen)
        return strongest(cosines(self.form.items)(rows, chosen).T, rows, chosen)


def liked(ratings: Tensor, mean: float | None) -> Tensor:
    """Which of a user's ratings (n,) speak for an item, bool (n,): those above the user's own mean or, where all are
    the same, above the `mean` of the training ratings; all of them where there is none."""
    if mean is None or not len(ratings):
        return torch.ones_like(ratings, dtype=torch.bool)
    return ratings > (mean if ratings.min() == ratings.max() else ratings.mean())


def solve_ranked(form: DotForm, exact_loss: Loss, items: Tensor, ridge: float, tolerance: float = TOLERANCE,
                 pull: Tensor | None = None) -> Tensor:
    """[p, b] (without biases p) of a user who chose the rows `items` (n,), float64; b is the average user's, since a
    user's bias changes no order. Solved by L-BFGS with a line search that never raises the objective."""
    table, centre = form.items.double(), form.users[0].double()
    offset = table.new_full((len(table),), form.mu) if form.i_bias is None else form.i_bias.double() + form.mu
    offset = offset if form.u_bias is None else offset + form.u_bias[0].double()        # "logistic" asks how high it is
    pieces = items.split(max(1, MAX_SCORES // len(table)))
    solved = centre.clone().requires_grad_(True)
    search = torch.optim.LBFGS([solved], max_iter=STEPS, tolerance_grad=tolerance, tolerance_change=0.0,
                               history_size=20, line_search_fn="strong_wolfe")

    def objective() -> float:
        solved.grad, total = None, 0.0
        for piece in pieces:
            query = solved / solved.norm().clamp(min=1e-12) if form.unit else solved
            part = exact_loss(table @ query + offset, piece, items) * (len(piece) / len(items) ** 0.5)
            part.backward()
            total += part.item()
        held = ridge / 2 * (solved - centre).square().sum()
        if pull is not None:
            query = solved / solved.norm().clamp(min=1e-12) if form.unit else solved
            held = held + query @ pull[:len(query), :len(query)] @ query / len(items) ** 0.5
        held.backward()
        return total + held.item()
    with torch.enable_grad():
        search.step(objective)
    found = solved.detach()
    found = found / found.norm().clamp(min=1e-12) if form.unit else found
    return found if form.u_bias is None else torch.cat([found, form.u_bias[:1].double()])


def choose_ranked_ridge(form: DotForm, exact_loss: Loss, users: Tensor, items: Tensor,
                        pull: Tensor | None = None) -> float:
    """The ridge with which trained users, folded in from their own training rows, come nearest to their trained
    vectors: the least mean squared difference of their scores, apart from each user's mean difference. `users`, `items`
    (n,) are the training rows; the search takes SAMPLE users, evenly spaced among those with up to MAX_HISTORY rows, or
    with the fewest."""
    known, counts = torch.unique(users, return_counts=True)
    known = known[counts <= max(MAX_HISTORY, int(counts.min()))]
    sample = known[torch.linspace(0, len(known) - 1, min(SAMPLE, len(known)), device=known.device).long()]
    chosen = [torch.unique(items[users == user]) for user in sample]
    every = form.items.double()
    spread = torch.cov(every[1:].T, correction=0).reshape(every.shape[1], -1)
    wanted = form.users[sample].double()

    @once_each
    def distance(ridge: float) -> float:
        solved = torch.stack([solve_ranked(form, exact_loss, own, ridge, 1e-3, pull)[:len(spread)] for own in chosen])
        off = solved - wanted
        return ((off @ spread) * off).sum().item()
    best, least, factor = 1.0, distance(1.0), 10.0
    while factor >= FINEST * 0.99:
        before = best
        for times in (factor, 1 / factor):
            while 1 / WIDEST < best * times < WIDEST and (found := distance(best * times)) < least:
                best, least = best * times, found
        factor = factor ** 0.5 if best == before else factor
    return best

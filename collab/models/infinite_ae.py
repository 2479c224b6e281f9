"""InfiniteAE: an infinitely wide autoencoder, solved at once as a kernel ridge regression over users."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..data.interactions import Interactions
from ..given import is_real
from ..numerics import products
from ..ragged import Ragged
from .base import Scorer, Side
from .forecast import forecast
from .kept_rows import MAX_NUMBERS, KeptRows
from .solved import SolvedModel, check_rows

MAX_USERS = 50_000          # at some 20 bytes per pair of users, 50 GB while solving
REMEDY = "leave out users with few ratings, or take ALS, which has no table of n_users^2"


def neural_tangent(cosine: Tensor, depth: int) -> Tensor:
    """The neural tangent kernel of a network of `depth` infinitely wide ReLU layers, for inputs of length 1 with these
    cosines (any shape): Theta_0 = Sigma_0 = cosine,

        Theta_k = Theta_(k-1) k_0(Sigma_(k-1)) + Sigma_k,    Sigma_k = k_1(Sigma_(k-1))

    with k_0(t) = (pi - acos t) / pi and k_1(t) = (sqrt(1 - t^2) + t (pi - acos t)) / pi (Cho and Saul 2009; Jacot et
    al. 2018). It is depth + 1 on the diagonal; depth 0 is the cosine itself."""
    covariance = kernel = cosine.clamp(-1.0, 1.0)
    for _ in range(depth):
        angle = math.pi - torch.acos(covariance)
        grown = (torch.sqrt((1 - covariance.square()).clamp(min=0)) + covariance * angle) / math.pi
        kernel, covariance = kernel * angle / math.pi + grown, grown.clamp(max=1.0)
    return kernel


class InfiniteAE(SolvedModel):
    """The autoencoder X -> X of users' histories in the limit of infinitely wide layers (Sachdeva et al. 2022,
    "Infinite recommendation networks", eq. 3), where training it is kernel ridge regression:

        scores = K (K + reg I)^-1 X,    K_uv = Theta(cosine of x_u and x_v)

    Theta is `neural_tangent` of `depth` hidden layers, and x_ui is 1 where u rated i. In the cosine, an item weighs
    (n_i + 1)^-`item_power`, n_i being its number of ratings: an item that all users rated says little (0: all alike).

    `weight` (n_users, n_users) is K (K + reg I)^-1: row u holds how much each user's history adds to the scores of u.
    The unknown user and those without ratings have the average row, and items without ratings the average raters.
    Memory is 4 n_users^2 bytes, and 16 n_users^2 more while solving, in float64; time grows with n_users^3. Where that
    is much, `prepare` says so before it starts (`forecast`); above 50,000 users, or where memory is too small for
    fewer, ValueError is raised. `set_interactions` keeps who rated each item. The defaults were chosen on parts of
    MovieLens-100K's training rows."""

    unknown_row = True          # with those of cold users, set by `sweep`

    def __init__(self, n_users: int, n_items: int, reg: float = 3.0, depth: int = 3, item_power: float = 0.25):
        super().__init__()
        if n_users > MAX_USERS:
            raise ValueError(f"n_users={n_users:,} is too many for InfiniteAE, whose weights are a table of n_users^2 "
                             f"(at most {MAX_USERS:,}); {REMEDY}")
        if not is_real(reg) or not 0 < reg < math.inf:
            raise ValueError(f"reg must be a finite number above 0, got {reg!r}")
        if not isinstance(depth, int) or depth < 0:
            raise ValueError(f"depth must be a whole number, at least 0, got {depth!r}")
        if not math.isfinite(item_power):
            raise ValueError(f"item_power must be a finite number, got {item_power!r}")
        self.reg, self.depth, self.item_power, self.n_items = reg, depth, item_power, n_items
        self.weight = nn.Parameter(torch.zeros(n_users, n_users), requires_grad=False)
        self.raters = KeptRows()        # one row per item

    # Scores ------------------------------------------------------------------------------------------------------

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.raters.rows.dot(self.weight, users, self._or_average(items))

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return self._summed(self.weight[users], items)

    @torch.no_grad()
    def score_new(self, items: Tensor, ratings: Tensor) -> Tensor:
        """The kernel ridge of a new user, k (K + reg I)^-1 X, from the weights: nothing is solved again."""
        items = torch.unique(items.to(self.weight.device))
        check_rows(torch.ones_like(items), items, torch.ones(len(items)), 2, self.n_items)
        scale, lengths = self._scale(), self._lengths()
        place, raters = self.raters.rows.pairs(items)
        shared = torch.zeros_like(lengths).index_add_(0, raters, scale[items[place]].square())
        cosine = shared / (lengths * scale[items].square().sum().sqrt()).clamp(min=1e-30)
        kernel = neural_tangent(cosine, self.depth) * (lengths > 0)
        dual = (kernel - kernel @ self.weight.double()) / self.reg      # (K + reg I)^-1 = (I - weight) / reg
        return self._summed(dual[None].float(), torch.arange(self.n_items, device=items.device))[0]

    def similarity(self, side: Side) -> Scorer:
        """How much users `right` (n,) add to the scores of users `left` (m,), (m, n)."""
        if side == "item":
            return super().similarity(side)
        return lambda left, right: self.weight[left][:, right]

    def id_tables(self) -> dict[Side, list[Tensor]]:
        return {}

    # Solving -----------------------------------------------------------------------------------------------------

    def prepare(self, users: Tensor, items: Tensor, ratings: Tensor) -> Tensor:
        """K of rows and ratings of shape (n,), (n_users, n_users) float64; zeros for users without ratings.

        Raises ValueError for rows that the model does not have, and DataError where memory is too small to solve. Keeps
        the interactions, see `set_interactions`."""
        users, items = users.to(self.weight.device), items.to(self.weight.device)
        n_users = len(self.weight)
        check_rows(users, items, ratings, n_users, self.n_items)
        forecast(f"InfiniteAE over {n_users:,} users", 16 * n_users ** 2,
                 n_users ** 2 * (0.8 * n_users + 1.5 * self.n_items + 500 * self.depth), users.device, REMEDY)
        self.set_interactions(Interactions(users, items, ratings, n_users, self.n_items))
        scale, lengths = self._scale(), self._lengths()
        gram = torch.zeros(n_users, n_users, dtype=torch.float64, device=users.device)
        for some in torch.arange(1, self.n_items, device=users.device).split(max(1, MAX_NUMBERS // n_users)):
            scaled = self.raters.rows.dense(some, n_users).double() * scale[some, None]
            gram.addmm_(scaled.T, scaled)
        known = lengths > 0
        gram /= lengths.clamp(min=1e-30)[:, None]
        gram /= lengths.clamp(min=1e-30)
        for rows in torch.arange(n_users, device=users.device).split(max(1, MAX_NUMBERS // n_users)):
            gram[rows] = neural_tangent(gram[rows], self.depth) * known * known[rows, None]
        return gram

    @torch.no_grad()
    def sweep(self, prepared: Tensor) -> None:
        """Solve for the weights, and replace them at the end."""
        weight = prepared.clone().T                 # column by column, as LAPACK works in place: no other table is made
        weight.diagonal().add_(self.reg)
        info = torch.zeros((), dtype=torch.int32, device=weight.device)
        torch.linalg.cholesky_ex(weight, out=(weight, info))
        if info:
            raise ValueError(f"K + reg I is singular; raise reg={self.reg}")
        torch.cholesky_inverse(weight, out=weight).mul_(-self.reg)
        weight.diagonal().add_(1.0)                 # K (K + reg I)^-1 = I - reg (K + reg I)^-1
        known = (prepared.diagonal() > 0).double()
        weight[known == 0] = known @ weight / known.sum()
        self.weight.copy_(weight)

    @torch.no_grad()
    def loss(self, prepared: Tensor) -> float:
        """|X - K A|^2 + reg tr(A' K A) at A = (K + reg I)^-1 X: the trace of X' (I - weight) X over users with
        ratings."""
        known = prepared.diagonal() > 0
        total, n_users = 0.0, len(self.weight)
        for some in torch.arange(1, self.n_items, device=known.device).split(max(1, MAX_NUMBERS // n_users)):
            x = self.raters.rows.dense(some, n_users) * known
            total += (x.double() * (x - x @ self.weight.T).double()).sum().item()
        return total

    def set_interactions(self, interactions: Interactions) -> None:
        """Keep who rated each item: data, not part of the state dict."""
        users, items = (t.to(self.weight.device) for t in interactions[:2])
        raters = Ragged.unique(items, users, None, self.n_items, interactions.n_users)
        self.raters.keep(raters.averaged(interactions.n_users))

    # Inside ------------------------------------------------------------------------------------------------------

    def _summed(self, weights: Tensor, items: Tensor) -> Tensor:
        """weights (m, n_users) times the indicators of who rated `items` (n,): (m, n)."""
        step, n_users = max(1, MAX_NUMBERS // len(self.weight)), len(self.weight)
        parts = [products(weights, self.raters.rows.dense(some, n_users))
                 for some in self._or_average(items).split(step)]
        return torch.cat([torch.zeros(len(weights), 0, device=weights.device), *parts], 1)

    def _or_average(self, items: Tensor) -> Tensor:
        """The rows of raters of `items`: row 0, the average one, for those without ratings."""
        return torch.where(self.raters.rows.lengths(items) > 0, items, 0)

    def _scale(self) -> Tensor:
        """The weight of each item in the cosine, float64 (n_items,)."""
        return (self.raters.rows.counts.double() + 1) ** -self.item_power

    def _lengths(self) -> Tensor:
        """|x_u| with items so weighted, float64 (n_users,); 0 for the unknown user and those without ratings."""
        own = torch.arange(1, self.n_items, device=self.weight.device)
        place, raters = self.raters.rows.pairs(own)
        squares = self._scale()[own[place]].square()
        return squares.new_zeros(len(self.weight)).index_add_(0, raters, squares).sqrt()

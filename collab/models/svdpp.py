"""SVD++ on both sides: users borrow from their items, items from their users."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..data.interactions import Interactions
from ..drawn import uniform
from ..numerics import products, rows_at, sparse_product
from ..ragged import Ragged
from .base import SCORING, SIDES, CollabModel, Group, Scorer, Side, named_tables
from .dot_form import DotForm
from .kept_rows import KeptRows
from .layers import Range, embedding, inverse_sigmoid_range, sigmoid_range

Half = tuple[Tensor, Tensor]        # factors (n, n_factors), bias (n,)


class SVDpp(CollabModel):
    """score = range(mu + b_u + b_i + x_u . z_i), where each side borrows from its partners in the training part:

        x_u = p_u + |N(u)|^-1/2 sum_{j in N(u)} y_j        (Koren 2008, eq. 15)
        z_i = q_i + |N(i)|^-1/2 sum_{v in N(i)} w_v        (the same the other way: "flipped", Rendle et al. 2019)

    `interactions` are the training part's (user rows, item rows), each int64 (n,). In training a pair does not see
    itself: j = i and v = u are left out of its own sums, or else the factors learn to recognise it. `drop` is the
    dropout on the products x_uk z_ik. `id_drop` is the share of users and of items that training treats as unknown,
    so that row 0 learns the best vector for an unknown user or item. Rows without interactions are treated as row 0.

    One batch multiplies the whole interaction matrix with both tables, in validation too: use large batches. After
    training x and z are constant: `factors` gives them as tables, and `scorer` computes their sums once."""

    def __init__(self, n_factors: int, n_users: int, n_items: int, interactions: tuple[Tensor, ...] | None = None,
                 y_range: Range | None = None, mean: float | None = None, drop: float = 0.3, id_drop: float = 0.02,
                 history: bool = True):
        super().__init__()
        self.y_range, self.id_drop, self.history = y_range, id_drop, history
        self.unknown_row = id_drop > 0      # row 0 is trained, so nothing else may set it
        self.u_weight, self.u_bias = embedding(n_users, n_factors), embedding(n_users, 1)
        self.i_weight, self.i_bias = embedding(n_items, n_factors), embedding(n_items, 1)
        self.mu = nn.Parameter(torch.tensor(0.0 if mean is None else inverse_sigmoid_range(mean, y_range)))
        self.drop = nn.Dropout(drop)
        self.u_partners, self.i_partners = KeptRows(), KeptRows()
        self.set_interactions(Interactions.of(interactions, n_users, n_items))
        if history:
            self.u_rated, self.i_raters = embedding(n_items, n_factors), embedding(n_users, n_factors)

    def __init_subclass__(cls, **kwargs: object):
        super().__init_subclass__(**kwargs)
        if "score" in vars(cls) and "cross_score" not in vars(cls):
            for name in {*SCORING} - {*vars(cls)}:      # they would score as this class does
                setattr(cls, name, vars(CollabModel)[name])

    def set_interactions(self, interactions: Interactions) -> None:
        """Keep who rated what, each pair once, by user and by item; it is not part of the state dict."""
        n_users, n_items = self.u_weight.num_embeddings, self.i_weight.num_embeddings
        users, items = (t.cpu() for t in interactions[:2])
        rated = Ragged.unique(users, items, None, n_users, n_items)
        self.u_partners.keep(rated.to(self.mu.device))
        self.i_partners.keep(rated.transposed(n_items).to(self.mu.device))

    def param_groups(self) -> list[Group]:
        """Factors, which get all of the weight decay, and biases, which get a tenth."""
        biases = [self.u_bias.weight, self.i_bias.weight]
        factors = [p for p in self.parameters() if p is not self.mu and all(p is not b for b in biases)]
        return [{"name": "factors", "params": factors}, {"name": "biases", "params": biases, "decay": 0.1},
                {"name": "mean", "params": [self.mu], "decay": 0.0}]

    def id_tables(self) -> dict[Side, list[Tensor]]:
        return {} if self.unknown_row else named_tables(self, "weight", "bias")

    @property
    def multiplies_all(self) -> bool:
        return self.history

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.score(*self.sides(users, items))

    def score(self, user: Half, item: Half) -> Tensor:
        """The scores (n,) of n pairs of sides."""
        (x, b_u), (z, b_i), mu = self._with_shared(user, item)
        return sigmoid_range(self.drop(x * z).sum(1) + b_u + b_i + mu, self.y_range)

    def cross_score(self, user: Half, item: Half) -> Tensor:
        """The scores (m, n) of m users' sides with n items'."""
        (x, b_u), (z, b_i), mu = self._with_shared(user, item)
        return sigmoid_range(products(x, z) + b_u[:, None] + b_i + mu, self.y_range)

    def _with_shared(self, user: Half, item: Half) -> tuple[Half, Half, Tensor]:
        """The sides and mu, where b_u and mu are `shared`."""
        x, b_u = user
        return (x, self.shared(b_u, self.y_range)), item, self.shared(self.mu, self.y_range)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return self.scorer()(users, items)

    def scorer(self) -> Scorer:
        """As in `CollabModel`; the sums over partners are computed once, here."""
        u_sums, i_sums = (self._sums(side) if self.history else None for side in ("u", "i"))
        return lambda users, items: self.cross_score(self.side("u", users, sums=u_sums),
                                                     self.side("i", items, sums=i_sums))

    def sides(self, users: Tensor, items: Tensor) -> tuple[Half, Half]:
        """The two sides of pairs; in training each without the other, and some treated as unknown."""
        if not self.training:
            return self.side("u", users), self.side("i", items)
        return self.side("u", users, items), self.side("i", items, users)

    def side(self, side: str, rows: Tensor, own: Tensor | None = None, sums: Tensor | None = None) -> Half:
        """Factors (n, n_factors) and biases (n,) of rows of the side "u" or "i"; `own` are partners to leave out, and
        `sums` the result of `_sums`, where it is known."""
        weight, bias = (self.u_weight, self.u_bias) if side == "u" else (self.i_weight, self.i_bias)
        counts = (self.u_partners if side == "u" else self.i_partners).rows.lengths(rows).float()
        known = counts > 0
        bias_ids = torch.where(known, rows, 0)
        if own is not None and self.id_drop:
            known = known & (uniform(len(rows), device=rows.device) >= self.id_drop)
        ids = torch.where(known, rows, 0)
        if side == "i" or not self.compared or self.y_range is not None:
            bias_ids = ids      # else it cancels (`shared`), whether the user is treated as unknown or not
        x = weight(ids)
        if self.history:
            sums = rows_at(self._sums(side) if sums is None else sums, rows)
            if own is not None:
                sums, counts = sums - self._partners(side)(own), counts - 1
            x = x + sums * (known / counts.clamp(min=1).sqrt())[:, None]
        return x, bias(bias_ids).squeeze(1)

    def factors(self, side: Side) -> Tensor:
        """x of every user, or z of every item."""
        return self._every(side)[0]

    def biases(self, side: Side) -> Tensor:
        return self._every(side)[1]

    @torch.no_grad()
    def dot_form(self) -> DotForm | None:
        (users, u_bias), (items, i_bias) = (self._every(side) for side in SIDES)
        return DotForm(users, items, u_bias, i_bias, self.mu.item(), self.y_range)

    def _every(self, side: Side) -> Half:
        table = self.u_weight if side == "user" else self.i_weight
        return self.side(side[0], torch.arange(table.num_embeddings, device=self.mu.device))

    def _partners(self, side: str) -> nn.Embedding:
        return self.u_rated if side == "u" else self.i_raters

    def _sums(self, side: str) -> Tensor:
        """The sum over its partners for every row of the side."""
        table = self._partners(side).weight
        n_users, n_items = self.u_weight.num_embeddings, self.i_weight.num_embeddings
        by_user = self.u_partners.rows.csr(n_items, table.dtype)
        by_item = self.i_partners.rows.csr(n_users, table.dtype)
        with torch.autocast(table.device.type, enabled=False):      # sparse products have no half precision
            return sparse_product(*((by_user, by_item) if side == "u" else (by_item, by_user)), table)

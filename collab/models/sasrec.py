"""SASRec: what a user chose, in order, in; a distribution over what comes next out."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor, nn

from ..data.interactions import Interactions
from ..given import is_real
from ..numerics import products
from ..ragged import Ragged
from .base import CollabModel, Group, Side
from .dot_form import DotForm
from .kept_rows import MAX_NUMBERS, KeptRows, over
from .layers import embedding, rows_of


class SASRec(CollabModel):
    """logits = E h + b, where h is the last state of a causal transformer over a user's history (Kang and McAuley 2018,
    "Self-attentive sequential recommendation"), trained by the softmax over all items (`FullSoftmax`), which does more
    for it than drawn negatives (Klenitskiy and Vasilev 2023, "Turning dross into gold loss"):

        x_1 = start, x_j = sqrt(n_factors) e_(item j - 1), plus a vector for how far it lies before the window's end
        h = LayerNorm(blocks(dropout(x))), `n_blocks` of attention with `n_heads` and a hidden layer of n_factors

    A history is the user's training ratings in the order of the rows (`time_split` and `leave_last` put these in order
    of time). In training it is cut into windows of `window` items, counted from the last; each item of a window is
    predicted from those before it. Scores are of what follows the last `window` items. Before a first item, and for an
    unknown user, `start` alone is read. A pair that comes again is predicted where it came last. E (n_items,
    n_factors) is also the table of the items that are read.

    `interactions` are the training part's (user rows, item rows), int64 (n,), in order. A batch may hold any rows; in
    `WindowedBatches` each window is whole, and read once. Raises ValueError for n_factors that n_heads does not divide,
    and other settings out of range."""

    window: int = 50
    ranks = True
    default_loss = "full_softmax"
    same_input = False
    leave_out = True
    keys: Tensor                # of pairs, ascending, to find them by, and their entries in the histories
    order: Tensor

    def __init__(self, n_factors: int, n_users: int, n_items: int, interactions: tuple[Tensor, ...] | None = None,
                 window: int = 50, n_blocks: int = 2, n_heads: int = 2, drop: float = 0.3, init_std: float = 0.04):
        super().__init__()
        for name, value in (("window", window), ("n_blocks", n_blocks), ("n_heads", n_heads)):
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
        if n_factors % n_heads:
            raise ValueError(f"n_factors must be a multiple of n_heads={n_heads}, got {n_factors}")
        if not is_real(drop) or not 0 <= drop < 1:
            raise ValueError(f"drop must be a number, at least 0 and below 1, got {drop!r}")
        self.window = int(window)
        self.i_weight, self.i_bias = embedding(n_items, n_factors, init_std), embedding(n_items, 1)
        self.place = embedding(window, n_factors, init_std / 2)
        self.start = nn.Parameter(torch.zeros(n_factors))
        self.blocks = nn.ModuleList([
            nn.TransformerEncoderLayer(n_factors, n_heads, n_factors, drop, "gelu", batch_first=True, norm_first=True)
            for _ in range(n_blocks)])
        self.dropout, self.norm = nn.Dropout(drop), nn.LayerNorm(n_factors)
        self.histories = KeptRows()
        self.set_interactions(Interactions.of(interactions, n_users, n_items))
        with torch.no_grad():
            counts = torch.bincount(self.histories.columns, minlength=n_items).float().clamp(min=0.5)
            self.i_bias.weight.copy_((counts / counts.mean()).log()[:, None])

    def set_interactions(self, interactions: Interactions) -> None:
        """Keep the histories, in the order of the rows; they are not part of the state dict."""
        users, items = (t.to(self.start.device) for t in interactions[:2])
        self.histories.keep(Ragged.of(users, items, None, interactions.n_users))
        keys, order = self.histories.rows.keys(self.i_weight.num_embeddings).sort(stable=True)
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("order", order, persistent=False)
        if "n_users" in self.config:
            self.config["n_users"] = interactions.n_users

    def id_tables(self) -> dict[Side, list[Tensor]]:
        return {"item": [self.i_weight.weight, self.i_bias.weight]}

    def param_groups(self) -> list[Group]:
        """Tables and matrices, which get all of the weight decay, and biases and norms, which get none."""
        biases = {id(p) for p in self.parameters() if p.dim() == 1} | {id(self.i_bias.weight)}
        parts = [[p for p in self.parameters() if (id(p) in biases) == bias] for bias in (False, True)]
        return [{"name": "weights", "params": parts[0]}, {"name": "biases", "params": parts[1], "decay": 0.0}]

    # Scores ------------------------------------------------------------------------------------------------------

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.hidden(users, items) * self.i_weight(items)).sum(1) + self.i_bias(items)[:, 0]

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return products(self.after(users), rows_of(self.i_weight, items)) + self.i_bias(items)[:, 0]

    def logits(self, users: Tensor, targets: Tensor, items: Tensor) -> Tensor:
        return self.hidden(users, targets) @ rows_of(self.i_weight, items).T + self.i_bias(items)[:, 0]

    def linear_logits(self, users: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.hidden(users, targets), self.i_weight.weight, self.i_bias.weight[:, 0]

    def hidden(self, users: Tensor, targets: Tensor) -> Tensor:
        """The state (bs, n_factors) that predicts each pair: in training the one before it in the user's history;
        otherwise, and where the history does not hold it, the one after all."""
        if not self.training or not len(users):
            return self.after(users)
        n, place = self.histories.rows.lengths(users), self._place(users, targets)
        end = torch.where(place < n, n - 1 - (n - 1 - place) // self.window * self.window, n)   # of its window
        _, window = torch.unique(self.histories.starts[users] + users + end, return_inverse=True)    # n + 1 ends a user
        row = torch.zeros_like(window)[:int(window.max()) + 1].scatter_(
            0, window, torch.arange(len(window), device=window.device))         # any row of each window
        states = self._states(self.histories.rows, users[row], end[row])
        return states[window, end.clamp(max=self.window - 1) - (end - place)]

    def after(self, users: Tensor) -> Tensor:
        """The state after each user's whole history, (n, n_factors); each user's is made once."""
        different, inverse = torch.unique(users, return_inverse=True)
        step = max(1, MAX_NUMBERS // (8 * self.window * len(self.start)))
        states = [self._last(self.histories.rows, some) for some in different.split(step) if len(some)]
        return torch.cat(states)[inverse] if states else self.start.new_zeros(0, len(self.start))

    def _place(self, users: Tensor, items: Tensor) -> Tensor:
        """Where each item last stands in its user's history, from 0; its length where it does not."""
        n, keys = self.histories.rows.lengths(users), users * self.i_weight.num_embeddings + items
        if not len(self.keys):
            return n
        found = torch.searchsorted(self.keys, keys, right=True) - 1         # -1 is the last, which is another pair
        return torch.where(self.keys[found] == keys, self.order[found] - self.histories.starts[users], n)

    def _last(self, rows: Ragged, users: Tensor) -> Tensor:
        n = rows.lengths(users)
        return self._states(rows, users, n)[torch.arange(len(n), device=n.device), n.clamp(max=self.window - 1)]

    def _states(self, rows: Ragged, users: Tensor, ends: Tensor) -> Tensor:
        """The states of windows (m,) up to the one that predicts place `ends` of a user's row, (m, length, n_factors);
        shorter windows are followed by states that mean nothing, and that nothing before them reads."""
        filled = ends.clamp(max=self.window - 1) + 1
        step = torch.arange(int(filled.max()), device=ends.device)
        at = (ends - filled)[:, None] + step                                # places of what is read: -1 is the start
        place = (self.window - filled[:, None] + step).clamp(max=self.window - 1)
        entry = torch.where((at >= 0) & (step < filled[:, None]), rows.starts[users][:, None] + at, 0)
        items = rows.columns[entry] if len(rows.columns) else entry
        read = torch.where(at[:, :, None] < 0, self.start, self.i_weight(items) * len(self.start) ** 0.5)
        causal = nn.Transformer.generate_square_subsequent_mask(len(step), items.device, read.dtype)
        x = self.dropout(read + self.place(place))
        for block in self.blocks:
            x = block(x, src_mask=causal, is_causal=True)
        return self.norm(x)

    @torch.no_grad()
    def score_new(self, items: Tensor, ratings: Tensor) -> Tensor:
        """A forward pass over the chosen items, in their order; their ratings do not count."""
        items = items.to(self.start.device)
        chosen = Ragged.of(torch.zeros_like(items[items > 0]), items[items > 0], None, 1)
        state = self._last(chosen, items.new_zeros(1))
        return products(state, self.i_weight.weight)[0].to(state) + self.i_bias.weight[:, 0]

    # What was learned --------------------------------------------------------------------------------------------

    def factors(self, side: Side) -> Tensor:
        """The state after the history of every user, or E."""
        if side == "item":
            return self.i_weight.weight
        return self.after(torch.arange(len(self.histories.rows), device=self.start.device))

    @torch.no_grad()
    def dot_form(self) -> DotForm:
        users, items = self.factors("user"), self.i_weight.weight.detach()
        return DotForm.of_items(users, items, self.biases("item").detach())

    def with_users(self, interactions: Interactions, kept: Tensor, fresh: Tensor,
                   solved: Callable[[], Tensor]) -> CollabModel:
        return over(self, interactions)

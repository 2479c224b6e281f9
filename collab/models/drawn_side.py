"""DrawnSide: one side of a Bayesian factorisation machine, its chain and the draws that are kept of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ragged import Ragged
from .gibbs import Design, Draw

Columns = tuple[Tensor, Tensor, Tensor]     # codes and weights of `Features`, and the column of each feature
Size = tuple[int, int, int, int]            # rows, codes per row, features, columns
START = 10.0            # the precision of p and beta in the first sweep
SPREAD = 0.1            # the deviation of factors before it


class DrawnSide(nn.Module):
    """The state of the chain, in buffers, so that a file goes on where it was written; the metadata; and of each draw
    that is kept what predictions take.

    `draws` (n_rows, n_draws, width + 1) are [x, b, noise] of all rows (see `Draw`), where width = n_factors + 1. A row
    without ratings gets the part of x that its metadata give, and of the rest the mean over ratings; without metadata,
    like row 0, it gets the mean of x over rows with ratings. `variance` (n_draws, 2, width) is the uncertainty of such
    rows: the variances around these means, [0] of x and [1] of the rest."""

    x: Tensor
    beta: Tensor
    precision: Tensor
    relevance: Tensor
    noise: Tensor
    codes: Tensor
    weights: Tensor
    column: Tensor
    share: Tensor
    variance: Tensor

    def __init__(self, n_rows: int, n_others: int, n_factors: int, n_draws: int, known: Columns | Size | None,
                 history: bool):
        super().__init__()
        width, self.history = n_factors + 1, history
        self.size = _, n_codes, n_features, n_columns = _size(known, n_rows)
        self.register_buffer("codes", torch.zeros(n_rows, n_codes, dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(n_rows, n_codes))
        self.register_buffer("column", torch.zeros(n_features, dtype=torch.int64))
        for table, value in zip((self.codes, self.weights, self.column), known or ()):
            if isinstance(value, Tensor):
                table.copy_(value)
        self.n_groups = 1 + history + n_columns
        self.register_buffer("x", torch.zeros(n_rows, width))
        self.register_buffer("beta", torch.zeros(1 + history * n_others + n_features, width))
        self.register_buffer("precision", torch.full((width,), START, dtype=torch.float64))
        self.register_buffer("relevance", torch.full((self.n_groups, width), START, dtype=torch.float64))
        self.register_buffer("noise", torch.ones(n_rows, dtype=torch.float64))
        self.x[:, :-1].normal_(std=SPREAD)
        self.draws = nn.Parameter(torch.zeros(n_rows, n_draws, width + 1), requires_grad=False)
        self.draws[..., -1] = 1.0
        self.register_buffer("variance", torch.zeros(n_draws, 2, width))
        self.register_buffer("share", torch.zeros(n_rows))      # of a row in the training ratings

    # The chain ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> Draw:
        return Draw(self.x, self.beta, self.precision, self.relevance, self.noise)

    def go_to(self, draw: Draw) -> None:
        for table, value in zip(self.state, draw):
            table.copy_(value)

    def design(self, pairs: Ragged, of: type[Design] = Design) -> Design:
        """The features of all rows but row 0: a constant, the partners in `pairs`, each 1 / sqrt(their number), and
        metadata."""
        n, n_features = len(pairs), len(self.column)
        every = torch.arange(1, n, device=self.x.device)
        parts = [(every, torch.zeros_like(every), torch.ones_like(every, dtype=torch.float32))]
        if self.history:
            parts.append((pairs.rows, 1 + pairs.columns, pairs.counts[pairs.rows].float().rsqrt()))
        rows, features, values = self._known()
        parts.append((rows, len(self.beta) - n_features + features, values))
        group = torch.full((len(self.beta),), int(self.history), device=self.x.device)      # history, but for its ends
        group[0], group[len(group) - n_features:] = 0, 1 + int(self.history) + self.column
        entries, columns, numbers = (torch.cat(part) for part in zip(*parts))
        return of(Ragged.unique(entries, columns, numbers, n, len(group)), group, self.n_groups)

    def _known(self) -> tuple[Tensor, Tensor, Tensor]:
        """(rows, features, values) of the metadata, each (n,)."""
        row, place = self.weights.nonzero(as_tuple=True)
        return row, self.codes[row, place], self.weights[row, place]

    @property
    def cold(self) -> Tensor:
        """Whether a row has no training ratings, bool (n_rows,)."""
        return self.share == 0

    @property
    def _informed(self) -> Tensor:
        """Whether a row has metadata, bool (n_rows,)."""
        return (self.weights != 0).any(1)

    # What is kept ------------------------------------------------------------------------------------------------

    def keep(self, place: int) -> None:
        """Keep the state as the draw of that number."""
        rows, features, values = self._known()
        first = len(self.beta) - len(self.column)
        said = torch.zeros_like(self.x).index_add_(0, rows, self.beta[first + features] * values[:, None])
        cold, weights = self.cold, self.share[self.share > 0, None]
        own, rest = self.x[~cold], (self.x - said)[~cold]
        mean = (weights * rest).sum(0)
        guessed = torch.where(self._informed[:, None], said + mean, own.mean(0))
        self.draws[:, place, :-1] = torch.where(cold[:, None], guessed, self.x)
        self.draws[:, place, -1] = torch.where(cold, self.noise[0], self.noise)     # else alike rows would differ
        self.variance[place] = torch.stack([own.var(0, correction=0), (weights * (rest - mean).square()).sum(0)])

    def split(self, rows: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Factors (n, draws, n_factors), biases and noise (n, draws) of rows, in float64."""
        own = self.draws[rows[:, None], used].double()
        return own[..., :-2], own[..., -2], own[..., -1]

    def unsure(self, rows: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
        """The variances of factors (n, draws, n_factors) and biases (n, draws) of rows, 0 where these have ratings."""
        own = self.variance[used].double()[:, self._informed[rows].long()].transpose(0, 1) * self.cold[rows, None, None]
        return own[..., :-1], own[..., -1]


def _size(given: Columns | Size | None, n_rows: int) -> Size:
    if given is None:
        return n_rows, 0, 0, 0
    codes, column = given[0], given[2]
    if isinstance(codes, Tensor) and isinstance(column, Tensor):
        return len(codes), codes.shape[1], len(column), int(column.max()) + 1 if len(column) else 0
    rows, width, n_features, n_columns = map(int, given)
    return rows, width, n_features, n_columns

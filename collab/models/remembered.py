"""RememberingModel: a solved model that scores from who rated what, and is told it wherever it is loaded."""

from __future__ import annotations

import torch
from torch import Tensor

from .solved import SolvedModel

MAX_NUMBERS = 1 << 22       # numbers of a dense block or of gathered weights at a time: 16 MiB


class RememberingModel(SolvedModel):
    """Keeps one list a row: of a user the items they rated, say, each with a value. Lists are data, and no part of the
    state dict. The list of row 0, the unknown one, is the average of all that are not empty, and what is linear in a
    list gives it the average score."""

    empty_is_average = False    # whether those without entries have the list of row 0

    list_starts: Tensor
    list_columns: Tensor
    list_values: Tensor

    def _keep(self, rows: Tensor, columns: Tensor, values: Tensor, n_rows: int, n_columns: int) -> None:
        """Lists from entries of shape (n,) that are sorted by row, those of rows 1 to n_rows - 1."""
        known = max(1, len(torch.unique(rows)))
        mean = values.new_zeros(n_columns).index_add_(0, columns, values) / known
        listed = torch.nonzero(mean)[:, 0] if len(columns) else columns
        counts = torch.bincount(rows, minlength=n_rows)
        counts[0] = len(listed)
        kept = {"starts": torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
                "columns": torch.cat([listed, columns]), "values": torch.cat([mean[listed], values])}
        for name, tensor in kept.items():
            self.register_buffer(f"list_{name}", tensor, persistent=False)

    def _entries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(position in `rows`, position in `list_columns`) of all entries of these rows."""
        if self.empty_is_average:
            rows = torch.where(self.list_starts.diff()[rows] > 0, rows, 0)
        starts, counts = self.list_starts[rows], self.list_starts.diff()[rows]
        place = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        within = torch.arange(len(place), device=rows.device) - (counts.cumsum(0) - counts)[place]
        return place, starts[place] + within

    def _dense(self, rows: Tensor, n_columns: int) -> Tensor:
        """The lists of a few rows as a table, (len(rows), n_columns)."""
        place, at = self._entries(rows)
        table = self.list_values.new_zeros(len(rows), n_columns)
        table[place, self.list_columns[at]] = self.list_values[at]
        return table

    def _gathered(self, table: Tensor, rows: Tensor, listed: Tensor) -> Tensor:
        """sum over the list of listed[k] of table[rows[k], column] value, shape (len(rows),), in bounded memory."""
        if not len(rows):
            return table.new_zeros(0)
        step = max(1, MAX_NUMBERS // max(1, int(self.list_starts.diff()[listed].max())))
        parts = []
        for r, some in zip(rows.split(step), listed.split(step)):
            place, at = self._entries(some)
            terms = table[r[place], self.list_columns[at]] * self.list_values[at]
            parts.append(table.new_zeros(len(r)).index_add_(0, place, terms))
        return torch.cat(parts)


def unique_pairs(left: Tensor, right: Tensor, values: Tensor, n_right: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair once, sorted by `left`, with the sum of its values."""
    pair, where = torch.unique(left * n_right + right, return_inverse=True)
    return pair // n_right, pair % n_right, values.new_zeros(len(pair)).index_add_(0, where, values)

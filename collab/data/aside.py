"""Aside: what is known of people and is not trained on, under ids that the vocabs may lack."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .batches import TensorBatches
from .vocab import UNKNOWN, Vocab, id_index

Rows = tuple[Tensor, Tensor, Tensor]
NOTHING: Rows = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0)


@dataclass(frozen=True, eq=False)
class Wide:
    """The rows of a vocab and, after them, those of `more` ids, which it lacks: ids of the held-out parts alone."""

    vocab: Vocab
    more: Vocab | None = None

    @classmethod
    def of(cls, vocab: Vocab, *several: Iterable[Hashable]) -> Wide:
        """A vocab, and what it lacks of several columns of ids. Raises DataError for ids of another kind."""
        each = [id_index(ids).unique() for ids in several]
        new = [id for ids in each for id in ids[vocab.encode(ids) == UNKNOWN].tolist()]
        if not new:
            return cls(vocab)
        every = vocab.with_more(new)            # in its order, and of its type
        lacking = np.flatnonzero(vocab.encode([*every]) == UNKNOWN) + 1
        return cls(vocab, Vocab(every.decode(lacking), vocab.name))

    def __len__(self) -> int:
        """The number of rows, the unknown one included."""
        return len(self.vocab) + (0 if self.more is None else len(self.more) - 1)

    def encode(self, ids: Iterable[Hashable]) -> Tensor:
        """Rows (int64) of many ids; 0 for those that are in neither. Raises DataError for ids of another kind."""
        asked = id_index(ids)
        rows = self.vocab.encode(asked)
        if self.more is not None and (new := rows == UNKNOWN).any():
            beyond = self.more.encode(asked[new])
            rows[new] = np.where(beyond == UNKNOWN, UNKNOWN, beyond + len(self.vocab) - 1)
        return torch.from_numpy(rows)

    def decode(self, rows: Tensor) -> np.ndarray:
        """Raw ids of many rows, in the type they came in; None for row 0."""
        known, beyond = self.within(rows).numpy(), (rows - len(self.vocab) + 1).clamp(min=0).numpy()
        if self.more is None or not beyond.any():
            return self.vocab.decode(known)
        ids = self.vocab.ids[known]
        ids[beyond > 0] = self.more.ids[beyond[beyond > 0]]
        return pd.Series(ids).infer_objects().to_numpy()

    def within(self, rows: Tensor) -> Tensor:
        """The rows of the vocab: 0 for those beyond it."""
        return rows if self.more is None else rows.masked_fill(rows >= len(self.vocab), UNKNOWN)


class Aside:
    """Ratings beside the training rows: `parts` holds (user rows, item rows, ratings) by name, (n,) on the CPU, under
    rows of `users` and `items`, which go on beyond those of the vocabs. "valid" and "test" have the order of these
    parts, "weak" is what a threshold left out everywhere, "file" all of it together in a learner that was loaded."""

    def __init__(self, users: Wide, items: Wide, parts: dict[str, Rows]):
        self.users, self.items, self.parts = users, items, parts

    @classmethod
    def of(cls, users: Vocab, items: Vocab, tables: dict[str, pd.DataFrame]) -> Aside:
        """Of checked tables with the columns user, item and rating; empty ones are left out."""
        tables = {name: table for name, table in tables.items() if len(table)}
        wide = [Wide.of(vocab, *(table[vocab.name] for table in tables.values())) for vocab in (users, items)]
        return cls(wide[0], wide[1], {
            name: (wide[0].encode(table["user"]), wide[1].encode(table["item"]), _ratings(table))
            for name, table in tables.items()})

    @classmethod
    def of_batches(cls, users: Vocab, items: Vocab, parts: dict[str, TensorBatches | None]) -> Aside:
        """Of batches of (user rows, item rows, ratings) alone, which have kept no other ids."""
        return cls(Wide(users), Wide(items), {name: (u.cpu(), i.cpu(), r.cpu()) for name, part in parts.items()
                                              if isinstance(part, TensorBatches) for u, i, r in [part.tensors]})

    def joined(self) -> Rows:
        """The ratings of all parts."""
        return _joined(NOTHING, *self.parts.values())

    def of_part(self, name: str, batches: Any) -> Rows | None:
        """The part `name`, if `batches` hold what it holds: not if they were put in its place."""
        own, kept = getattr(batches, "tensors", ()), self.batch(name)
        same = kept is not None and len(own) == 3 and all(torch.equal(a.cpu(), b) for a, b in zip(own, kept))
        return self.parts[name] if same else None

    def batch(self, name: str) -> Rows | None:
        """A part under rows of the vocabs alone, if there is one."""
        if name not in self.parts:
            return None
        users, items, ratings = self.parts[name]
        return self.users.within(users), self.items.within(items), ratings

    def over(self, users: Vocab, weak: pd.DataFrame) -> Aside:
        """The same over a vocab of more users, and with further `weak` rows (a checked table)."""
        sides = [Wide.of(vocab, old.decode(torch.arange(len(old.vocab), len(old))), weak[vocab.name])
                 for vocab, old in ((users, self.users), (self.items.vocab, self.items))]
        moved = [torch.cat([torch.zeros(1, dtype=torch.int64), side.encode(old.decode(torch.arange(1, len(old))))])
                 for side, old in zip(sides, (self.users, self.items))]
        parts = {name: (moved[0][u], moved[1][i], ratings) for name, (u, i, ratings) in self.parts.items()}
        if len(weak):
            rows = sides[0].encode(weak["user"]), sides[1].encode(weak["item"]), _ratings(weak)
            parts["weak"] = _joined(parts.get("weak", NOTHING), rows)
        return Aside(sides[0], sides[1], parts)


def _joined(*parts: Rows) -> Rows:
    users, items, ratings = (torch.cat(column) for column in zip(*parts))
    return users, items, ratings


def _ratings(table: pd.DataFrame) -> Tensor:
    return torch.tensor(table["rating"].to_numpy(), dtype=torch.float32)

"""Ratings that are known and not trained on, under ids that the vocabs may lack."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .batches import TensorBatches
from .codes import each_once, in_order, is_coded
from .vocab import UNKNOWN, Vocab, id_index

Rows = tuple[Tensor, Tensor, Tensor]
"""(user rows, item rows, ratings), each (n,)."""

EMPTY: Rows = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0)


@dataclass(frozen=True, eq=False)
class WiderVocab:
    """A vocab continued: after the rows of `vocab` come those of the ids in `more`, which occur only in ratings that
    are not trained on. A model has the former rows alone (`within`)."""

    vocab: Vocab
    more: Vocab | None = None

    @classmethod
    def of(cls, vocab: Vocab, *several: Iterable[Hashable]) -> WiderVocab:
        """A vocab, and the ids it lacks of several columns. Raises DataError for ids of another kind."""
        each = [_distinct(vocab, ids) for ids in several]
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
        """Rows of n ids, int64 (n,); 0 for ids in neither vocab. Raises DataError for ids of another kind."""
        if is_coded(ids):
            return torch.from_numpy(each_once(lambda each: self.encode(each).numpy(), ids))
        given = ids if isinstance(ids, list) else id_index(ids)
        rows = self.vocab.encode(given)
        if self.more is not None and (new := rows == UNKNOWN).any():
            beyond = self.more.encode(id_index(given)[new])
            rows[new] = np.where(beyond == UNKNOWN, UNKNOWN, beyond + len(self.vocab) - 1)
        return torch.from_numpy(rows)

    def decode(self, rows: Tensor) -> np.ndarray:
        """Raw ids of n rows, (n,), in the type they came in; None for row 0."""
        known, beyond = self.within(rows).numpy(), (rows - len(self.vocab) + 1).clamp(min=0).numpy()
        if self.more is None or not beyond.any():
            return self.vocab.decode(known)
        ids = self.vocab.ids[known]
        ids[beyond > 0] = self.more.ids[beyond[beyond > 0]]
        return pd.Series(ids).infer_objects().to_numpy()

    def within(self, rows: Tensor) -> Tensor:
        """The rows as the vocab has them: 0 for those beyond it."""
        return rows if self.more is None else rows.masked_fill(rows >= len(self.vocab), UNKNOWN)


class Aside:
    """Ratings set aside from training: `parts` holds (user rows, item rows, ratings) by name, each (n,) on the CPU.
    Rows are those of `users` and `items`, which continue beyond the vocabs.

    The names are "valid" and "test", in the order of these parts; "weak", the ratings that a threshold leaves out of
    any part; and "file", all of them together in a learner that was loaded."""

    def __init__(self, users: WiderVocab, items: WiderVocab, parts: Mapping[str, Rows]):
        self.users, self.items, self.parts = users, items, parts

    @classmethod
    def of(cls, users: Vocab, items: Vocab, tables: dict[str, pd.DataFrame]) -> Aside:
        """Encode checked tables with the columns user, item and rating; empty ones are left out."""
        tables = {name: table for name, table in tables.items() if len(table)}
        wide = [WiderVocab.of(vocab, *(table[vocab.name] for table in tables.values())) for vocab in (users, items)]
        return cls(wide[0], wide[1], {
            name: (wide[0].encode(table["user"]), wide[1].encode(table["item"]), _ratings(table))
            for name, table in tables.items()})

    @classmethod
    def of_batches(cls, users: Vocab, items: Vocab, parts: dict[str, TensorBatches | None]) -> Aside:
        """Take over batches of (user rows, item rows, ratings), in which ids beyond the vocabs are row 0."""
        rows: dict[str, Rows] = {}
        for name, part in parts.items():
            if isinstance(part, TensorBatches):
                user, item, rating = part.tensors
                rows[name] = user.cpu(), item.cpu(), rating.cpu()
        return cls(WiderVocab(users), WiderVocab(items), rows)

    @property
    def is_of_file(self) -> bool:
        """Whether they are those of a learner that was loaded, which are not told apart."""
        return "file" in self.parts

    def joined(self) -> Rows:
        """The ratings of all parts."""
        return _joined(EMPTY, *self.parts.values())

    def of_part(self, name: str, batches: object) -> Rows | None:
        """The part `name` if `batches` hold the same ratings; None if others were put in their place."""
        own, kept = getattr(batches, "tensors", ()), self.batch(name)
        same = kept is not None and len(own) == 3 and all(torch.equal(a.cpu(), b) for a, b in zip(own, kept))
        return self.parts[name] if same else None

    def batch(self, name: str) -> Rows | None:
        """The part `name` under rows of the vocabs alone (0 beyond them); None if there is no such part."""
        if name not in self.parts:
            return None
        users, items, ratings = self.parts[name]
        return self.users.within(users), self.items.within(items), ratings

    def over(self, users: Vocab, weak: pd.DataFrame) -> Aside:
        """The same ratings over a vocab of more users, and with further `weak` ones (a checked table)."""
        sides = [WiderVocab.of(vocab, old.decode(torch.arange(len(old.vocab), len(old))), weak[vocab.name])
                 for vocab, old in ((users, self.users), (self.items.vocab, self.items))]
        moved = [torch.cat([torch.zeros(1, dtype=torch.int64), side.encode(old.decode(torch.arange(1, len(old))))])
                 for side, old in zip(sides, (self.users, self.items))]
        parts = {name: (moved[0][u], moved[1][i], ratings) for name, (u, i, ratings) in self.parts.items()}
        if len(weak):
            rows = sides[0].encode(weak["user"]), sides[1].encode(weak["item"]), _ratings(weak)
            parts["weak"] = _joined(parts.get("weak", EMPTY), rows)
        return Aside(sides[0], sides[1], parts)


def _distinct(vocab: Vocab, ids: Iterable[Hashable]) -> pd.Index:
    if not is_coded(ids):
        return id_index(ids).unique()
    vocab.encode(ids.iloc[:1])          # ids of another kind: the error shows the first
    return id_index(in_order(ids))


def _joined(*parts: Rows) -> Rows:
    users, items, ratings = (torch.cat(column) for column in zip(*parts))
    return users, items, ratings


def _ratings(table: pd.DataFrame) -> Tensor:
    return torch.tensor(table["rating"].to_numpy(), dtype=torch.float32)

"""MappedAside: ratings set aside from training that stay in files until they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from .aside import Aside, Rows, WiderVocab
from .mapped import MappedBatches, Stored


class ReadParts(Mapping[str, Rows]):
    """Parts that are read, whole, each time they are asked for; only the first time if they are to be kept."""

    def __init__(self, stored: dict[str, Stored], keep: bool):
        self.stored, self.keep, self.kept = stored, keep, dict[str, Rows]()

    def __getitem__(self, name: str) -> Rows:
        rows = self.kept.get(name) or cast(Rows, self.stored[name].whole())
        if self.keep:
            self.kept[name] = rows
        return rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


class MappedAside(Aside):
    """`Aside` whose parts are in the files `stored`, by name. Small ones may be kept in memory."""

    def __init__(self, users: WiderVocab, items: WiderVocab, stored: dict[str, Stored], *, keep: bool = False):
        super().__init__(users, items, ReadParts(stored, keep))
        self.stored = stored

    def of_part(self, name: str, batches: object) -> Rows | None:
        """See `Aside.of_part`."""
        if isinstance(batches, MappedBatches):
            own = self.stored.get(name)
            same = own is not None and (own.folder, own.name) == (batches.stored.folder, batches.stored.name)
            return self.parts[name] if same else None
        return super().of_part(name, batches)

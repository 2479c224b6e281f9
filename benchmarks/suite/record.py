"""benchmarks/recorded.json: the rows that later runs are compared with, and where they were measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .machine import ROOT, commit, machine, today, versions
from .row import Row

RECORDED = ROOT / "benchmarks" / "recorded.json"


@dataclass
class Record:
    """Rows of one machine and one set of versions, with the seed of the sets, splits and models."""

    machine: dict[str, str]
    versions: dict[str, str]
    seed: int
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Sequence[Row], seed: int) -> Record:
        """What was measured just now, here."""
        now, day = commit(), today()
        return cls(machine(), versions(), seed, [replace(row, commit=now, date=day) for row in rows])

    @classmethod
    def load(cls, path: Path = RECORDED) -> Record | None:
        """What `save` wrote, or None where there is no file."""
        if not path.exists():
            return None
        made = json.loads(path.read_text())
        return cls(made["machine"], made["versions"], made["seed"], [Row.from_json(row) for row in made["rows"]])

    def save(self, path: Path = RECORDED) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = {"machine": self.machine, "versions": self.versions, "seed": self.seed,
                "rows": [row.to_json() for row in self.rows]}
        path.write_text(json.dumps(made, indent=1) + "\n")
        return path

    def over(self, older: Record | None) -> Record:
        """This record and the rows of an older one that it lacks, in the older order. Raises ValueError where the two
        are of different machines or versions: one table holds the figures of one machine."""
        if older is None:
            return self
        for name in ("machine", "versions", "seed"):
            if getattr(self, name) != getattr(older, name):
                raise ValueError(f"the recorded rows are of another {name}; record a whole run, without --only, "
                                 "--sizes and --quick, in their place")
        new = {row.key: row for row in self.rows}
        rows = [new.pop(row.key, row) for row in older.rows]
        return Record(self.machine, self.versions, self.seed, [*rows, *new.values()])

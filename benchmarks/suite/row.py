"""Row: one measurement of ours beside a peer's, and the ratios that fell."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

FALL = 1 / 3        # a ratio that lost this much of the recorded one is reported
NEEDED = ("subject", "name", "size", "unit")        # in a file even where they are empty, as the size of start-up is


@dataclass(frozen=True)
class Row:
    """The runs of ours and of a peer at the same thing, in a unit of which less is better (CPU seconds, MiB).

    - `subject`, `name`, `size`, `peer_name`: what was measured, on how much, beside whom; "" is no peer.
    - `ours`, `peer`: one figure for each run; without a peer `peer` is empty.
    - `error`: what `our_error` and `peer_error` are, such as "RMSE"; None where it was not measured.
    - `note`: what a reader must know of this row, such as that batches were counted and not epochs.
    - `commit`, `date`: of the library when the row was measured, filled in when it is recorded."""

    subject: str
    name: str
    size: str
    unit: str
    ours: tuple[float, ...]
    peer_name: str = ""
    peer: tuple[float, ...] = ()
    error: str = ""
    our_error: float | None = None
    peer_error: float | None = None
    note: str = ""
    commit: str = ""
    date: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What stays the same from one run of the suite to the next."""
        return self.subject, self.name, self.size, self.peer_name, self.unit

    @property
    def ratio(self) -> float | None:
        """The peer's median over ours: 2 is half of the peer's time or memory. None without a peer."""
        ours = statistics.median(self.ours)
        return statistics.median(self.peer) / ours if self.peer and ours > 0 else None

    def to_json(self) -> dict[str, Any]:
        """As plain values, the medians and the ratio among them."""
        made = {name: value for name, value in asdict(self).items() if name in NEEDED or value not in (None, "", ())}
        made |= {"ours": _rounded(statistics.median(self.ours)), "ours_runs": [*map(_rounded, self.ours)]}
        if self.peer:
            made |= {"peer": _rounded(statistics.median(self.peer)), "peer_runs": [*map(_rounded, self.peer)],
                     "ratio": None if self.ratio is None else _rounded(self.ratio)}
        return made

    @classmethod
    def from_json(cls, made: dict[str, Any]) -> Row:
        """The row that `to_json` wrote."""
        given = {name: value for name, value in made.items() if name in cls.__dataclass_fields__}
        return cls(**{**given, "ours": tuple(made["ours_runs"]), "peer": tuple(made.get("peer_runs", ()))})


def fallen(recorded: Iterable[Row], measured: Iterable[Row]) -> list[tuple[Row, float, float]]:
    """The measured rows whose ratio fell by a third or more against the recorded row of the same key, with the ratio
    then and now. Rows that only one side has, or that have no ratio, are not compared."""
    before = {row.key: row.ratio for row in recorded}
    found = []
    for row in measured:
        then, now = before.get(row.key), row.ratio
        if then is not None and now is not None and now <= then * (1 - FALL) * (1 + 1e-9):
            found.append((row, then, now))
    return found


def _rounded(value: float) -> float:
    """Four significant digits: more are noise."""
    return float(f"{value:.4g}")

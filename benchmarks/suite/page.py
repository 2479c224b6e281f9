"""docs/benchmarks.md, written from the record: where it was measured, and a table for each subject."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from .machine import ROOT
from .record import Record
from .row import FALL, Row

PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

`make bench` measures these figures, writes them to `benchmarks/recorded.json`, and this page from that file; it is not
edited by hand. Less is better in every unit. A ratio is the peer's figure divided by ours: 2 is half of the peer's time
or memory, 0.5 twice. Figures are medians of the runs that the last column but one counts, of CPU seconds in one thread;
a run in which a ratio is lower by {fall} or more than the recorded one reports it. All sets, splits and models have the
seed {seed}.

| | |
|---|---|
{where}
"""


def write(record: Record, about: dict[str, str], path: Path = PAGE) -> Path:
    """Write the page: `about` gives for each subject the text above its table, a first line that becomes the title."""
    path.write_text(page(record, about))
    return path


def page(record: Record, about: dict[str, str]) -> str:
    measured = sorted({(row.commit, row.date) for row in record.rows}, key=lambda pair: pair[::-1])
    where = [*record.machine.items(), *record.versions.items(),
             *(("commit, date", f"{commit}, {date}") for commit, date in measured)]
    parts = [HEAD.format(fall="a third" if FALL == 1 / 3 else f"{FALL:.0%}", seed=record.seed,
                         where="\n".join(f"| {name} | {value} |" for name, value in where))]
    for subject, text in about.items():
        if rows := [row for row in record.rows if row.subject == subject]:
            title, _, rest = text.partition("\n")
            parts.append(f"## {title.rstrip('.')}\n\n{rest.strip()}\n\n{table(rows)}\n")
    return "\n".join(parts)


def table(rows: Sequence[Row]) -> str:
    """A Markdown table of rows, without the columns that none of them fills."""
    columns = {
        "size": [row.size for row in rows], "what": [row.name for row in rows], "unit": [row.unit for row in rows],
        "collab": [figure(statistics.median(row.ours)) for row in rows],
        "beside": [row.peer_name for row in rows],
        "theirs": [figure(statistics.median(row.peer)) if row.peer else "" for row in rows],
        "ratio": ["" if row.ratio is None else figure(row.ratio) for row in rows],
        "error": [row.error for row in rows],
        "collab's": [number(row.our_error) for row in rows], "the peer's": [number(row.peer_error) for row in rows],
        "runs": [runs(row) for row in rows], "note": [row.note for row in rows],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    lines = [[*kept], ["---"] * len(kept), *(list(cells) for cells in zip(*kept.values()))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    digits = f"{float(f'{value:.3g}'):,.10f}".rstrip("0").rstrip(".")
    return digits if abs(value) >= 100 or value == 0 else f"{value:#.3g}".rstrip(".") if abs(value) >= 1e-4 else digits


def number(error: float | None) -> str:
    return "" if error is None else f"{error:.4f}"


def runs(row: Row) -> str:
    """How many runs the medians are of; of both sides where they differ."""
    return f"{len(row.ours)}" if len(row.peer) in (0, len(row.ours)) else f"{len(row.ours)}, {len(row.peer)}"

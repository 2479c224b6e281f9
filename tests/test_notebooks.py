"""The notebooks run from top to bottom, and are committed with their outputs, small and as they come."""

import sys
from pathlib import Path

import nbformat
import pytest

NBS = Path(__file__).parents[1] / "nbs"
BOOKS = sorted(NBS.glob("*.ipynb"))


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_clean_and_shows_what_is_committed_with_it(path, ml100k_home, monkeypatch, tmp_path):
    monkeypatch.setenv("COLLAB_HOME", str(ml100k_home))
    monkeypatch.syspath_prepend(NBS)
    monkeypatch.delitem(sys.modules, "run", raising=False)
    from run import executed
    committed = nbformat.read(path, as_version=4)
    book = executed(path, fast=True, folder=tmp_path)
    assert [shape_of(cell) for cell in book.cells] == [shape_of(cell) for cell in committed.cells]
    assert path.stat().st_size < 300_000
    counts = [cell.execution_count for cell in committed.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def shape_of(cell):
    """The kinds of what a cell shows, and how many lines of text; not the text, whose last digits, and with them the
    order of close scores, may differ from machine to machine."""
    shown = [out for out in cell.get("outputs", []) if not out.get("text", "").startswith("MovieLens ")]
    return [(out.output_type, sorted(out.get("data", {})), len(out.get("text", "").splitlines())) for out in shown]

"""The notebooks run from top to bottom, and are committed with their outputs, small and as they come."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

BOOKS = sorted((Path(__file__).parents[1] / "nbs").glob("*.ipynb"))


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_clean_and_shows_what_is_committed_with_it(path, ml100k_home, monkeypatch, tmp_path):
    monkeypatch.setenv("COLLAB_HOME", str(ml100k_home))
    book = nbformat.read(path, as_version=4)
    committed = [shape_of(cell) for cell in book.cells]
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [shape_of(cell) for cell in book.cells] == committed
    assert path.stat().st_size < 200_000
    counts = [cell.execution_count for cell in book.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def shape_of(cell):
    """The kinds of what a cell shows, and how many lines of text; not the text, whose last digits, and with them the
    order of close scores, may differ from machine to machine."""
    shown = [out for out in cell.get("outputs", []) if not out.get("text", "").startswith("MovieLens ")]
    return [(out.output_type, sorted(out.get("data", {})), len(out.get("text", "").splitlines())) for out in shown]

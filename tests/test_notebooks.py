"""The notebooks run from top to bottom, and are committed with their outputs, small and as they come."""

import io
import re
import subprocess
import sys
import tokenize
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
    training = next(k for k, cell in enumerate(book.cells) if re.search(r"\.(fit|lr_find)", cell.source))
    for cell, kept in zip(book.cells[:training], committed.cells):
        assert words_of(cell) == words_of(kept)
    assert path.stat().st_size < 300_000
    counts = [cell.execution_count for cell in committed.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_what_runs_in_the_tests_differs_from_what_is_read_in_numbers_only(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if "fast" in cell.metadata:
            assert without_numbers(cell.metadata["fast"]) == without_numbers(cell.source)


def test_outputs_of_a_fast_run_are_not_kept():
    done = subprocess.run([sys.executable, NBS / "run.py", "--fast", "--write"], capture_output=True, text=True)
    assert done.returncode == 2 and "do not go together" in done.stderr


def without_numbers(source):
    """The words and signs of a source, without its comments and empty lines, each number as 0."""
    left_out = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING)
    return [(t.type, "0" if t.type == tokenize.NUMBER else t.string)
            for t in tokenize.generate_tokens(io.StringIO(source.strip() + "\n").readline) if t.type not in left_out]


def shape_of(cell):
    """The kinds of what a cell shows, how many lines of text, and of a table the columns and how many rows; not the
    text, whose last digits, and with them the order of close scores, may differ from machine to machine."""
    shown = [out for out in cell.get("outputs", []) if not out.get("text", "").startswith("MovieLens ")]
    return [(out.output_type, sorted(out.get("data", {})), len(out.get("text", "").splitlines()),
             table_shape(out.get("data", {}))) for out in shown]


def table_shape(data):
    """(columns, number of rows) of a frame; of other results the number of lines."""
    head, _, body = data.get("text/html", "").partition("</thead>")
    if "dataframe" not in head:
        return [], len(data.get("text/plain", "").splitlines()) if "image/png" not in data else 0
    return re.findall("<th>(.*?)</th>", head), body.count("<tr>")


def words_of(cell):
    """What a cell shows but for its numbers, where nothing was trained yet and all that is read is the data."""
    texts = [out.get("text", "") + out.get("data", {}).get("text/plain", "") for out in cell.get("outputs", [])]
    return [re.sub(r"\d[\d.,e+-]*|\s+", " ", t).split() for t in texts if not t.startswith("MovieLens ")]

"""The notebooks of the course run from top to bottom, and are committed with their outputs, as they come."""

import base64
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import nbformat
import pytest
from fresh import FreshProcesses

NBS = Path(__file__).parents[1] / "nbs"
BOOKS = sorted(NBS.glob("*.ipynb"))
LESSONS = [path for path in BOOKS if path.stem != "00_quickstart"]      # which is one page
TRAINING = re.compile(r"\.(fit|lr_find|backward)")
PICTURES = {"image/png", "application/vnd.vegalite.v6+json"}
NUMBER = r"\d+(?:,\d{3})*\.\d+"

each = pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """(a folder for JUPYTER_PATH, the name of the kernel in it that takes no time to import torch)."""
    folder, processes = tmp_path_factory.mktemp("jupyter"), FreshProcesses("notebooks")
    yield folder, processes.kernel(folder)
    processes.close()


@each
def test_a_notebook_runs_clean_and_shows_what_is_committed_with_it(path, kernels, ml100k_home, monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTER_PATH", str(kernels[0]))
    monkeypatch.setenv("COLLAB_HOME", str(ml100k_home))
    monkeypatch.syspath_prepend(NBS)
    monkeypatch.delitem(sys.modules, "run", raising=False)
    from run import executed
    committed = nbformat.read(path, as_version=4)
    book = executed(path, fast=True, folder=tmp_path, kernel="python3" if path == BOOKS[0] else kernels[1])
    assert [shape_of(cell) for cell in book.cells] == [shape_of(cell) for cell in committed.cells]
    training = next((k for k, cell in enumerate(book.cells) if TRAINING.search(cell.source)), len(book.cells))
    for cell, kept in zip(book.cells[:training], committed.cells):
        assert words_of(cell) == words_of(kept)


@each
def test_a_notebook_is_committed_whole_and_small(path):
    committed = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 1_500_000
    counts = [cell.execution_count for cell in committed.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    for cell in committed.cells:
        for out in cell.get("outputs", []):
            assert out.output_type != "error" and out.get("name") != "stderr", out
            assert "Warning" not in out.get("text", "") + out.get("data", {}).get("text/plain", "")


@each
def test_what_runs_in_the_tests_differs_from_what_is_read_in_numbers_only(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if "fast" in cell.metadata:
            assert without_numbers(cell.metadata["fast"]) == without_numbers(cell.source)


@each
def test_a_decimal_number_in_the_prose_is_one_that_a_cell_shows_or_sets(path):
    cells = nbformat.read(path, as_version=4).cells
    shown = {float(number.replace(",", "")) for cell in cells for text in (cell.source, *texts_of(cell))
             if cell.cell_type == "code" for number in re.findall(NUMBER, text)}
    for cell in cells:
        if cell.cell_type == "markdown":
            for number in re.findall(rf"(?<![\w.])-?{NUMBER}(?![\w.]*\d)", prose_of(cell.source)):
                value, digits = abs(float(number.replace(",", ""))), len(number.partition(".")[2])
                assert any(abs(round(one, digits) - value) < 1e-9 for one in shown), f"{number} in: {cell.source[:300]}"


@each_lesson
def test_a_lesson_has_what_a_lesson_needs(path):
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    headings = re.findall("^#+ (.*)", prose, re.M)
    assert headings[-1] == "What to read next"
    assert {"Summary", "Questions", "Exercises"} <= {*headings}
    assert "**The question.**" in prose and "**You need.**" in prose
    questions = re.search("^## Questions\n(.*?)^## ", prose, re.M | re.S).group(1)
    assert 5 <= len(re.findall(r"^\d+\. ", questions, re.M)) <= 10
    exercises = [heading for heading in headings if heading.startswith("Exercise ")]
    solutions = [cell for cell in cells if "solution" in cell.metadata.get("tags", [])]
    assert len(exercises) >= 3
    for number, exercise in enumerate(exercises, 1):
        assert exercise.startswith(f"Exercise {number}: ")
        assert any(cell.source.startswith(f"# Solution {number}") for cell in solutions)
    for cell in solutions:
        assert cell.cell_type == "code" and cell.metadata.jupyter.source_hidden
    words = len(re.findall(r"[A-Za-z][\w'’-]*", re.sub(r"\$[^$]*\$", "", prose)))
    assert 1500 <= words <= 3300
    assert sum(bool(PICTURES & {*out.get("data", {})}) for cell in cells for out in cell.get("outputs", [])) >= 4


def test_the_pictures_of_the_readme_and_the_site_are_those_of_the_notebooks():
    pictures = {}
    for path in BOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if name := cell.metadata.get("picture"):
                (pictures[f"{name}.png"],) = [base64.b64decode(out.data["image/png"]) for out in cell.outputs
                                              if "image/png" in out.get("data", {})]
    kept = NBS.parent / "docs" / "pictures"
    others = {"serve.png"}          # of a page
    assert pictures == {path.name: path.read_bytes() for path in kept.iterdir() if path.name not in others}
    assert len(pictures) >= 2
    readme = (NBS.parent / "README.md").read_text()
    assert sum(f"](docs/pictures/{name})" in readme for name in pictures) >= 2


def test_outputs_of_a_fast_run_are_not_kept():
    done = subprocess.run([sys.executable, NBS / "run.py", "--fast", "--write"], capture_output=True, text=True)
    assert done.returncode == 2 and "do not go together" in done.stderr


def prose_of(markdown):
    """Without code, mathematics and links, whose numbers are not figures."""
    return re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|https?://\S+", " ", markdown, flags=re.S)


def texts_of(cell):
    """What the outputs of a cell say in words and numbers."""
    return [out.get("text", "") + out.get("data", {}).get("text/plain", "") for out in cell.get("outputs", [])]


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
        return [], len(data.get("text/plain", "").splitlines()) if not PICTURES & {*data} else 0
    return re.findall("<th>(.*?)</th>", head), body.count("<tr>")


def words_of(cell):
    """What a cell shows but for its numbers, where nothing was trained yet and all that is read is the data."""
    return [re.sub(r"\d[\d.,e+-]*|\s+", " ", text).split() for text in texts_of(cell)
            if not text.startswith("MovieLens ")]

"""The pages under docs run as they stand, and show the code as it is."""

import inspect
import re
import textwrap
from pathlib import Path

from collab import Learner
from collab.train.events import EVENTS

ROOT = Path(__file__).parents[1]
CALLBACKS = (Path(__file__).parents[1] / "docs" / "callbacks.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", CALLBACKS, re.MULTILINE | re.DOTALL)


def test_the_house_names_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text() + (ROOT / "README.md").read_text()     # which has the models
    rooms = re.findall(r"`([\w/]+)(?:\.py)?`", page)
    for file in (ROOT / "collab").rglob("*.py"):
        if not file.name.startswith("__"):
            assert file.stem in {room.split("/")[-1] for room in rooms}, file


def test_the_loop_that_is_shown_is_the_loop():
    source = inspect.getsource(Learner)
    start, end = source.index('    @scope("fit")\n    def _fit'), source.index("    fit_one_cycle = ")
    loop = re.sub(r'    @scope\("fit"\)\n    def trial.*?\n\n', "", source[start:end], flags=re.DOTALL)
    assert BLOCKS[0].strip() == textwrap.dedent(loop).strip()


def test_every_other_block_runs_from_top_to_bottom(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)         # for the files that they write
    names = {}
    for block in BLOCKS[1:]:
        exec(compile(block, "docs/callbacks.md", "exec"), names)
    assert len(BLOCKS) == 9


def test_callbacks_of_a_reader_have_less_than_ten_lines():
    classes = re.findall(r"^class \w+\(Callback\):\n(?:    .*\n)+", CALLBACKS, re.MULTILINE)
    assert len(classes) == 4 and all(len(c.splitlines()) < 10 for c in classes)


def test_every_event_is_in_the_table():
    table = CALLBACKS[CALLBACKS.index("## Events"):CALLBACKS.index("| raise |")]
    for event in EVENTS:
        assert f"`{event}`" in table or event == "after_validate"     # between before_validate and cleanup_validate

"""The subjects of the battery, each trained once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .cases import CASES
from .subject import Subject, Subjects, assert_same_bits, bits

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is dropped, averaged or guessed is said by a CollabWarning, and no other warning is allowed here."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::collab.CollabWarning"))


@pytest.fixture(scope="session")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    torch.set_num_threads(1)
    return Subjects(tmp_path_factory.mktemp("battery"))


@pytest.fixture(params=CASES)
def it(request: pytest.FixtureRequest, subjects: Subjects) -> Iterator[Subject]:
    """The model under test, which is afterwards what it was."""
    subject = subjects[request.param]
    before = bits(subject.learn)
    yield subject
    assert_same_bits(before, bits(subject.learn))


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn and not rendered, and t-SNE is not iterated: what they look like is tested elsewhere."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox
    from sklearn.manifold import TSNE
    monkeypatch.setattr(Text, "get_window_extent", lambda self, *_, **__: Bbox.unit())
    monkeypatch.setattr(Figure, "draw_without_rendering", lambda self: None)
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"<svg></svg>"))
    monkeypatch.setattr(TSNE, "fit_transform", lambda self, weight, y=None: weight[:, :2])

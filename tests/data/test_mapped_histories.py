import threading

import numpy as np
import pytest
import torch

from collab.data import mapped_histories as module
from collab.data.encoder import append
from collab.data.histories import Histories
from collab.data.mapped import Stored
from collab.data.mapped_histories import mapped_histories


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Two parts of 700 and 50 ratings, sorted in groups of some 90."""
    monkeypatch.setattr(module, "GROUP", 90)
    monkeypatch.setattr(module, "READ", 64)
    draw, found = np.random.default_rng(0), []
    for name, n in (("train", 700), ("valid", 50)):
        rows = np.stack([draw.integers(0, 40, n), draw.integers(0, 30, n), np.zeros(n, int)], 1).astype(np.int32)
        rows[:, 2] = draw.integers(1, 6, n).astype(np.float32).view(np.int32)
        append(tmp_path, name, rows)
        found.append(Stored(tmp_path, name, n))
    return found


def test_histories_in_files_are_those_in_memory(parts):
    users, items, ratings = (torch.cat(column) for column in zip(*(part.whole() for part in parts)))
    named = (users > 0) & (items > 0)
    expected = Histories.of(users[named], items[named], ratings[named], 45)
    for _ in range(2):          # written, and then found
        found = mapped_histories("known", parts, 45)
        assert len(found) == 45
        for own, other in zip(found.tensors().values(), expected.tensors().values()):
            assert torch.equal(own, other) and own.dtype == other.dtype
    assert not list(parts[0].folder.glob(".*"))


def test_changing_what_was_read_changes_no_file(parts):
    found = mapped_histories("known", parts, 40)
    found.columns[:] = 0
    assert mapped_histories("known", parts, 40).columns.sum() > 0


def test_an_interrupted_sort_leaves_nothing(parts, monkeypatch):
    def cut(*_):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr("collab.data.spill.Spill.take", cut)
        with pytest.raises(KeyboardInterrupt):
            mapped_histories("known", parts, 40)
    assert {path.name.split(".")[0] for path in parts[0].folder.iterdir()} == {"train", "valid"}
    assert len(mapped_histories("known", parts, 40)) == 40


def test_without_ratings_all_histories_are_empty(tmp_path):
    append(tmp_path, "train", np.empty((0, 3), np.int32))
    found = mapped_histories("histories", [Stored(tmp_path, "train", 0)], 4)
    assert found.counts.tolist() == [0, 0, 0, 0]


def test_several_that_ask_at_once_write_them_once(parts, monkeypatch):
    """Processes of one torchrun ask for the same histories at the same time."""
    found, written, write = [], [], module._write

    def slowly(*args):
        written.append(args)
        if len(written) == 1:
            other.start()
            other.join(0.5)             # it waits for these to be whole
        write(*args)
    monkeypatch.setattr(module, "_write", slowly)
    other = threading.Thread(target=lambda: found.append(mapped_histories("known", parts, 40)))
    own = mapped_histories("known", parts, 40)
    other.join(10)
    assert len(written) == 1
    assert torch.equal(found[0].columns, own.columns) and torch.equal(found[0].starts, own.starts)
    assert not list(parts[0].folder.glob(".*"))

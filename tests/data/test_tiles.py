"""Tiled batches: every rating once an epoch, in tracks that share no rows."""

import numpy as np
import pytest
import torch

from collab import TensorBatches
from collab.data import tiles
from collab.data.tiles import TiledBatches

N_USERS, N_ITEMS, N = 60, 41, 1_000


@pytest.fixture
def batches(monkeypatch):
    monkeypatch.setattr(tiles, "BLOCK", 8)
    monkeypatch.setattr(tiles, "PIECE", 200)
    draw = np.random.default_rng(0)
    users, items = (torch.from_numpy(draw.integers(0, n, N)) for n in (N_USERS, N_ITEMS))
    return TensorBatches(users, items, torch.arange(N).float(), bs=16, shuffle=True, seed=1)


def epoch(tiled):
    return [tuple(t.tolist() for t in batch) for batch in tiled]


def test_an_epoch_has_every_rating_once_and_batches_do_not_cross_tiles(batches):
    tiled = TiledBatches(batches, N_USERS, N_ITEMS)
    assert tiled.blocks == (8, 6)
    seen = epoch(tiled)
    assert len(seen) == len(tiled) and max(len(batch[0]) for batch in seen) == 16
    rows = [int(k) for batch in seen for k in batch[2]]
    assert sorted(rows) == list(range(N))
    users, items, _ = batches.tensors
    for u, i, r in seen:
        assert u == users[torch.tensor(r).long()].tolist() and i == items[torch.tensor(r).long()].tolist()
        assert len({k // 8 for k in u}) == len({k // 8 for k in i}) == 1


def test_tracks_of_a_piece_have_no_user_and_no_item_in_common(batches):
    pieces = list(TiledBatches(batches, N_USERS, N_ITEMS).pieces())
    assert len(pieces) > 2 and any(len(piece) == 2 for piece in pieces)
    for piece in pieces:
        for column in range(2):
            rows = [set(track.tensors[column].tolist()) for track in piece]
            assert sum(map(len, rows)) == len(set.union(*rows))
        for track in piece:
            assert track.sizes.sum() == len(track.tensors[0])


def test_the_generator_of_the_batches_decides_the_order(batches):
    tiled = TiledBatches(batches, N_USERS, N_ITEMS)
    start = batches.generator.get_state()
    first, second = epoch(tiled), epoch(tiled)
    batches.generator.set_state(start)
    assert epoch(tiled) == first != second
    assert tiled.generator is batches.generator


def test_the_order_is_the_same_without_numba(batches, monkeypatch):
    start = batches.generator.get_state()
    compiled = epoch(TiledBatches(batches, N_USERS, N_ITEMS))
    monkeypatch.setattr(tiles, "not_compiled", lambda: "numba is missing")
    batches.generator.set_state(start)
    assert epoch(TiledBatches(batches, N_USERS, N_ITEMS)) == compiled


@pytest.mark.parametrize(("n_users", "n_items"), [(1, 1), (2, 30), (30, 2)])
def test_few_rows_have_few_tiles(n_users, n_items):
    draw = np.random.default_rng(0)
    users, items = (torch.from_numpy(draw.integers(0, n, 50)) for n in (n_users, n_items))
    tiled = TiledBatches(TensorBatches(users, items, torch.arange(50).float(), bs=8, shuffle=True), n_users, n_items)
    assert sorted(k for batch in epoch(tiled) for k in batch[2]) == list(range(50))

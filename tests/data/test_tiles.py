"""Tiled batches: every rating once an epoch, in tracks that share no rows."""

from itertools import pairwise

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
    monkeypatch.setattr(tiles, "FEWEST", 4)
    monkeypatch.setattr(tiles, "RUN", 60)
    draw = np.random.default_rng(0)
    users, items = (torch.from_numpy(draw.integers(0, n, N)) for n in (N_USERS, N_ITEMS))
    return TensorBatches(users, items, torch.arange(N).float(), bs=16, shuffle=True, seed=1)


def epoch(tiled):
    return [tuple(t.tolist() for t in batch) for batch in tiled]


def test_an_epoch_has_every_rating_once_tile_by_tile_in_batches_of_one_size(batches):
    tiled = TiledBatches(batches, N_USERS, N_ITEMS)
    assert tiled.blocks == (8, 6) and len(tiled) == 63 + 3
    for _ in range(5):
        tracks = [list(track) for piece in tiled.pieces() for track in piece]
        assert sum(map(len, tracks)) == len(tiled)
        every = [torch.cat(columns) for track in tracks for columns in zip(*track)]
        rows = torch.cat(every[2::3]).long()
        assert rows.sort().values.tolist() == list(range(N))
        for column, mine in enumerate(batches.tensors[:2]):
            assert torch.equal(torch.cat(every[column::3]), mine[rows])
        for track, users, items in zip(tracks, every[::3], every[1::3]):
            sizes = [len(r) for _, _, r in track]
            assert max(sizes) <= 16 and max(sizes) - min(sizes) <= 1
            tiles = (users // 8 * 6 + items // 7).tolist()
            assert sum(a != b for a, b in pairwise(tiles)) == len({*tiles}) - 1       # none comes twice


def test_tracks_of_a_piece_have_no_user_and_no_item_in_common(batches):
    pieces = list(TiledBatches(batches, N_USERS, N_ITEMS).pieces())
    assert [len(piece) for piece in pieces] == [2, 2]
    for piece in pieces:
        for column in range(2):
            rows = [{k for batch in track for k in batch[column].tolist()} for track in piece]
            assert all(rows) and sum(map(len, rows)) == len(set.union(*rows))
        for track in piece:
            assert track.sizes.tolist() == [len(batch[0]) for batch in track]


def test_runs_of_a_track_are_the_same_whenever_they_are_made(batches):
    """A chunk may end in the middle of a tile, and a resumed pass begin there."""
    (track, _), _ = TiledBatches(batches, N_USERS, N_ITEMS).pieces()
    runs = list(track.runs(0, len(track.sizes)))
    assert len(runs) > 2 and any(len(run.tensors[0]) >= 60 for run in runs)
    every = [tuple(t.tolist() for t in batch) for batch in track]
    for first in range(len(track.sizes)):
        for last in range(first, len(track.sizes) + 1):
            some = [tuple(t.tolist() for t in batch) for run in track.runs(first, last) for batch in run.batches()]
            assert some == every[first:last]


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


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_arrange_the_ratings_as_one_does(batches, threads):
    one, before = TiledBatches(batches, N_USERS, N_ITEMS), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        several = TiledBatches(batches, N_USERS, N_ITEMS)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for mine, other in zip((*one.rows, one.counts, one.begins), (*several.rows, several.counts, several.begins)):
        np.testing.assert_array_equal(mine, other)


def test_every_rating_is_in_the_tile_of_its_blocks():
    """Also at the ends of blocks, where a quotient in floating point may miss."""
    from collab.data.tile_kernels import number
    for block in (1, 3, 7, 49, 3889):
        rows = np.unique(np.concatenate([np.arange(400) * block + k for k in (-1, 0, 1)]).clip(0))
        tiles, counts = np.empty(len(rows), np.int32), np.zeros((rows[-1] // block + 1, 1), np.int64)
        number(rows, np.zeros(len(rows), np.int64), block, 1, tiles, counts)
        np.testing.assert_array_equal(tiles, rows // block)
        np.testing.assert_array_equal(counts[:, 0], np.bincount(rows // block))


@pytest.mark.parametrize("bs", [1, 8, 49, 1000])
@pytest.mark.parametrize(("n_users", "n_items"), [(1, 1), (2, 30), (30, 2)])
def test_few_rows_have_few_tiles(n_users, n_items, bs):
    draw = np.random.default_rng(0)
    users, items = (torch.from_numpy(draw.integers(0, n, 50)) for n in (n_users, n_items))
    tiled = TiledBatches(TensorBatches(users, items, torch.arange(50).float(), bs=bs, shuffle=True), n_users, n_items)
    seen = epoch(tiled)
    assert sorted(k for batch in seen for k in batch[2]) == list(range(50))
    assert len(seen) == len(tiled) == min(-(-50 // bs) + 3, 50) and all(1 <= len(batch[2]) <= bs for batch in seen)

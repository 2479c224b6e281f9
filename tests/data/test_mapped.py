"""Batches over ratings in files: every row once an epoch, in the same sizes, from the generator of the batches."""

import numpy as np
import pytest
import torch

from collab import TensorBatches
from collab.data import mapped, tiles
from collab.data.encoder import Sizes, Tiling, append
from collab.data.mapped import MappedBatches, Stored
from collab.data.mapped_histories import mapped_histories
from collab.data.mapped_tiles import MappedTiles
from collab.data.tiles import Grid, TiledBatches
from collab.errors import DataError
from collab.loaders import blocks_of, columns_of, pieces_of, streamed

N, N_USERS, N_ITEMS = 1000, 60, 41


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Ratings 0 to 999 in files, as arrays; blocks have 32 rows, and 128 are shuffled together."""
    monkeypatch.setattr(mapped, "BLOCK", 32)
    monkeypatch.setattr(mapped, "CHUNK", 128)
    draw = np.random.default_rng(0)
    rows = np.stack([draw.integers(1, N_USERS, N), draw.integers(1, N_ITEMS, N)], 1).astype(np.int32)
    rows = np.concatenate([rows, np.arange(N, dtype=np.float32).view(np.int32)[:, None]], 1)
    append(tmp_path, "train", rows)
    return rows


@pytest.fixture
def batches(rows, tmp_path):
    return MappedBatches(Stored(tmp_path, "train", N), bs=16, shuffle=True, seed=1, shape=(N_USERS, N_ITEMS),
                         digest="d")


def epoch(batches):
    return [torch.stack([t.double() for t in batch]) for batch in batches]


@pytest.mark.parametrize("bs", [1, 16, 100, 128, 500, 5000])
def test_an_epoch_has_every_row_once_in_the_batches_of_tensors(batches, rows, bs):
    batches = batches.with_(bs)
    assert len(batches) == -(-N // bs)
    for _ in range(2):
        found = epoch(batches)
        assert [b.shape[1] for b in found] == [len(b[0]) for b in TensorBatches(torch.arange(N), bs=bs)]
        every = torch.cat(found, 1)
        order = every[2].argsort()
        np.testing.assert_array_equal(every[2][order], np.arange(N))
        np.testing.assert_array_equal(every[:2][:, order].T, rows[:, :2])
    assert [t.dtype for t in next(iter(batches))] == [torch.int64, torch.int64, torch.float32]


def test_rows_near_to_each_other_are_shuffled_and_blocks_come_in_random_order(batches):
    one, other = epoch(batches), epoch(batches)
    assert not torch.equal(torch.cat(one, 1), torch.cat(other, 1))
    first = torch.cat(one, 1)[2][:128]          # of the blocks that are shuffled together
    blocks = sorted(set((first // 32).int().tolist()))
    assert len(blocks) == 4 or (len(blocks) == 5 and 31 in blocks)          # the last block is short
    assert blocks != [0, 1, 2, 3] and first.tolist() != first.sort().values.tolist()
    assert len(set((first[:16] // 32).int().tolist())) > 1      # a batch has rows of several blocks


def test_in_order_rows_are_as_they_are_stored_and_nothing_is_drawn(batches):
    before = batches.generator.get_state()
    ordered = batches.in_order()
    assert isinstance(ordered, MappedBatches)
    assert torch.cat(epoch(ordered), 1)[2].tolist() == list(range(N))
    assert torch.equal(batches.generator.get_state(), before)
    assert torch.equal(ordered.generator.get_state(), before)


def test_the_order_follows_from_the_state_of_the_generator(batches):
    epoch(batches)
    state = batches.generator.get_state()
    once = epoch(batches)
    again = batches.with_(seed=77)
    again.generator.set_state(state)
    assert all(map(torch.equal, once, epoch(again)))
    cut = iter(again)
    again.generator.set_state(state)
    next(cut)                   # an epoch that is cut off has drawn all that it draws
    drawn = again.generator.get_state()
    again.generator.set_state(state)
    epoch(again)
    assert torch.equal(again.generator.get_state(), drawn)


def test_runs_are_the_same_each_time_they_are_asked_for(batches):
    tracks = [track for piece in batches.pieces() for track in piece]
    for track in tracks[::-1]:
        whole = [torch.stack([t.double() for t in batch]) for batch in track]
        for first, last in ((0, 1), (1, 4), (2, 3)):
            run, = track.runs(first, last)
            assert torch.equal(torch.stack([t.double() for t in run.tensors]), torch.cat(whole[first:last], 1))


def test_all_rows_can_be_had_in_blocks_or_at_once(batches, rows):
    assert columns_of(batches) is None and streamed(batches) is batches and pieces_of(batches) is batches
    blocks = list(batches.blocks(128))
    assert [len(block[0]) for block in blocks] == [128] * 7 + [104]
    for given in (blocks, blocks_of(batches)(), [batches.tensors]):
        users, items, ratings = map(torch.cat, zip(*given))
        assert (users.dtype, ratings.dtype) == (torch.int64, torch.float32)
        np.testing.assert_array_equal(torch.stack([users, items], 1), rows[:, :2])
        assert ratings.tolist() == list(range(N))


def test_rows_beyond_those_of_a_model_are_read_as_unknown(rows, tmp_path):
    users, items, _ = Stored(tmp_path, "train", N, within=(30, 20)).rows(0, N)
    assert users.tolist() == [u if u < 30 else 0 for u in rows[:, 0]]
    assert items.tolist() == [i if i < 20 else 0 for i in rows[:, 1]]


def test_all_at_once_is_refused_where_there_is_no_room(batches, monkeypatch):
    monkeypatch.setattr(mapped, "free_memory", lambda device: 10_000)
    with pytest.raises(DataError, match="all 1,000 ratings at once need 0 MB, and 0 MB are free; train a model that"):
        _ = batches.tensors


def test_files_that_were_cut_short_are_told(batches, tmp_path):
    path = tmp_path / "train.items"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DataError, match="the files of encoded ratings are cut short; remove the folder"):
        epoch(batches)


def test_files_that_were_removed_are_told(tmp_path):
    folder = tmp_path / "encoded"
    with pytest.raises(DataError, match="encoded: these encoded ratings were removed, perhaps as others were made"):
        Stored(folder, "train", N).rows(0, 10)
    with pytest.raises(DataError, match="encoded: these encoded ratings were removed, perhaps as others were made"):
        mapped_histories("known", [Stored(folder, "train", N)], N_USERS)


def test_a_batch_size_below_one_is_refused(batches):
    for bs in (0, 2.5):
        with pytest.raises(DataError, match="the batch size bs must be a whole number from 1 on"):
            batches.with_(bs)


# Tiles ------------------------------------------------------------------------------------------------------------

@pytest.fixture
def tiled(batches, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "BLOCK", 8)
    monkeypatch.setattr(tiles, "FEWEST", 4)
    monkeypatch.setattr(tiles, "RUN", 60)
    grid = Grid.of(N_USERS, N_ITEMS)
    assert not MappedTiles.there(batches)
    tiling = Tiling(tmp_path, grid, np.bincount(rows[:, 0], minlength=N_USERS), Sizes(10, 100))
    for first in range(0, N, 300):
        tiling.add(rows[first:first + 300])
    tiling.write(lambda share: None)
    assert MappedTiles.there(batches) and not list(tmp_path.glob("*.spill"))
    return MappedTiles(batches, N_USERS, N_ITEMS)


def test_tiles_in_files_are_those_in_memory(tiled, batches, rows):
    tensors = [torch.from_numpy(rows[:, k].copy()).long() for k in (0, 1)] + [torch.arange(N).float()]
    within = TiledBatches(TensorBatches(*tensors, bs=16, shuffle=True, seed=1), N_USERS, N_ITEMS)
    np.testing.assert_array_equal(tiled.counts, within.counts)
    for _ in range(2):          # rows of a tile are in the order of the table in both, and are shuffled alike
        for one, other in zip(epoch(tiled), epoch(within), strict=True):
            assert torch.equal(one, other)
    assert torch.equal(batches.generator.get_state(), within.generator.get_state())


def test_tiles_stay_in_files(tiled):
    assert not hasattr(tiled, "rows") and columns_of(tiled) is None and pieces_of(tiled) is tiled

"""TensorBatches: every row once an epoch, in an order that the seed decides and nobody else feels."""

from __future__ import annotations

import pytest
import torch

from collab import DataError, TensorBatches
from collab.data import batches as module


def rows(batches: TensorBatches) -> list[int]:
    return [row for batch in batches for row in batch[0].tolist()]


@pytest.mark.parametrize("n, bs", [(10, 3), (12, 4), (5, 5), (5, 100), (1, 1), (7, 1)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_has_every_row_once_and_keeps_the_last_short_batch(n, bs, shuffle):
    batches = TensorBatches(torch.arange(n), torch.arange(n) * 10.0, bs=bs, shuffle=shuffle)
    sizes = [len(x) for x, y in batches]
    assert sizes == [bs] * (n // bs) + ([n % bs] if n % bs else []) and len(batches) == len(sizes)
    assert sorted(rows(batches)) == list(range(n)) and batches.n == n
    assert all((y == x * 10).all() for x, y in batches)     # the tensors stay side by side


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_may_have_any_shape(shuffle):
    x = torch.arange(24).view(6, 2, 2)
    batches = list(TensorBatches(x, bs=4, shuffle=shuffle))
    assert [b[0].shape for b in batches] == [(4, 2, 2), (2, 2, 2)]
    assert torch.equal(torch.cat([b[0] for b in batches]).flatten().sort().values, torch.arange(24))


@pytest.mark.parametrize("chunk", [1, 4, 7, 1000])
def test_rows_are_complete_however_many_are_permuted_at_a_time(chunk, monkeypatch):
    plain = rows(TensorBatches(torch.arange(25), bs=4, shuffle=True, seed=3))
    monkeypatch.setattr(module, "CHUNK", chunk)
    batches = TensorBatches(torch.arange(25), bs=4, shuffle=True, seed=3)
    assert [len(x) for x, in batches] == [4] * 6 + [1] == [len(x) for x, in batches]
    assert rows(TensorBatches(torch.arange(25), bs=4, shuffle=True, seed=3)) == plain
    assert sorted(plain) == list(range(25))


def test_without_shuffle_the_order_is_that_of_the_rows():
    assert rows(TensorBatches(torch.arange(9), bs=2)) == list(range(9))


def test_epochs_differ_and_the_seed_repeats_them():
    made = [TensorBatches(torch.arange(50), shuffle=True, seed=seed) for seed in (1, 1, 2)]
    epochs = [[rows(batches) for _ in range(4)] for batches in made]
    assert epochs[0] == epochs[1] != epochs[2]
    assert len({tuple(e) for e in epochs[0] + epochs[2]}) == 8


def test_an_epoch_is_the_permutation_of_its_generator():
    order = torch.randperm(50, generator=torch.Generator().manual_seed(5)).tolist()
    assert rows(TensorBatches(torch.arange(50), bs=8, shuffle=True, seed=5)) == order


def test_nothing_is_drawn_from_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches = TensorBatches(torch.arange(50), shuffle=True)
    rows(batches), rows(batches.in_order())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert rows(TensorBatches(torch.arange(50), shuffle=True, seed=9)) == rows(TensorBatches(
        torch.arange(50), shuffle=True, seed=9))


def test_looking_in_order_leaves_the_training_order_as_it_was():
    batches, alone = (TensorBatches(torch.arange(50), bs=7, shuffle=True, seed=4) for _ in range(2))
    assert rows(batches) == rows(alone)
    assert rows(batches.in_order()) == list(range(50))
    assert rows(batches) == rows(alone)


def test_another_batch_size_keeps_rows_order_and_seed():
    batches = TensorBatches(torch.arange(50), bs=7, shuffle=True, seed=4)
    larger = batches.with_(bs=10)
    assert (larger.bs, larger.shuffle, len(larger)) == (10, True, 5)
    assert rows(larger) == rows(TensorBatches(torch.arange(50), shuffle=True, seed=4))
    assert rows(batches.with_(seed=5)) == rows(TensorBatches(torch.arange(50), shuffle=True, seed=5)) != rows(larger)
    assert rows(batches.with_(shuffle=False)) == list(range(50)) and batches.bs == 7


def test_no_rows_are_no_batches():
    for shuffle in (False, True):
        batches = TensorBatches(torch.empty(0), shuffle=shuffle)
        assert len(batches) == 0 and list(batches) == []


@pytest.mark.parametrize("tensors", [(), (torch.arange(3), torch.arange(4))])
def test_tensors_of_different_lengths_are_refused(tensors):
    with pytest.raises(DataError, match="one length, got"):
        TensorBatches(*tensors)


@pytest.mark.parametrize("bs", [0, -5, 2.5])
def test_a_batch_size_that_is_none_is_refused(bs):
    with pytest.raises(DataError, match=f"whole number from 1 on, got {bs}"):
        TensorBatches(torch.arange(3), bs=bs)


def test_data_too_large_for_the_device_moves_batch_by_batch(monkeypatch):
    monkeypatch.setattr(module, "_fits", lambda tensors, device: False)
    batches = TensorBatches(torch.arange(10), bs=4, shuffle=True, device="meta")
    assert batches.tensors[0].device.type == "cpu"
    assert [(x.device.type, len(x)) for x, in batches] == [("meta", 4), ("meta", 4), ("meta", 2)]


def test_it_prints_its_sizes():
    batches = TensorBatches(torch.arange(1000), bs=64)
    assert repr(batches) == "TensorBatches(1,000 rows, bs=64, 16 batches, shuffle=False)"

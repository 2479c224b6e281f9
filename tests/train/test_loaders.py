"""Batches of any kind: where their random generators lie, what they tell of themselves, and those without a length."""

import types

import pytest
import torch
from helpers import X, Y, fit_quietly, some_cb
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Subset, TensorDataset

from collab import Checkpoint, DataBunch, Learner, TensorBatches
from collab.data.batches import OnDevice
from collab.loaders import Description, Generators, generator_of, unshuffled

ROWS = TensorDataset(X, Y)


class Draws(torch.utils.data.Dataset):
    """Rows whose noise comes from a generator of their own."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(8)

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, k):
        x, y = ROWS[k]
        return x + 0.01 * torch.randn(1, generator=self.generator), y


def loader(where):
    """A shuffled loader with its generator at one of the places where torch takes one."""
    generator = torch.Generator().manual_seed(7)
    sampler = RandomSampler(ROWS, generator=generator)
    return {"nowhere": lambda: DataLoader(ROWS, batch_size=4, shuffle=True),
            "loader": lambda: DataLoader(ROWS, batch_size=4, shuffle=True, generator=generator),
            "sampler": lambda: DataLoader(ROWS, batch_size=4, sampler=sampler),
            "batch_sampler": lambda: DataLoader(ROWS, batch_sampler=BatchSampler(sampler, 4, False)),
            "two": lambda: DataLoader(ROWS, batch_size=4, sampler=sampler, generator=torch.Generator().manual_seed(9)),
            "dataset": lambda: DataLoader(Draws(), batch_size=4, sampler=sampler),
            "subset": lambda: DataLoader(Subset(Draws(), range(8)), batch_size=4, sampler=RandomSampler(
                range(8), generator=generator))}[where]()


PLACES = ["nowhere", "loader", "sampler", "batch_sampler", "two", "dataset", "subset"]


def learner(where, cbs=None, seed=None, bunch=True):
    """A line learner over such a loader, in a DataBunch or in any other object with the parts."""
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    data = DataBunch(loader(where), [(X, Y)], device="cpu") if bunch else types.SimpleNamespace(train=loader(where),
                                                                                              valid=[(X, Y)])
    return Learner(data, model, lr=0.1, cbs=cbs, seed=seed)


@pytest.mark.parametrize("bunch", [True, False])
@pytest.mark.parametrize("where", PLACES)
def test_a_fit_over_a_loader_resumes_to_the_same_bits(where, bunch, tmp_path):
    """The last batch is a short one, so that a sampler is exhausted when it is drawn."""
    whole = learner(where, seed=3, bunch=bunch)
    fit_quietly(whole, 3)

    def stop(self):
        if (self.learn.epoch, self.learn.i) == (1, 1) and self.learn.training:
            raise KeyboardInterrupt
    cut = learner(where, [Checkpoint(tmp_path / "c", every=1), some_cb(order=200, after_batch=stop)], 3, bunch)
    fit_quietly(cut, 3)
    assert cut.interrupted
    resumed = learner(where, seed=3, bunch=bunch)
    fit_quietly(resumed, 3, resume=tmp_path / "c")
    assert torch.equal(resumed.model.weight, whole.model.weight)


@pytest.mark.parametrize("bunch", [True, False])
@pytest.mark.parametrize("where", PLACES)
def test_looking_at_a_loader_does_not_change_the_next_fit(where, bunch):
    def weight(look):
        learn = learner(where, bunch=bunch)
        look(learn)
        fit_quietly(learn, 2)
        return learn.model.weight.item()
    looks = [lambda learn: learn.validate(learn.data.train), lambda learn: learn.summary(),
             lambda learn: learn.lr_find(num_it=4)]
    looks += [lambda learn: learn.data.one_batch()] if bunch else []
    assert {weight(look) for look in looks} == {weight(lambda learn: None)}


@pytest.mark.parametrize("where", PLACES[1:])
def test_two_learners_of_one_seed_over_a_loader_do_the_same(where):
    one, other = learner(where, seed=3), learner(where, seed=3)
    generator_of(other.data.train).manual_seed(99)          # as if it had been drawn from before
    before = generator_of(other.data.train).get_state()
    for learn in (one, other):
        fit_quietly(learn, 2)
    assert torch.equal(one.model.weight, other.model.weight)
    assert torch.equal(generator_of(other.data.train).get_state(), before)


def test_looking_at_batches_that_are_not_of_the_data_draws_from_them_without_a_trace():
    learn, other = learner("loader"), loader("batch_sampler")
    before = generator_of(other).get_state()
    learn.validate(other)
    learn.get_preds(other)
    assert torch.equal(generator_of(other).get_state(), before)


def test_several_generators_are_saved_and_put_back_as_one():
    one, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    both = Generators([one, other])
    state = both.get_state()
    drawn = [torch.rand(2, generator=g) for g in (one, other)]
    both.set_state(state)
    assert all(torch.equal(torch.rand(2, generator=g), before) for g, before in zip((one, other), drawn))
    both.manual_seed(1)
    assert torch.equal(one.get_state(), other.get_state())
    with pytest.raises(ValueError, match="is not that of these 2 generators"):
        both.set_state(one.get_state())
    assert generator_of([(X, Y)]) is None and generator_of(None) is None


# Batches without a length ---------------------------------------------------------------------------------------------

class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(ROWS)


@pytest.mark.parametrize("make", [lambda: DataLoader(Stream(), batch_size=4), lambda: ((X, Y) for _ in range(3))])
def test_batches_without_a_length_are_refused_before_training_with_what_to_do(make):
    learn = Learner(DataBunch(make(), device="cpu"), nn.Linear(1, 1))
    for fit in (lambda: learn.fit(1), lambda: learn.fit_one_cycle(1), learn.lr_find):
        with pytest.raises(TypeError, match="the training batches have no length .* __len__, or pass a list of them"):
            fit()
    learn = Learner(DataBunch([(X, Y)], make(), device="cpu"), nn.Linear(1, 1))
    with pytest.raises(TypeError, match="the validation batches have no length"):
        learn.fit(1)
    assert not learn.recorder.losses.size
    for look in (learn.validate, learn.get_preds):
        with pytest.raises(TypeError, match="the batches to evaluate have no length"):
            look()


def test_a_stream_that_says_its_length_is_trained_on():
    stream = type("Long", (Stream,), {"__len__": lambda self: len(ROWS)})()
    learn = Learner(DataBunch(DataLoader(stream, batch_size=4), DataLoader(stream, batch_size=4), device="cpu"),
                    nn.Linear(1, 1))
    fit_quietly(learn, 2)
    assert len(learn.recorder.losses) == 6 and len(learn.recorder.rows) == 2


@pytest.mark.parametrize(("batches", "n_tensors", "n_rows", "bs"), [
    (TensorBatches(X, Y, bs=4), 2, 10, 4), (OnDevice(TensorBatches(X, Y, bs=4), torch.device("cpu")), 2, 10, 4),
    (DataLoader(ROWS, batch_size=3), 2, 10, 3), (DataLoader(Draws(), batch_size=3), None, 10, 3),
    ([(X[:4], Y[:4]), (X[4:], Y[4:])], 4, 10, None), (types.SimpleNamespace(), None, None, None),
    (None, None, None, None),
])
def test_batches_are_described_by_what_they_tell(batches, n_tensors, n_rows, bs):
    found = Description.of(batches)
    assert (found.n_rows, found.bs) == (n_rows, bs)
    assert found.tensors is None if n_tensors is None else len(found.tensors) == n_tensors


def test_only_batches_with_a_method_for_it_come_unshuffled():
    rows = TensorBatches(X, shuffle=True, seed=3)
    assert torch.equal(torch.cat([x for (x,) in unshuffled(rows)]), X)
    loader = DataLoader(ROWS, batch_size=3, shuffle=True)           # newer ones have a flag `in_order`
    assert unshuffled(loader) is loader and unshuffled([(X, Y)]) == [(X, Y)]

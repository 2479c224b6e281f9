"""Several processes: what evaluates inside a fit and beside it, data in an order of their own, and one `with` after
another."""

import random

import pytest
import torch
from helpers import Batchwise, line_learner, some_cb
from processes import in_processes, values
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from collab import (
    RMSE,
    CollabDataBunch,
    DataBunch,
    GradientAccumulation,
    Learner,
    RecordEvery,
    collab_learner,
    synthetic,
)
from collab.losses import mse

RATINGS = synthetic(n_users=120, n_items=90, n_ratings=1_500, seed=3).ratings
ROWS = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
NUMBERS = torch.arange(200.0).unsqueeze(1)


def learner(*cbs, **options):
    data = CollabDataBunch.from_df(RATINGS, seed=0, bs=100, val_bs=130, device="cpu")
    return collab_learner(data, n_factors=5, lr=5e-3, wd=0.1, seed=1, cbs=[Batchwise(), *cbs], **options)


def loaded(batches=None, shuffle=False, **options):
    """A line on the rows, in batches of 16."""
    rows = TensorDataset(ROWS, NUMBERS)
    train = DataLoader(rows, 16) if batches is None else batches
    return Learner(DataBunch(train, DataLoader(rows, 16, shuffle=shuffle), device="cpu"), nn.Linear(3, 1), mse, lr=0.01,
                   metrics=[RMSE()], **options)


def weights(learn):
    return torch.cat([p.detach().flatten() for p in learn.model.parameters()])


def same_as_one(make):
    """The weights after a fit are those of one process, to 1e-5, and the same in both."""
    def fitted(rank):
        with (learn := make()).no_logging(), learn.distributed(minutes=0.5):
            learn.fit(2)
        return weights(learn)
    one, (first, second) = fitted(0), values(in_processes(2, fitted))
    torch.testing.assert_close(first, one, atol=1e-5, rtol=0)
    assert torch.equal(first, second)


# Evaluation inside a fit and beside it ---------------------------------------------------------------------------

@pytest.mark.parametrize("event", ["before_batch", "after_step", "after_batch", "after_epoch", "cleanup_fit"])
def test_an_evaluation_inside_a_fit_takes_nothing_from_accumulated_gradients(event):
    def look(self):
        if self.learn.training or not event.endswith("batch"):
            self.learn.validate()
    same_as_one(lambda: learner(GradientAccumulation(250), some_cb(**{event: look})))


def test_recordings_are_those_of_one_process_and_printed_once(capfd):
    def recorded(rank):
        learn = learner(GradientAccumulation(250), record := RecordEvery(2))
        with learn.distributed(minutes=0.5):
            learn.fit(1)
        return record.rows
    one, printed = recorded(0), capfd.readouterr().out
    many = values(in_processes(2, recorded))
    for row, own in zip(many[0], one, strict=True):
        assert row == pytest.approx(own, abs=1e-6)
    assert many[0] == many[1] and capfd.readouterr().out.split() == printed.split()


def test_the_range_test_takes_the_steps_of_one_process():
    """Batches that are only looked at leave the gradients that accumulate across them."""
    def found(rank):
        learn = learner(GradientAccumulation(250))
        with learn.distributed(minutes=0.5):
            return tuple(learn.lr_find(plot=False))
    one = found(0)
    for each in values(in_processes(2, found)):
        assert each == pytest.approx(one, rel=1e-4)


def test_an_evaluation_before_any_fit_is_of_one_model_and_of_all_rows():
    """Processes with random states and weights of their own, and batches that are shuffled."""
    def measured(rank):
        torch.manual_seed(rank)
        learn = loaded(shuffle=True)
        own = learn.validate()["rmse"]
        with learn.distributed(minutes=0.5):
            return own, learn.validate()["rmse"], learn.get_preds()[1].sort(0).values
    first, *others = values(in_processes(3, measured))
    for _, together, targets in (first, *others):
        assert together == pytest.approx(first[0], rel=1e-6) and torch.equal(targets, NUMBERS)
    assert all(own != first[0] for own, *_ in others)


def test_other_models_are_refused_on_the_way_in():
    def work(rank):
        with line_learner().distributed(minutes=0.5) if rank else loaded().distributed(minutes=0.5):
            pass
    for how, what in in_processes(2, work):
        assert how == "raised" and "than process 0: shape of parameters: " in what


# The order of the rows -------------------------------------------------------------------------------------------

class Anyhow(torch.utils.data.Sampler):
    """In an order of each process's own."""

    def __iter__(self):
        return iter(random.sample(range(200), 200))

    def __len__(self):
        return 200


def test_batches_that_differ_between_processes_are_refused():
    def work(rank):
        random.seed(rank)
        learn = loaded(DataLoader(TensorDataset(ROWS, NUMBERS), 16, sampler=Anyhow()))
        with learn.no_logging(), learn.distributed(minutes=0.5):
            learn.fit(1)
    for how, what in in_processes(2, work):
        assert how == "raised" and "the processes have come to different batches" in what


def test_batches_drawn_from_the_global_random_state_are_those_of_one_process():
    def make():
        torch.manual_seed(5)
        return loaded(DataLoader(TensorDataset(ROWS, NUMBERS), 16, shuffle=True))
    same_as_one(make)


def test_the_same_rows_in_another_order_are_refused():
    """Of implicit data too, whose ratings are all the same, in one batch."""
    def work(rank):
        table = RATINGS[["user", "item"]].iloc[::-1 if rank else 1]
        data = CollabDataBunch.from_df(table, valid_pct=0, seed=0, bs="full", device="cpu", implicit=True)
        with (learn := collab_learner(data, "bpr", seed=1)).distributed(minutes=0.5):
            learn.fit(1)
    for how, what in in_processes(2, work):
        assert how == "raised" and "has other training rows than process 0" in what


def test_data_without_a_seed_is_named_where_models_differ_by_it():
    """Another split has other items, and so another table; the shapes that are alike are left out."""
    def work(rank):
        data = CollabDataBunch.from_df(RATINGS[:400], seed=rank, bs=100, device="cpu")
        with collab_learner(data, n_factors=5, seed=1).distributed(minutes=0.5):
            pass
    for how, what in in_processes(2, work):
        assert how == "raised" and "'i_bias.weight': " in what and "'mu'" not in what
        assert what.endswith("; each must make the same calls, with data of the same seed, such as seed=0")


# One `with` after another ----------------------------------------------------------------------------------------

def test_one_with_after_another():
    def work(rank):
        learn, other = learner(), loaded()
        for one, minutes in ((learn, 0.5), (learn, 0.4), (other, 0.3)):
            with one.no_logging(), one.distributed(minutes=minutes):
                one.fit(1)
                one.fit(1)
        return weights(learn), weights(other)
    first, second = values(in_processes(2, work))
    assert all(map(torch.equal, first, second))


def test_one_with_inside_another_is_refused():
    def work(rank):
        with line_learner().distributed(minutes=0.5), line_learner().distributed(minutes=0.5):
            pass
    for how, what in in_processes(2, work):
        assert how == "raised" and "this process is in a process group already" in what

"""The compiled pass of ranking objectives takes the steps of the loop, with the same draws, to rounding."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import Batchwise, interrupted_at, same
from test_fused import SPARSE, bunch, near, reason

from collab import (
    BPR,
    Callback,
    Checkpoint,
    EmbeddingDotBias,
    Learner,
    Logistic,
    Negatives,
    Ridge,
    SampledSoftmax,
    TensorBatches,
    collab_learner,
)
from collab.learner.tile_order import TileOrder
from collab.train import fused
from collab.train.row_adagrad import RowAdagrad

OBJECTIVES = [BPR(), BPR(4, beta=1.0, exclude_seen=False), Logistic(3), Logistic(2, beta=0.5, exclude_seen=False),
              SampledSoftmax(5), SampledSoftmax(50, temperature=0.3, beta=1.0), SampledSoftmax(5, exclude_seen=True),
              SampledSoftmax(5, log_q=False)]


def one_cycle(learn):
    learn.fit_one_cycle(3)


def two_fits(learn):
    learn.fit_sgdr(2, 1)
    learn.fit(1, 1e-3, wd=0.5)


def fitted(data, cbs=(), fit=one_cycle, model="dot_bias", objective=OBJECTIVES[0], **options):
    torch.manual_seed(3)
    learn = collab_learner(data, model, loss_func=type(objective)(**objective.config), cbs=cbs, metrics=[],
                           **{"n_factors": 5, "lr": 5e-3, "wd": 0.1, **options})
    assert (reason(learn) is None) == (not any(isinstance(cb, Batchwise) for cb in cbs)), reason(learn)
    with learn.no_logging():
        fit(learn)
    return learn


def agree(one, other):
    """Losses and weights are the same. A range bends the scores of a user so little at first that the gradient of what
    they share is hardly more than rounding."""
    np.testing.assert_allclose(one.recorder.losses[:100], other.recorder.losses[:100], atol=1e-5, rtol=1e-5)
    for a, b in zip(one.recorder.rows, other.recorder.rows):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-4)
        assert a["valid_loss"] == pytest.approx(b["valid_loss"], rel=1e-3)
    bent = getattr(one.model, "y_range", None) is not None
    differ = bent and not any(isinstance(cb, Logistic) for cb in one.cbs)
    for (name, p), (_, q) in zip(one.model.named_parameters(), other.model.named_parameters()):
        if not (differ and name in ("u_bias.weight", "mu")):
            near(p, q)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize("model", ["dot", "dot_bias"])
def test_the_compiled_pass_takes_the_steps_of_the_loop(objective, model):
    one, other = (fitted(bunch(), cbs, model=model, objective=objective) for cbs in ([], [Batchwise()]))
    agree(one, other)
    start = collab_learner(bunch(), model, n_factors=5).model
    for name, p in one.model.named_parameters():
        if "weight" in name and "bias" not in name:
            assert (p - start.get_parameter(name)).abs().max() > 0.05


@pytest.mark.parametrize(("bs", "options"), [
    (1, {"objective": Logistic(2)}), (7, {}), (1000, {"n_factors": 50}), (64, {"opt_func": RowAdagrad, "wd": None}),
    (64, {"y_range": (0.5, 5.5)}), (32, {"opt_func": partial(torch.optim.AdamW, betas=(0.99, 0.9))}),
    (64, {"fit": two_fits})], ids=["bs 1", "bs 7", "50 factors", "RowAdagrad", "range", "betas", "two fits"])
def test_other_batches_optimizers_and_fits(bs, options):
    data = bunch(SPARSE[:400] if bs == 1 else SPARSE, bs)
    agree(*(fitted(data, cbs, **options) for cbs in ([], [Batchwise()])))


@pytest.mark.parametrize("options", [{}, {"opt_func": RowAdagrad, "lr": 0.05}], ids=["AdamW", "RowAdagrad"])
def test_a_ridge_counts_chosen_items_alone(options):
    one, other, without = (fitted(bunch(), cbs, objective=Logistic(3), wd=0.0, **options)
                           for cbs in ([Ridge(20.0)], [Ridge(20.0), Batchwise()], []))
    agree(one, other)
    assert one.model.u_weight.weight.norm() < 0.9 * without.model.u_weight.weight.norm()


def test_few_drawn_items_at_a_time(monkeypatch):
    whole = fitted(bunch(), objective=OBJECTIVES[1])
    monkeypatch.setattr(fused, "MAX_DRAWN", 4 * 100)
    cut = fitted(bunch(), objective=OBJECTIVES[1])
    agree(whole, cut)


def test_random_numbers_go_on_as_after_the_loop():
    after = []
    for cbs in ([], [Batchwise()]):
        fitted(bunch(), cbs)
        after.append(torch.rand(5))
    assert torch.equal(*after)


def test_tracks_are_trained_one_after_the_other():
    """They would draw from the same stream."""
    found = []
    for threads, cbs in ((1, []), (2, []), (1, [Batchwise()])):
        torch.set_num_threads(threads)
        try:
            found.append(fitted(bunch(SPARSE), [TileOrder(), *cbs], opt_func=RowAdagrad, wd=None, lr=0.05))
        finally:
            torch.set_num_threads(1)
    assert same(found[0].model.state_dict(), found[1].model.state_dict())
    agree(found[0], found[2])


def test_a_fit_that_was_cut_off_ends_with_the_same_bits(tmp_path):
    def at(name, *cbs, **resume):
        keep = Checkpoint(tmp_path / name, every=5)
        return fitted(bunch(), seed=2, fit=lambda learn: learn.fit_one_cycle(3, cbs=[keep, *cbs], **resume))
    whole = at("whole")
    assert at("cut", interrupted_at("after_chunk", 15)).interrupted
    resumed = at("cut", resume=tmp_path / "cut")
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert whole.recorder.losses.tolist() == resumed.recorder.losses.tolist()


class Raised(Callback):
    def before_chunk(self):
        self.learn.chunk.n = min(self.learn.chunk.n, 5)

    def after_chunk(self):
        self.learn.objective.n_negatives += 40


def test_more_negatives_are_drawn_from_the_next_pass_on():
    learn = fitted(bunch(), [Raised()], fit=lambda learn: learn.fit(1))
    plain = fitted(bunch(), fit=lambda learn: learn.fit(1))
    near(learn.model.i_weight.weight, plain.model.i_weight.weight)
    assert learn.objective.n_negatives == 1 + 40 * 13


class Few(Callback):
    """Trains on the ratings of the items that a smaller model has."""

    def before_train(self):
        users, items, ratings = self.learn.data.train.tensors
        self.learn.batches = TensorBatches(*(t[items < 50] for t in (users, items, ratings)), bs=32)


def test_drawn_items_that_the_model_does_not_have_raise_as_in_the_loop():
    for cbs in ([], [Batchwise()]):
        learn = Learner(data := bunch(), EmbeddingDotBias(5, data.n_users, 50), cbs=[Few(), BPR(3), *cbs])
        with learn.no_logging(), pytest.raises(IndexError):
            learn.fit(1)


class Drawn(BPR):
    def drawn(self):
        items, scores = super().drawn()
        return items, scores + 1


class Doubled(SampledSoftmax):
    def get_loss(self):
        super().get_loss()
        self.learn.loss = 2 * self.learn.loss


class Prepared(BPR):
    def setup(self, data):
        super().setup(data)
        self.negatives = Negatives(data.counts(), 1.0)


class Assigned(BPR):
    def __init__(self):
        super().__init__()
        self.drawn = lambda: (None, torch.zeros(len(self.learn.yb), 1))


@pytest.mark.parametrize("objective", [Drawn(), Doubled(), Prepared(), Assigned(), type("Popular", (Logistic,), {
    "make_negatives": lambda self, data: super(Logistic, self).make_negatives(data)})()],
    ids=["drawn", "loss", "setup", "of an instance", "draw"])
def test_an_objective_of_ones_own_has_its_way(objective):
    learn = collab_learner(bunch(), loss_func=objective, n_factors=5)
    assert reason(learn) == f"{objective} replaces get_loss()"


class Same(BPR):
    name = "mine"


def test_an_objective_that_changes_no_step_is_compiled():
    assert reason(collab_learner(bunch(), loss_func=Same())) is None

"""The compiled pass takes the steps of the loop: same batches, same losses, same weights and moments, to rounding."""

import copy
import signal
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from helpers import Batchwise, interrupted_at, same
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from collab import (
    Callback,
    Checkpoint,
    CollabDataBunch,
    EmbeddingDotBias,
    GradientClip,
    Learner,
    ParamScheduler,
    ShortEpoch,
    TensorBatches,
    TerminateOnNaN,
    Threads,
    collab_learner,
    sched_lin,
    synthetic,
)
from collab.data import tiles
from collab.learner.tile_order import TileOrder
from collab.losses import mse
from collab.train import fused, fusible
from collab.train.callback import Dispatch
from collab.train.callbacks.order import Order
from collab.train.row_adagrad import RowAdagrad

pytestmark = pytest.mark.filterwarnings("ignore:the training loss of epoch")       # of rates that are meant to be wrong

RATINGS = synthetic(n_users=120, n_items=90, n_ratings=2_500, seed=3).ratings
SPARSE = synthetic(n_users=900, n_items=700, n_ratings=2_000, seed=4).ratings      # rows are touched once or twice


def bunch(ratings=RATINGS, bs=32, **options):
    return CollabDataBunch.from_df(ratings, seed=0, bs=bs, device="cpu", **options)


def reason(learn):
    return fused.why_not(learn, Dispatch(learn.cbs, learn.verbs), learn.data.train)


def both(fit, data, model="dot_bias", **options):
    """Two learners that had the same fit: one compiled, one batch by batch."""
    found = []
    for cbs in ([], [Batchwise()]):
        learn = collab_learner(data, model, **{"n_factors": 5, "lr": 5e-3, "wd": 0.1, **options})
        learn.add_cbs(cbs)
        assert (reason(learn) is None) == (not cbs), reason(learn)
        with learn.no_logging():
            fit(learn)
        found.append(learn)
    return found


def agree(one, other):
    """The first 100 losses, the rates, the errors of epochs, the weights and the optimizer's numbers are the same to
    rounding."""
    np.testing.assert_allclose(one.recorder.losses[:100], other.recorder.losses[:100], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(one.recorder.lrs, other.recorder.lrs, rtol=1e-12)
    assert (one.recorder.moms == other.recorder.moms
            or one.recorder.moms == pytest.approx(other.recorder.moms, rel=1e-12))
    for a, b in zip(one.recorder.rows, other.recorder.rows):
        assert [*a] == [*b] and a["rmse"] == pytest.approx(b["rmse"], abs=5e-4)
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-4)
    for a, b in zip(numbers(one), numbers(other), strict=True):
        near(a, b)


def near(one, other):
    """At least 99 of 100 numbers are the same to rounding: Adam moves a weight whose gradients are nothing but rounding
    as far as any other."""
    apart = off(one, other)
    assert apart.float().mean() <= 0.01, (one[apart], other[apart])


def off(one, other):
    """Which numbers differ by more than rounding."""
    return (one - other).abs() > 2e-3 * (other.abs() + other.abs().max())


def numbers(learn):
    """The parameters and what the optimizer keeps of each."""
    return [tensor.detach() for p in learn.model.parameters() for tensor in (p, *learn.opt.state[p].values())]


FITS = {
    "constant": lambda learn: learn.fit(3),
    "one-cycle": lambda learn: learn.fit_one_cycle(3),
    "decay by hand": lambda learn: learn.fit_one_cycle(3, 0.02, wd=0.4),
    "sgdr": lambda learn: learn.fit_sgdr(2, 1, cycle_mult=2),
    "flat-cosine": lambda learn: learn.fit_flat_cos(3, wd=0.05),
    "rates by group": lambda learn: learn.fit_one_cycle(3, slice(1e-3, 2e-2)),
    "two fits": lambda learn: (learn.fit_one_cycle(2), learn.fit(2, 1e-3)),
    # powers of 2: 1 - 0.02 * 50 is 0 or 4e-18, by how it is computed, and what is left of weights grows again
    "every step takes the whole weight": lambda learn: learn.fit(2, 2 ** -6, wd=64.0),
    "weights decay faster than momentum": lambda learn: learn.fit(2, 0.02, wd=45.0),
}


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("ratings", [RATINGS, SPARSE], ids=["dense", "sparse"])
def test_the_compiled_pass_takes_the_steps_of_the_loop(fit, ratings):
    agree(*both(FITS[fit], bunch(ratings)))


def test_rows_that_are_touched_once_at_a_high_rate():
    """Sigmoids saturate, gradients are as small as eps."""
    agree(*both(lambda learn: learn.fit(3, 3 / 64, wd=0), bunch(SPARSE[:900], 17)))


@pytest.mark.parametrize("bs", [1, 7, 64, 1024, 4096])
def test_any_batch_size(bs):
    agree(*both(lambda learn: learn.fit_one_cycle(2, 5e-3), bunch(RATINGS[:600] if bs == 1 else RATINGS, bs)))


@pytest.mark.parametrize("n_factors", [1, 8, 9, 50, 56])     # in vectors of eight: 1, 3 with padding, 7
def test_any_number_of_factors(n_factors):
    agree(*both(lambda learn: learn.fit_one_cycle(1), bunch(), n_factors=n_factors))


@pytest.mark.parametrize(("model", "options"), [
    ("dot", {}), ("dot_bias", {"y_range": None}), ("dot_bias", {"opt_func": torch.optim.AdamW, "lr": 5e-3, "wd": 0.1}),
    ("dot_bias", {"opt_func": partial(torch.optim.AdamW, betas=(0.8, 0.95), eps=1e-4), "lr": 5e-3}),
    ("dot_bias", {"opt_func": partial(torch.optim.AdamW, betas=(0.99, 0.9)), "lr": 5e-3}),
    ("dot_bias", {"opt_func": RowAdagrad, "lr": 0.05, "wd": None}),
    ("dot", {"opt_func": RowAdagrad, "lr": 0.05, "wd": None})])
def test_other_models_and_optimizers(model, options):
    agree(*both(lambda learn: learn.fit_one_cycle(2), bunch(SPARSE), model, **options))


@pytest.mark.parametrize(("bs", "optimizer"), [(4, "AdamW"), (64, "RowAdagrad"), (1000, "RowAdagrad")])
def test_the_default_recipe_with_its_ridge(bs, optimizer):
    one, other = both(lambda learn: learn.fit_one_cycle(2), bunch(bs=bs), lr=None, wd=None)
    assert type(one.opt).__name__ == optimizer
    agree(one, other)
    start = collab_learner(bunch(bs=bs), n_factors=5).model
    assert all((p.norm() - q.norm()).abs() > 1e-3 for p, q in zip(one.model.parameters(), start.parameters())
               if p.dim())


def test_tracks_are_trained_at_the_same_time_to_the_same_bits():
    """Two threads have rows of their own; the loop takes the same batches one by one."""
    found = []
    for threads, cbs in ((1, []), (2, []), (1, [Batchwise()])):
        torch.set_num_threads(threads)
        try:
            learn = collab_learner(bunch(SPARSE), n_factors=5, cbs=[TileOrder(), *cbs])
            learn.cbs = [cb for cb in learn.cbs if not isinstance(cb, Threads)]
            with learn.no_logging():
                learn.fit_one_cycle(3)
        finally:
            torch.set_num_threads(1)
        found.append(learn)
    assert same(found[0].model.state_dict(), found[1].model.state_dict())
    assert found[0].recorder.losses.tolist() == found[1].recorder.losses.tolist()
    agree(found[0], found[2])


class Noise(Callback):
    """Moves each prediction of the loop by up to 4 units in the last place, and after each step each weight by up to
    one: what another order of sums may do."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def noisy(self, numbers, size):
        return numbers * (1 + size * (2 * torch.rand(numbers.shape, generator=self.generator) - 1))

    def after_pred(self):
        if self.learn.training:
            self.learn.pred = self.noisy(self.learn.pred, 2 ** -21)

    @torch.no_grad()
    def after_step(self):
        for p in self.learn.model.parameters():
            p.copy_(self.noisy(p, 2 ** -23))


class Double(Callback):
    """Trains in float64."""

    order = -1

    def before_fit(self):
        self.learn.model.double()

    def before_batch(self):
        self.learn.yb = self.learn.yb.double()


DRAWN = {"ratings": st.sampled_from(["dense", "sparse"]), "bs": st.integers(1, 300), "epochs": st.integers(1, 3),
         "wd": st.floats(0, 1), "fit": st.sampled_from(["fit", "fit_one_cycle", "fit_flat_cos"])}


def drawn(ratings, bs):
    """Few batches, as loops are slow."""
    return bunch({"dense": RATINGS, "sparse": SPARSE}[ratings][:min(900, 80 * bs)], bs)


@settings(max_examples=20, deadline=None)
@given(lr=st.floats(1e-4, 0.02), **DRAWN)
def test_whatever_is_combined(ratings, bs, epochs, lr, wd, fit):
    """Each loss is that of the loop to 1e-5, at rates up to four times the default."""
    one, other = both(lambda learn: getattr(learn, fit)(epochs, lr, wd=wd), drawn(ratings, bs))
    np.testing.assert_allclose(one.recorder.losses[:100], other.recorder.losses[:100], atol=1e-5, rtol=1e-5)
    for a, b in zip(one.recorder.rows, other.recorder.rows, strict=True):
        assert a["rmse"] == pytest.approx(b["rmse"], abs=5e-4)


@settings(max_examples=10, deadline=None)
@given(lr=st.floats(1e-4, 0.05), **DRAWN)
@example(ratings="dense", bs=12, epochs=3, lr=0.05, wd=0, fit="fit")
@example(ratings="sparse", bs=46, epochs=3, lr=0.05, wd=0.09, fit="fit_flat_cos")
@example(ratings="sparse", bs=16, epochs=3, lr=0.05, wd=0, fit="fit_flat_cos")
def test_rates_at_which_rounding_grows(ratings, bs, epochs, lr, wd, fit):
    """Each loss is as near to that of the loop in float64 as those of loops in float32 are, to 1e-6: where a rating is
    predicted, or a weight is 0, to the last bits, the gradient is rounding, and Adam steps as far for it as for any
    other."""
    def go(learn):
        getattr(learn, fit)(epochs, lr, wd=wd)
    one, other = both(go, drawn(ratings, bs))
    looped = []
    for cb in (Double(), *map(Noise, range(3))):
        learn = collab_learner(drawn(ratings, bs), "dot_bias", n_factors=5, lr=5e-3, cbs=[Batchwise(), cb])
        with learn.no_logging():
            go(learn)
        looped.append(learn)
    exact, loops = looped[0], [other, *looped[1:]]
    truth = exact.recorder.losses[:100].astype(float)
    mine, *theirs = [abs(learn.recorder.losses[:100] - truth) / (1 + truth) for learn in (one, *loops)]
    assert (mine <= 1e-6 + np.maximum.accumulate(np.max(theirs, axis=0))).all()
    for true, a, *rows in zip(*(learn.recorder.rows for learn in (exact, one, *loops)), strict=True):
        assert abs(a["rmse"] - true["rmse"]) <= 5e-4 + max(abs(row["rmse"] - true["rmse"]) for row in rows)
    for true, *tables in zip(*(numbers(learn) for learn in (exact, one, *loops)), strict=True):
        mine, *theirs = [off(values, true).float().mean() for values in tables]
        assert mine <= 0.01 + max(theirs)


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.9, 0.999), (0.8, 0.95)])
def test_the_first_moments_have_the_ratio_of_their_formulas(betas):
    """m = (1 - beta1) g and v = (1 - beta2) g^2, whatever g is."""
    learn = collab_learner(bunch(bs=10), n_factors=5, lr=5e-3, opt_func=partial(torch.optim.AdamW, betas=betas))
    assert reason(learn) is None
    with learn.no_logging():
        learn.fit(1, cbs=ShortEpoch(1))
    for state in learn.opt.state.values():
        m, v = state["exp_avg"].double(), state["exp_avg_sq"].double()
        touched = m.abs() > 1e-12
        torch.testing.assert_close(v[touched] / m[touched] ** 2, torch.full_like(
            m[touched], (1 - betas[1]) / (1 - betas[0]) ** 2), rtol=5e-7, atol=0)


@pytest.mark.parametrize("size", [1, 1e-4, 1e-5, 1e-6, 1e-7])
def test_untouched_rows_move_as_by_hand(size):
    """One row, touched at the first of six steps, by a gradient that is large or about as small as eps: AdamW in plain
    Python beside the compiled pass."""
    data = CollabDataBunch.from_df(RATINGS[:60], valid_pct=0, seed=0, bs=10, device="cpu")
    learn = collab_learner(data, "dot", n_factors=1, lr=0.05, wd=0.3, opt_func=torch.optim.AdamW)
    with torch.no_grad():
        learn.model.i_weight.weight.mul_(size)
    loop = copy.deepcopy(learn)
    loop.add_cbs(Batchwise())
    seen = []
    loop.add_cbs(type("Seen", (Callback,), {"after_backward": lambda self: seen.append(
        self.learn.model.u_weight.weight.grad.clone())})())
    start = learn.model.u_weight.weight.detach().clone()
    for one in (learn, loop):
        with one.no_logging():
            one.fit(1)
    touched = torch.stack(seen).squeeze(-1) != 0
    row = int((touched[0] & ~touched[1:].any(0)).nonzero()[0])
    w, m, v = start[row].item(), 0.0, 0.0
    for t, grad in enumerate(seen, 1):
        g = grad[row].item()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = (1 - 0.05 * 0.3) * w - 0.05 / (1 - 0.9 ** t) * m / ((v / (1 - 0.999 ** t)) ** 0.5 + 1e-8)
    decayed = start[row].item() * (1 - 0.05 * 0.3) ** len(seen)
    assert learn.model.u_weight.weight[row].item() - decayed == pytest.approx(w - decayed, rel=2e-4)


def test_a_fit_that_was_cut_off_ends_with_the_same_bits(tmp_path):
    whole, cut = (collab_learner(bunch(), n_factors=5) for _ in range(2))
    assert reason(whole) is None
    with whole.no_logging():
        whole.fit_one_cycle(3, cbs=Checkpoint(tmp_path / "whole", every=5))
    with cut.no_logging():
        cut.fit_one_cycle(3, cbs=[Checkpoint(tmp_path / "cut", every=5), interrupted_at("after_chunk", 15)])
    assert cut.interrupted
    resumed = collab_learner(bunch(), n_factors=5)
    with resumed.no_logging():
        resumed.fit_one_cycle(3, cbs=Checkpoint(tmp_path / "cut", every=5), resume=tmp_path / "cut")
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert whole.recorder.losses.tolist() == resumed.recorder.losses.tolist()


def test_ctrl_c_leaves_the_weights_of_a_whole_chunk(tmp_path):
    learn = collab_learner(bunch(), n_factors=5)
    with learn.no_logging():
        learn.fit(2, cbs=[Checkpoint(tmp_path / "c", every=10), interrupted_at("after_chunk", 3)])
    loop = collab_learner(bunch(), n_factors=5, cbs=Batchwise())
    with loop.no_logging():
        loop.fit(2, cbs=interrupted_at("after_batch", 30))
    assert learn.interrupted and learn.recorder.n_batches == 30
    assert int(learn.opt.state[learn.model.i_bias.weight]["step"]) == 30
    torch.testing.assert_close(learn.model.i_weight.weight[1:], loop.model.i_weight.weight[1:], rtol=1e-3, atol=1e-5)


def test_ctrl_c_in_the_middle_of_a_chunk_waits_for_its_end(monkeypatch):
    """What is in the weights is in the history too."""
    learn, train = collab_learner(bunch(), n_factors=5), fused.FusedPass._train

    def interrupted(self, *given):
        signal.raise_signal(signal.SIGINT)
        train(self, *given)
    monkeypatch.setattr(fused.FusedPass, "_train", interrupted)
    with learn.no_logging():
        learn.fit(2)
    steps = int(learn.opt.state[learn.model.i_bias.weight]["step"])
    assert learn.interrupted and steps == learn.recorder.n_batches == len(learn.data.train)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_batches_that_come_in_a_way_of_their_own_are_taken_so():
    class Half(TensorBatches):
        def __iter__(self):
            yield from list(super().__iter__())[::2]
    data = bunch()
    data.train = Half(*data.train.tensors, bs=32, shape=data.train.shape)
    for cbs in ([], [TileOrder()]):
        learn = collab_learner(data, n_factors=5, lr=5e-3, cbs=cbs)
        assert reason(learn).startswith("the batches are not slices")
        with learn.no_logging():
            learn.fit(1)
        assert learn.recorder.n_batches == -(-len(data.train) // 2)


def test_a_short_epoch_of_other_batches_is_trained_by_the_loop():
    class Own:
        bs = 32

        def __init__(self, batches):
            self.batches, self.tensors, self.n = batches, batches.tensors, batches.n

        def __len__(self):
            return len(self.batches)

        def __iter__(self):
            return iter(self.batches)
    data = bunch()
    data.train = Own(data.train)
    learn = collab_learner(data, n_factors=5, lr=5e-3, cbs=ShortEpoch(3))
    with learn.no_logging():
        learn.fit(1)
    assert learn.recorder.n_batches == 3


def test_a_scheduled_decay_of_row_adagrad_is_left_to_the_loop():
    learn = collab_learner(bunch(), opt_func=RowAdagrad, lr=0.05, cbs=ParamScheduler({"weight_decay": sched_lin(1, 1)}))
    assert reason(learn) == "a schedule changes weight_decay"


def test_a_short_epoch_and_a_fit_without_shuffling():
    data = bunch()
    agree(*both(lambda learn: learn.fit_one_cycle(2, cbs=ShortEpoch(10)), data))
    data.train = data.train.in_order()
    agree(*both(lambda learn: learn.fit_one_cycle(2), data))


@pytest.mark.parametrize("cbs", [[], [TileOrder()]], ids=["in order", "in tiles"])
@pytest.mark.parametrize("row", [10**6, -1])
def test_a_row_that_the_model_does_not_have_is_refused_as_by_the_loop(row, cbs, monkeypatch):
    learn = collab_learner(bunch(), n_factors=5, cbs=cbs)
    learn.data.train.tensors[0][7] = row
    for compiled in (True, False):
        monkeypatch.setattr(tiles, "not_compiled", lambda compiled=compiled: None if compiled else "numba is missing")
        for cb in cbs:
            cb.tiled = None
        with learn.no_logging(), pytest.raises(IndexError):
            learn.fit(1)


@pytest.mark.parametrize("options", [{"lr": 5e-3}, {"opt_func": RowAdagrad, "lr": 0.05}], ids=["AdamW", "RowAdagrad"])
def test_tables_are_packed_into_the_same_room_for_as_long_as_a_fit(options):
    """What a pass leaves there is not seen by the next one: here weights that are not finite."""
    rooms, alive = [], []

    class Spoil(Callback):
        def after_train(self):
            own = fused.BUFFERS[self.learn.run]
            rooms.append(tuple(room.ctypes.data for room in own))
            alive.append(weakref.ref(own[0]))
            for room in own:
                room[:] = np.nan
    learns = []
    for cbs in ([Spoil()], []):
        learn = collab_learner(bunch(), n_factors=5, cbs=cbs, **options)
        with learn.no_logging():
            learn.fit(3)
        learns.append(learn)
    assert len(rooms) == 3 and len({*rooms}) == 1 and alive[0]() is None
    assert same(learns[0].model.state_dict(), learns[1].model.state_dict())


def test_a_fit_that_fails_keeps_no_packed_tables():
    """Somebody may hold on to the error, and with it to all that the fit had."""
    alive = []

    class Fail(Callback):
        def after_train(self):
            alive.append(weakref.ref(fused.BUFFERS[self.learn.run][0]))
            raise ZeroDivisionError
    learn = collab_learner(bunch(), n_factors=5, lr=5e-3, cbs=Fail())
    with learn.no_logging(), pytest.raises(ZeroDivisionError) as error:
        learn.fit(1)
    assert alive[0]() is None and error.value.__traceback__ is not None


@pytest.mark.parametrize("options", [{"lr": 5e-3}, {"opt_func": RowAdagrad, "lr": 0.05, "cbs": [TileOrder()]}],
                         ids=["AdamW", "RowAdagrad in tracks"])
@pytest.mark.parametrize("bad", [0, 20, -1], ids=["first", "middle", "last"])
def test_a_loss_that_is_not_finite_ends_a_pass_before_it_changes_the_weights(options, bad, capsys):
    """A rating is infinite. Which batch it is in, the loop says."""
    data, found = bunch(SPARSE), []
    ratings = data.train.tensors[2]
    for cbs in ([], [Batchwise()]):
        stop = TerminateOnNaN()
        given = {**options, "cbs": [*options.get("cbs", ()), stop, *cbs]}
        learn = collab_learner(data, n_factors=5, **given)
        learn.add_cbs(type("Break", (Callback,), {"order": 900, "before_fit": lambda self: ratings[bad].fill_(
            torch.inf)})())
        data.train.generator.manual_seed(5)
        torch.set_num_threads(2)
        with learn.no_logging():
            learn.fit(1)
        torch.set_num_threads(1)
        ratings[bad] = 3.0
        assert stop.stopped and learn.recorder.losses[-1] == torch.inf
        assert f"batch {learn.recorder.n_batches - 1}: training ends" in capsys.readouterr().out
        found.append(learn)
    assert found[0].recorder.n_batches == found[1].recorder.n_batches <= len(data.train)
    for p, q in zip(found[0].model.parameters(), found[1].model.parameters()):
        assert torch.isfinite(p).all()
        near(p, q)


@pytest.mark.parametrize("event", ["before_chunk", "after_chunk", "after_train"])
def test_torch_has_its_threads_again_after_a_pass_however_it_ends(event):
    def stop(self):
        seen.append(torch.get_num_threads())
        raise RuntimeError
    seen = []
    learn = collab_learner(bunch(), n_factors=5)
    learn.cbs = [cb for cb in learn.cbs if not isinstance(cb, Threads)]
    torch.set_num_threads(2)
    try:
        with learn.no_logging(), pytest.raises(RuntimeError):
            learn.fit(1, cbs=type("Stop", (Callback,), {event: stop})())
        assert (seen, torch.get_num_threads()) == ([2 if event == "after_train" else 1], 2)
    finally:
        torch.set_num_threads(1)


class Rate(Callback):
    """Halves the rate of biases from the tenth batch on: by the optimizer's own, or by the chunk's."""

    def __init__(self, how, order):
        self.how, self.order = how, order

    def before_chunk(self):
        chunk = self.learn.chunk
        if not chunk.first:
            chunk.n = 10
        elif self.how == "chunk":
            chunk.hypers["lr"][1] *= 0.5
        else:
            self.learn.opt.param_groups[1]["lr"] = 5e-4

    def before_batch(self):
        if self.learn.training and self.learn.i >= 10:
            group = self.learn.opt.param_groups[1]
            group["lr"] = group["lr"] * 0.5 if self.how == "chunk" else 5e-4


@pytest.mark.parametrize(("how", "fit"), [("optimizer", "fit"), ("chunk", "fit_one_cycle")])
def test_a_callback_sets_a_rate_in_a_chunk(how, fit):
    def go(learn):
        getattr(learn, fit)(1, 1e-3, cbs=Rate(how, Order.SCHEDULE + 1))
    one, other = both(go, bunch())
    agree(one, other)
    assert one.recorder.lrs[9] > 1.5 * one.recorder.lrs[10]


@pytest.mark.parametrize("n", [0, -1, 2.5, 10 ** 6, None])
def test_a_chunk_is_cut_to_some_of_its_batches(n):
    def cut(self):
        self.learn.chunk.n = n
    learn = collab_learner(bunch(), n_factors=5, cbs=type("Cut", (Callback,), {"before_chunk": cut})())
    with learn.no_logging(), pytest.raises(ValueError, match=f"to 1 to 63 batches, got n={n}"):
        learn.fit(1)


# What is not fused ------------------------------------------------------------------------------------------------

class Subclass(EmbeddingDotBias):
    def forward(self, users, items):
        return super().forward(users, items) * 1.01


class MoreParameters(EmbeddingDotBias):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.scale = nn.Parameter(torch.ones(()))

    def param_groups(self):
        return [{"name": "all", "params": [*self.parameters()]}]


class OwnRecorder(type(collab_learner(bunch(RATINGS[:50])).recorder)):
    def after_loss(self):
        super().after_loss()


def hooked():
    learn = collab_learner(bunch())
    learn.model.register_forward_hook(lambda *args: None)
    return learn


def frozen():
    learn = collab_learner(bunch())
    learn.freeze_to(1)
    return learn


def doubled():
    learn = collab_learner(bunch())
    learn.set_model(learn.model.double())
    return learn


def built(cls):
    data = bunch()
    return collab_learner(data, cls(4, data.n_users, data.n_items, y_range=data.y_range))


OTHERS = {
    "own forward": (lambda: built(Subclass), "Subclass is not a plain dot product"),
    "more parameters": (lambda: built(MoreParameters), "MoreParameters is not a plain dot product"),
    "network": (lambda: collab_learner(bunch(), "net"), "EmbeddingNet is not a plain dot product"),
    "loss": (lambda: collab_learner(bunch(), loss_func="huber"), "the loss is huber, not mse"),
    "own loss": (lambda: collab_learner(bunch(), loss_func=lambda p, y: mse(p, y)), "the loss is <lambda>"),
    "optimizer": (lambda: collab_learner(bunch(), opt_func=torch.optim.SGD), "the optimizer is SGD"),
    "amsgrad": (lambda: collab_learner(bunch(), opt_func=partial(torch.optim.AdamW, amsgrad=True)), "amsgrad"),
    "no second moment": (lambda: collab_learner(bunch(), opt_func=partial(torch.optim.AdamW, betas=(0.9, 0.0))),
                         "a beta2 of 0"),
    "callback": (lambda: collab_learner(bunch(), cbs=GradientClip(1.0)), "GradientClip listens to every batch"),
    "overridden": (lambda: collab_learner(bunch(), cbs=OwnRecorder()), "OwnRecorder listens to every batch"),
    "verb": (lambda: collab_learner(bunch(), loss_func="softmax"), "replaces predict"),
    "schedule": (lambda: collab_learner(bunch(), cbs=ParamScheduler({"eps": sched_lin(1e-8, 1e-6)})), "changes eps"),
    "hook": (hooked, "the model has a hook"),
    "frozen": (frozen, "some parameters are frozen"),
    "float64": (doubled, "not float32 on the CPU, but float64"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_the_kernels_do_not_do_is_done_by_the_loop_and_said(case):
    make, why = OTHERS[case]
    learn = make()
    assert why in reason(learn) and f"batch by batch, since {reason(learn)}" in str(learn.summary())


def test_rows_that_the_model_does_not_have_raise_as_in_the_loop():
    data = bunch()
    learn = Learner(data, EmbeddingDotBias(4, data.n_users - 20, data.n_items), lr=0.01)
    assert reason(learn) == "some ratings are of rows that the model does not have"
    with pytest.raises(IndexError), learn.no_logging():
        learn.fit(1)


def test_without_numba_the_loop_trains(monkeypatch):
    monkeypatch.setattr(fusible, "not_compiled", lambda: "numba cannot be imported")
    learn = collab_learner(bunch())
    assert reason(learn) == "numba cannot be imported"
    with learn.no_logging():
        learn.fit_one_cycle(1)
    assert len(learn.recorder.rows) == 1


def test_the_summary_says_that_the_pass_is_compiled():
    assert "Training: compiled" in str(collab_learner(bunch()).summary())


def test_an_error_in_a_chunk_leaves_the_steps_that_were_taken():
    def stop(self):
        raise ZeroDivisionError
    learn = collab_learner(bunch(), n_factors=5, cbs=type("Stop", (Callback,), {"after_chunk": stop})())
    before = learn.model.i_weight.weight.detach().clone()
    with pytest.raises(ZeroDivisionError), learn.no_logging():
        learn.fit(1)
    assert not torch.equal(before, learn.model.i_weight.weight)
    assert int(learn.opt.state[learn.model.i_bias.weight]["step"]) == len(learn.data.train)

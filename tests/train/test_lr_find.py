"""The range test: what it sees, what it suggests, and that it leaves no trace."""

import hashlib
import math

import numpy as np
import pytest
import torch
from helpers import fit_quietly, line_learner, raise_at
from matplotlib.figure import Figure
from torch import nn

from collab import (
    Callback,
    CancelBatch,
    CollabDataBunch,
    CollabWarning,
    DataBunch,
    GradientAccumulation,
    GradientClip,
    Learner,
    TensorBatches,
    collab_learner,
    synthetic,
)
from collab.train.lr_find import Curve, minimum, slide, steep, valley

LRS = np.logspace(-5, 0, 6)


def curve_of(losses, lrs=LRS, before=5.0, noise=0.01):
    losses = np.array(losses, dtype=float)
    return Curve(lrs[:len(losses)], losses, before, np.full(len(losses), noise))


def test_minimum_is_a_tenth_of_the_rate_with_the_least_loss():
    assert minimum(curve_of([5, 4, 3, 1, 2, 9])) == pytest.approx(1e-2 / 10)


def test_steep_is_where_the_loss_falls_fastest_before_its_least():
    # medians of three: 5, 4.5, 3, -1.5, -1.5, 1.5; central differences over equal steps: -0.5 at the left end, then
    # -1, -3, -2.25, 1.5, 3
    assert steep(curve_of([5, 4.5, 3.0, -1.5, -2, 1.5])) == pytest.approx(LRS[2])
    # the fall from 9 to 4 is steeper, and is one back from divergence
    lrs = np.logspace(-9, 0, 10)
    assert steep(curve_of([5, 5, 4, 2, 1, 1, 9, 9, 4, 4], lrs)) == pytest.approx(lrs[2])


def test_valley_is_midway_between_half_of_the_fall_and_the_slide():
    # from 5 down to 1: half is done at 3, two thirds of the way, in the logarithm, from 1e-4 (4) to 1e-3 (2.5);
    # it climbs again after 1e-1, a fifth of which is the slide
    assert valley(curve_of([5, 4, 2.5, 1, 2, 9])) == pytest.approx((10 ** (-4 + 2 / 3) * 1e-1 / 5) ** 0.5)
    # neither a bump on the way down nor how far it rises afterwards makes a difference
    assert valley(curve_of([5, 4, 2.5, 2.7, 1, 99])) == valley(curve_of([5, 4, 2.5, 2.4, 1, 6]))


def test_valley_where_half_is_done_at_the_first_rate():
    assert valley(curve_of([2, 1, 1, 9])) == pytest.approx((LRS[0] * LRS[2] / 5) ** 0.5)


def test_slide_goes_down_from_the_high_end_until_the_loss_has_come_back_to_its_least():
    # a quarter of the fall from 5 to 1 is 1: at 1e-1 the loss is within that of its least, at 1 it is not
    assert slide(curve_of([5, 4, 1, 1, 1.5, 9])) == pytest.approx(1e-1 / 5)
    # a single loss that is out of line is not where it climbs
    assert slide(curve_of([5, 1, 1, 9, 1, 1, 9, 9], np.logspace(-7, 0, 8))) == pytest.approx(1e-2 / 5)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("rule", [valley, steep, minimum, slide])
def test_suggestions_depend_neither_on_the_unit_of_the_loss_nor_on_where_it_begins(rule, unit):
    losses = np.concatenate([np.linspace(3, 2, 40), np.linspace(2, 9, 20)])
    lrs = np.geomspace(1e-6, 1, 60)
    assert rule(curve_of(unit * (losses - 2), lrs, unit)) == pytest.approx(rule(curve_of(losses, lrs, 3.0)))


def test_a_fall_counts_where_it_is_larger_than_chance_halfway_down():
    losses = [5, 4.5, 4, 3, 3.5, 9]                         # at half of the fall, at 4, it has fallen by 1
    assert curve_of(losses, noise=0.19).clear and not curve_of(losses, noise=0.21).clear
    assert not curve_of([5, 5.1, 5.2, 9], noise=0.0).clear

def test_a_fall_counts_where_it_is_worth_something():
    assert curve_of([5, 4.99, 4.97, 9], noise=0.0).clear and not curve_of([5, 4.99, 4.98, 9], noise=0.0).clear



def checksum(learn):
    """Of everything there is: weights, gradients, optimizer, history, random states, modes, running attributes."""
    everything = [learn.model.state_dict(), [p.grad for p in learn.model.parameters()], learn.opt.state_dict(),
                  learn.recorder.rows, learn.recorder.losses, learn.recorder.lrs, torch.get_rng_state(),
                  learn.data.train.generator.get_state(), [m.training for m in learn.model.modules()],
                  {k: v for k, v in vars(learn).items() if isinstance(v, (int, float, bool, torch.Tensor))},
                  [type(cb).__name__ for cb in learn.cbs]]
    return hashlib.sha256(exact(everything).encode()).hexdigest()


def exact(value):
    """A text that tells two values apart, tensors to the last bit."""
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{k}:{exact(v)}" for k, v in value.items())) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(exact, value)) + "]"
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value).tobytes().hex()
    return repr(value)


@pytest.fixture
def learn():
    data = CollabDataBunch.from_df(synthetic(n_ratings=5000).ratings, seed=0)
    learn = collab_learner(data, "net", n_factors=8)
    fit_quietly(learn, 1)
    learn.model.layers.eval()
    return learn


def test_nothing_is_left_behind(learn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = checksum(learn)
    found = learn.lr_find(num_it=80)
    assert checksum(learn) == before and not list(tmp_path.iterdir())
    assert found._fields == ("valley", "steep", "minimum") and all(1e-8 < lr < 10 for lr in found)
    assert learn.lr_find(num_it=80) == found                # nothing moved, so that it finds the same again


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("event", ["before_batch", "after_loss", "after_backward", "after_step"])
def test_nothing_is_left_behind_when_it_is_cut_off(learn, event, error):
    bad = raise_at(event, error(), at=7)
    bad.in_eval = True
    before = checksum(learn)
    with pytest.raises(error), learn.added_cbs(bad):
        learn.lr_find()
    assert checksum(learn) == before
    fit_quietly(learn, 1)
    assert not learn.interrupted


def test_a_seeded_learner_is_told_the_same_whatever_was_drawn_before(learn):
    first = find(learn)
    list(learn.data.train)                      # somebody has looked at the batches
    assert find(learn).losses.tolist() == first.losses.tolist()


def test_a_learner_that_was_never_fitted_trains_afterwards_as_if_nothing_had_been():
    def weights(find):
        learn = line_learner(seed=3)
        if find:
            learn.lr_find(num_it=20)
        fit_quietly(learn, 2)
        return learn.model.weight.detach()
    assert torch.equal(weights(True), weights(False))


def rate_as_loss(learn):
    """The loss is the rate of the moment, and falls for nobody."""
    return lambda pred, target: (pred * 0).sum() + learn.opt.param_groups[0]["lr"]


def find(learn, **options):
    """The curve of a test that suggests nothing."""
    with pytest.warns(CollabWarning, match="suggests no learning rate"):
        learn.lr_find(**options)
    return learn.recorder.lr_find[0]


def test_rates_rise_by_equal_factors_or_by_equal_steps():
    learn = line_learner()
    learn.loss_func = lambda pred, target: (pred * 0).sum() + 1.0       # never diverges
    np.testing.assert_allclose(find(learn, start_lr=1e-4, end_lr=1.0, num_it=5).lrs, [1e-4, 1e-3, 1e-2, 1e-1, 1])
    np.testing.assert_allclose(find(learn, start_lr=1, end_lr=3, num_it=5, linear=True).lrs, [1, 1.5, 2, 2.5, 3])


def test_the_loss_is_that_of_the_batches_kept_apart_after_the_steps_at_a_rate():
    # a single weight w with the loss 100 - w: each step of SGD adds the rate to it; 20 batches over 4
    # rates are five steps each
    batches = [(torch.ones(1, 1), torch.ones(1, 1))] * 20
    learn = Learner(DataBunch(batches, device="cpu"), nn.Linear(1, 1, bias=False), lambda pred, _: 100 - pred.sum(),
                    opt_func=torch.optim.SGD)
    nn.init.zeros_(learn.model.weight)
    found = learn.lr_find(start_lr=1.0, end_lr=4.0, num_it=4, linear=True)
    curve = learn.recorder.lr_find[0]
    assert curve.before == 100.0 and curve.noise.tolist() == [0.0] * 4          # all twelve have lost the same
    assert curve.losses.tolist() == [95.0, 85.0, 70.0, 50.0]
    assert found.valley == pytest.approx((math.exp(np.interp(25, [15, 30], np.log([2, 3]))) * 4.0 / 5) ** 0.5)


def test_steps_are_those_that_training_takes():
    """As above, with gradients of all five batches of a rate in one step, and clipped to half of their size."""
    def losses(*cbs):
        learn = Learner(DataBunch([(torch.ones(1, 1), torch.ones(1, 1))] * 20, device="cpu"),
                        nn.Linear(1, 1, bias=False), lambda pred, _: 100 - pred.sum(),
                        opt_func=torch.optim.SGD, cbs=cbs)
        nn.init.zeros_(learn.model.weight)
        learn.lr_find(start_lr=1.0, end_lr=4.0, num_it=4, linear=True)
        return learn.recorder.lr_find[0].losses
    assert losses(GradientAccumulation(5)).tolist() == [99.0, 97.0, 94.0, 90.0]
    assert losses(GradientAccumulation(5), GradientClip(0.5)).tolist() == pytest.approx([99.5, 98.5, 97.0, 95.0])


def test_what_is_by_chance_is_the_standard_error_over_the_batches_kept_apart():
    # twenty batches whose loss falls by 1 to 20 times the weight: twelve of them are kept apart, 1 to 12
    batches = [(torch.full((1, 1), float(k)), torch.ones(1, 1)) for k in range(1, 21)]
    learn = Learner(DataBunch(batches, device="cpu"), nn.Linear(1, 1, bias=False), lambda pred, _: 100 - pred.sum(),
                    opt_func=torch.optim.SGD)
    nn.init.zeros_(learn.model.weight)
    learn.lr_find(start_lr=1e-3, end_lr=1e-2, num_it=2)
    curve = learn.recorder.lr_find[0]
    weight = 1e-3 * (sum(range(13, 21)) + 1 + 2)            # ten steps, on the next ones and round again
    falls = weight * np.arange(1, 13)
    assert curve.losses[0] == pytest.approx(100 - falls.mean())
    assert curve.noise[0] == pytest.approx(falls.std(ddof=1) / math.sqrt(12) * math.sqrt(1 - 12 / 20), rel=1e-4)


def test_dropout_and_negatives_are_the_same_at_every_rate():
    x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    learn = Learner(DataBunch(TensorBatches(x, x[:, :1], bs=10, shuffle=True), device="cpu"),
                    nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 1)), seed=0)
    curve = find(learn, start_lr=1e-12, end_lr=1e-11, num_it=5)         # rates that change nothing
    np.testing.assert_allclose(curve.losses, curve.before, rtol=1e-6)


def test_divergence_ends_the_test():
    learn = line_learner(lr=1.0)
    learn.loss_func = rate_as_loss(learn)
    curve = find(learn, start_lr=1.0, end_lr=2.0, num_it=11, linear=True)
    np.testing.assert_allclose(curve.lrs, [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6])     # beyond 1.5 times the least


def test_a_loss_that_is_no_longer_finite_ends_the_test_and_is_left_out():
    learn = line_learner()
    learn.loss_func = lambda pred, target: (pred * 0).sum() + (1.0 if learn.opt.param_groups[0]["lr"] < 0.5
                                                               else math.inf)
    np.testing.assert_allclose(find(learn, start_lr=1e-3, end_lr=1.0, num_it=4).lrs, [1e-3, 1e-2, 1e-1])


def test_a_negative_loss_that_falls_does_not_diverge():
    learn = line_learner(lr=1e-5)
    learn.loss_func = lambda pred, target: (pred * 0).sum() - 100 * learn.opt.param_groups[0]["lr"]
    learn.lr_find(num_it=30)
    assert len(learn.recorder.lr_find[0].losses) == 30


@pytest.mark.parametrize("event", ["before_batch", "after_pred", "after_loss", "after_backward"])
def test_losses_stay_at_their_rates_where_batches_are_cancelled(event):
    def method(self):
        self.n = getattr(self, "n", 0) + 1
        if self.n % 3 == 0:
            raise CancelBatch
    cancels = type("Cancels", (Callback,), {event: method, "order": 0, "in_eval": True})()
    learn = line_learner(cancels)
    learn.loss_func = rate_as_loss(learn)
    curve = find(learn, start_lr=0.1, end_lr=0.12, num_it=9)
    assert len(curve.lrs) == 9
    np.testing.assert_allclose(curve.losses, curve.lrs, rtol=1e-5)


def test_where_every_batch_is_cancelled_there_is_no_curve():
    cancels = type("Cancels", (Callback,), {"before_batch": lambda self: cancel(), "in_eval": True})()
    with pytest.raises(ValueError, match="no finite loss"):
        line_learner(cancels).lr_find(num_it=5)


def cancel():
    raise CancelBatch


def test_a_loss_that_is_never_finite_is_said():
    learn = line_learner()
    learn.loss_func = lambda pred, target: pred.sum() * math.nan
    with pytest.raises(ValueError, match="no finite loss"):
        learn.lr_find()


@pytest.mark.parametrize("options", [{"start_lr": 0}, {"start_lr": 1, "end_lr": 0.1}, {"end_lr": math.inf},
                                     {"num_it": 1}, {"num_it": 30.0}, {"num_it": "30"}])
def test_impossible_ranges_are_refused_before_the_test(options):
    learn = line_learner(stop := raise_at("before_fit", RuntimeError("it has begun")))
    stop.in_eval = True
    with pytest.raises(ValueError, match="0 < start_lr < end_lr and num_it, a whole number"):
        learn.lr_find(**options)


def test_an_unknown_suggestion_is_refused():
    with pytest.raises(ValueError, match="valley, steep, minimum, slide, not cliff"):
        line_learner().lr_find(suggest=("valley", "cliff"))


def test_the_plot_marks_every_suggestion_on_the_curve():
    learn = line_learner()
    with pytest.raises(ValueError, match="call learn.lr_find"):
        learn.recorder.plot_lr_find()
    found = learn.lr_find(suggest=("valley", "slide"))
    ax = Figure().subplots()
    assert learn.recorder.plot_lr_find(ax=ax) is ax and ax.get_xscale() == "log"
    curve, *marks = ax.get_lines()
    assert len(curve.get_xdata()) == len(learn.recorder.lr_find[0].lrs)
    assert [m.get_xdata()[0] for m in marks] == list(found)


def test_the_plot_is_of_the_valley_and_cuts_off_what_lies_far_above():
    recorder = line_learner().recorder
    recorder.lr_find = curve_of([5, 4.5, 4, 4.2, 8, 1000]), {"valley": 1e-4}
    low, high = recorder.plot_lr_find(ax=Figure().subplots()).get_ylim()
    assert 3.5 < low < 4 and 5 < high < 6
    recorder.lr_find = curve_of([5, 5, 5, 5.01, 8, 1000]), {"valley": None}     # no valley, and no mark
    ax = recorder.plot_lr_find(ax=Figure().subplots())
    assert 4.9 < ax.get_ylim()[0] < 5 < ax.get_ylim()[1] < 5.1 and len(ax.get_lines()) == 1


def test_the_suggested_rate_trains_well():
    torch.manual_seed(1)
    x = torch.randn(400, 5)
    y = x @ torch.tensor([[1.0], [2], [3], [4], [5]])
    learn = Learner(DataBunch(TensorBatches(x, y, bs=20, shuffle=True), TensorBatches(x, y, bs=400), device="cpu"),
                    nn.Linear(5, 1))
    lr = learn.lr_find().valley
    fit_quietly(learn, 10, lr=lr)
    assert learn.validate()["valid_loss"] < 0.1 * y.var().item()


def test_learners_that_differ_in_their_seed_are_told_much_the_same():
    ratings = synthetic(n_users=200, n_items=100, n_ratings=6000, seed=1).ratings

    def suggested(model, seed):
        own = {"wd": 0.3} if model == "dot_bias" else {}        # by AdamW, whose rate is the caller's to find
        learn = collab_learner(CollabDataBunch.from_df(ratings, seed=seed, bs=64), model, n_factors=8, seed=seed, **own)
        return learn.lr_find(suggest=("valley", "steep"))
    for model in ("dot_bias", "dot", "bpr"):
        valleys, steeps = zip(*(suggested(model, seed) for seed in range(3)))
        assert max(valleys) < 2 * min(valleys) and max(steeps) < 3 * min(steeps)
        assert 1e-3 < min(valleys) < max(valleys) < 1e-1


def test_callbacks_that_look_are_put_back_too():
    class Counts(Callback):
        in_eval = True
        n = 0

        def after_step(self):
            self.n += 1

        def state_dict(self):
            return {"n": self.n}

        def load_state_dict(self, state):
            self.n = state["n"]
    learn = line_learner(counts := Counts())
    learn.lr_find(num_it=10)
    assert counts.n == 0


def test_one_suggestion_by_its_name():
    assert line_learner().lr_find(num_it=20, suggest="valley")._fields == ("valley",)


def test_a_generator_that_hangs_on_the_sampler_is_put_back():
    x = torch.randn(40, 1)
    generator = torch.Generator().manual_seed(1)
    rows = torch.utils.data.TensorDataset(x, x)
    sampler = torch.utils.data.RandomSampler(rows, generator=generator)
    learn = Learner(DataBunch(torch.utils.data.DataLoader(rows, 8, sampler=sampler), device="cpu"), nn.Linear(1, 1))
    before = generator.get_state()
    learn.lr_find(num_it=10)
    learn.validate(learn.data.train)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("bad", [{"num_it": 30.0}, {"num_it": None}, {"num_it": 1}, {"end_lr": math.inf},
                                 {"start_lr": math.nan}])
def test_what_cannot_be_tested_is_refused_before_the_first_batch(bad):
    learn = line_learner()
    learn.loss_func = lambda pred, target: pytest.fail("a batch was computed")
    with pytest.raises(ValueError, match="num_it, a whole number of at least 2"):
        learn.lr_find(**bad)

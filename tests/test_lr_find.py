"""The range test: what it sees, what it suggests, and that it leaves no trace."""

import hashlib
import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from test_loop import fit_quietly, line_learner, raise_at
from torch import nn

from collab import Callback, CancelBatch, CollabDataBunch, DataBunch, Learner, TensorBatches, collab_learner, synthetic
from collab.train.lr_find import Curve, minimum, slide, steep, valley

LRS = np.logspace(-5, 0, 6)


def test_minimum_is_a_tenth_of_the_rate_with_the_least_loss():
    assert minimum(Curve(LRS, np.array([5, 4, 3, 1, 2, 9]))) == pytest.approx(1e-2 / 10)


def test_steep_is_where_the_loss_falls_fastest():
    # central differences over equal steps: -0.5 at the left end, then -1, -3, -2.5, 1.5, 4
    assert steep(Curve(LRS, np.array([5, 4.5, 3.0, -1.5, -2, 1.5]))) == pytest.approx(LRS[2])


def test_valley_is_two_thirds_down_the_longest_valley():
    # the longest falling run is 9 7 6 5 3 (places 1, 2, 3, 5, 6 with the bump at 4 left out): from 1, 2/3 of 5 places
    losses = np.array([8, 9, 7, 6, 6.5, 5, 3, 8])
    assert valley(Curve(np.arange(1.0, 9.0), losses)) == 5.0


def test_slide_goes_down_from_the_high_end_until_the_loss_is_flat():
    losses = np.array([3.0] * 20 + [2.0] * 20 + [9.0] * 5)
    lrs = np.arange(1.0, 46.0)
    # with 15 places between the ends the window first is level when its right end is at 39, its left at 24
    assert slide(Curve(lrs, losses)) == pytest.approx(25.0 / 5)


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
        return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value).tobytes().hex()
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
    bad.looks = True
    before = checksum(learn)
    with pytest.raises(error), learn.added_cbs(bad):
        learn.lr_find()
    assert checksum(learn) == before
    fit_quietly(learn, 1)
    assert not learn.interrupted


def test_a_learner_that_was_never_fitted_trains_afterwards_as_if_nothing_had_been():
    def weights(find):
        learn = line_learner(seed=3)
        if find:
            learn.lr_find(num_it=20)
        fit_quietly(learn, 2)
        return learn.model.weight.detach()
    assert torch.equal(weights(True), weights(False))


def test_rates_rise_by_equal_factors_or_by_equal_steps():
    learn = line_learner()
    learn.loss_func = lambda pred, target: (pred * 0).sum() + 1.0       # never diverges
    learn.lr_find(start_lr=1e-4, end_lr=1.0, num_it=5)
    np.testing.assert_allclose(learn.recorder.lr_find[0].lrs, [1e-4, 1e-3, 1e-2, 1e-1, 1])
    learn.lr_find(start_lr=1, end_lr=3, num_it=5, linear=True)
    np.testing.assert_allclose(learn.recorder.lr_find[0].lrs, [1, 1.5, 2, 2.5, 3])


def test_the_loss_is_the_debiased_mean_and_divergence_ends_the_test():
    learn, losses = line_learner(), iter([1.0, 1.0, 0.5, 300.0, 1.0, 1.0])
    learn.loss_func = lambda pred, target: (pred * 0).sum() + next(losses)
    learn.lr_find(num_it=100)
    seen = learn.recorder.lr_find[0].losses
    assert len(seen) == 4                                   # the fourth is beyond four times the least
    weights = 0.98 ** np.arange(2, -1, -1)
    assert seen[2] == pytest.approx((weights * [1.0, 1.0, 0.5]).sum() / weights.sum())


def test_a_negative_loss_that_falls_does_not_diverge():
    learn, losses = line_learner(), iter(-x for x in range(1, 100))
    learn.loss_func = lambda pred, target: (pred * 0).sum() + next(losses)
    learn.lr_find(num_it=30)
    assert len(learn.recorder.lr_find[0].losses) == 30


def test_a_loss_that_is_never_finite_is_said():
    learn = line_learner()
    learn.loss_func = lambda pred, target: pred.sum() * math.nan
    with pytest.raises(ValueError, match="not finite at the first batch"):
        learn.lr_find()


@pytest.mark.parametrize("options", [{"start_lr": 0}, {"start_lr": 1, "end_lr": 0.1}, {"num_it": 1}])
def test_impossible_ranges_are_refused(options):
    with pytest.raises(ValueError, match="0 < start_lr < end_lr"):
        line_learner().lr_find(**options)


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


def test_the_suggested_rate_trains_well():
    torch.manual_seed(1)
    x = torch.randn(400, 5)
    y = x @ torch.tensor([[1.0], [2], [3], [4], [5]])
    learn = Learner(DataBunch(TensorBatches(x, y, bs=20, shuffle=True), TensorBatches(x, y, bs=400), device="cpu"),
                    nn.Linear(5, 1))
    lr = learn.lr_find().valley
    fit_quietly(learn, 10, lr=lr)
    assert learn.validate()["valid_loss"] < 0.1 * y.var().item()


def test_callbacks_that_look_are_put_back_too():
    class Counts(Callback):
        looks = True
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


def test_slide_does_not_depend_on_the_unit_of_the_loss():
    curve = Curve(np.geomspace(1e-6, 1, 60), np.concatenate([np.linspace(3, 2, 40), np.linspace(2, 9, 20)]))
    assert len({slide(Curve(curve.lrs, curve.losses * unit)) for unit in (0.01, 1, 1000)}) == 1


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


def test_a_loss_is_listed_at_the_rate_of_its_own_batch_also_where_batches_are_cancelled():
    rates = []

    class EveryOther(Callback):
        looks, order = True, 60         # after the test has set the rate

        def before_batch(self):
            if self.learn.i % 2:
                raise CancelBatch

        def after_loss(self):
            rates.append(self.learn.opt.param_groups[0]["lr"])
    learn = line_learner(EveryOther(), opt_func=torch.optim.SGD)
    learn.loss_func = lambda pred, target: (pred * 0).sum() + learn.opt.param_groups[0]["lr"] * 1e-4 + 1.0
    learn.lr_find(start_lr=1e-3, end_lr=1.0, num_it=7, suggest="steep")
    curve = learn.recorder.lr_find[0]
    np.testing.assert_allclose(curve.lrs, np.geomspace(1e-3, 1.0, 7))      # up to the end, however many were cancelled
    np.testing.assert_allclose(rates, curve.lrs)


def test_a_test_whose_batches_are_all_cancelled_says_so():
    class All(Callback):
        looks = True

        def before_batch(self):
            raise CancelBatch
    with pytest.raises(ValueError, match="no batch came to a loss"):
        line_learner(All()).lr_find(num_it=5)


@pytest.mark.parametrize("bad", [{"num_it": 30.0}, {"num_it": None}, {"num_it": 1}, {"end_lr": math.inf},
                                 {"start_lr": math.nan}])
def test_what_cannot_be_tested_is_refused_before_the_first_batch(bad):
    learn = line_learner()
    learn.loss_func = lambda pred, target: pytest.fail("a batch was computed")
    with pytest.raises(ValueError, match="a whole number num_it, at least 2"):
        learn.lr_find(**bad)

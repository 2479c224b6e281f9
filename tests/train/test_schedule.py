"""Schedules against values worked out by hand, and the one-cycle policy as it is really applied."""

import math
from functools import partial

import pytest
import torch
from helpers import X, Y, fit_quietly, line_learner, two_layer_learner

from collab import Callback, ReduceLROnPlateau
from collab.train.optim import get_hyper, make_optimizer, set_hyper
from collab.train.schedule import (
    ParamScheduler,
    combine_scheds,
    sched_cos,
    sched_exp,
    sched_lin,
    sched_no,
    sched_poly,
)


def test_combined_schedules_at_their_joint():
    sched = combine_scheds([0.25, 0.75], [sched_cos(0, 1), sched_cos(5, 2)])
    assert [sched(p) for p in (0, 0.125, 0.25, 0.625, 1)] == pytest.approx([0, 0.5, 5, 3.5, 2])


@pytest.mark.parametrize("fractions", [[1.0, 0.0], [0.0, 1.0]])
def test_an_empty_piece_is_passed_over(fractions):
    sched = combine_scheds(fractions, [sched_cos(1, 2), sched_cos(3, 4)])
    first, last = (1, 2) if fractions[0] else (3, 4)
    assert [sched(0), sched(1)] == pytest.approx([first, last])


@pytest.mark.parametrize("fractions", [[0.5, 0.4], [1.0], [1.5, -0.5]])
def test_fractions_that_do_not_make_a_whole_are_refused(fractions):
    with pytest.raises(ValueError, match="sum to 1"):
        combine_scheds(fractions, [sched_cos(0, 1)] * 2)


def test_one_cycle_sets_rate_and_momentum_batch_by_batch():
    learn = line_learner(bs=1, valid=False)                 # 10 batches an epoch, 20 in all, the peak at batch 5
    with learn.no_logging():
        learn.fit_one_cycle(2, 1.0, div=4, div_final=100, pct_start=0.25)
    lrs, moms = learn.recorder.lrs, learn.recorder.moms
    assert len(lrs) == 20
    assert [lrs[0], lrs[5]] == pytest.approx([0.25, 1.0])
    assert [moms[0], moms[5]] == pytest.approx([0.95, 0.85])
    assert lrs[3] == pytest.approx(0.25 + 0.75 * (1 - math.cos(math.pi * 0.6)) / 2)
    assert lrs[19] == pytest.approx(1 + (0.01 - 1) * (1 - math.cos(math.pi * 14 / 15)) / 2)
    assert max(lrs) == lrs[5] and min(moms) == moms[5]


def test_one_cycle_without_momentum_leaves_it_alone():
    learn = line_learner(opt_func=torch.optim.Adagrad)
    with learn.no_logging():
        learn.fit_one_cycle(1, moms=None)
    assert set(learn.recorder.moms) == {None}


@pytest.mark.parametrize("opt_func", [torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.SGD])
def test_one_cycle_leaves_an_optimizer_without_momentum_without_it(opt_func):
    learn = line_learner(opt_func=opt_func)
    fit_quietly(learn, 1)
    with learn.no_logging():
        learn.fit_one_cycle(1)
    assert not any(learn.recorder.moms)


def test_what_a_schedule_set_is_afterwards_what_it_was():
    learn = line_learner()
    with learn.no_logging():
        learn.fit_one_cycle(1, 0.5)
    assert learn.opt.param_groups[0]["betas"] == (0.9, 0.99) and min(learn.recorder.moms) < 0.9


@pytest.mark.parametrize("lr", [-1.0, math.nan, math.inf, slice(0, 1)])
def test_impossible_rates_are_refused_before_training(lr):
    learn = line_learner()
    with pytest.raises(ValueError, match="lr must be a finite number|0 < low"):
        learn.fit(1, lr=lr)
    assert not learn.recorder.rows


def test_hyper_parameters_reach_every_group_and_decay_by_its_share():
    class TwoGroups(torch.nn.Linear):
        def param_groups(self):
            return [{"name": "w", "params": [self.weight]}, {"name": "b", "params": [self.bias], "decay": 0.25}]

    opt = make_optimizer(TwoGroups(2, 1), torch.optim.AdamW, lr=0.1, wd=0.4)
    assert [g["weight_decay"] for g in opt.param_groups] == [0.4, 0.1]
    set_hyper(opt, lr=0.5, momentum=0.8, weight_decay=1.0)
    assert [(g["lr"], g["betas"], g["weight_decay"]) for g in opt.param_groups] == \
        [(0.5, (0.8, 0.999), 1.0), (0.5, (0.8, 0.999), 0.25)]
    assert get_hyper(opt, "momentum") == 0.8 and get_hyper(opt, "nesterov") is None


def test_groups_that_forget_a_parameter_are_refused():
    class Forgetful(torch.nn.Linear):
        def param_groups(self):
            return [{"name": "w", "params": [self.weight]}]

    with pytest.raises(ValueError, match="Forgetful.param_groups"):
        make_optimizer(Forgetful(2, 1), torch.optim.AdamW, 0.1, 0)


def test_a_model_without_anything_to_train_is_refused():
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        make_optimizer(torch.nn.ReLU(), torch.optim.AdamW, 0.1, 0)


def test_weight_decay_is_decoupled_from_the_gradient():
    learn = line_learner(valid=False, lr=0.1, wd=0.5)
    learn.loss_func = lambda pred, target: (pred * 0).sum()  # no gradient: only the decay moves the weights
    start = learn.model.weight.item()
    fit_quietly(learn, 1)
    assert learn.model.weight.item() == pytest.approx(start * (1 - 0.1 * 0.5) ** 3, rel=1e-6)


SHAPES = [  # (schedule, values at 0, 1/4, 1/2 and 1 worked out by hand)
    (sched_no(3, 7), [3, 3, 3, 3]),
    (sched_lin(1, 3), [1, 1.5, 2, 3]),
    (sched_cos(1, 3), [1, 2 - math.sqrt(0.5), 2, 3]),
    (sched_exp(1, 16), [1, 2, 4, 16]),
    (sched_exp(-16, -1), [-16, -8, -4, -1]),
    (sched_poly(1, 5, 2), [1, 1.25, 2, 5]),
]


@pytest.mark.parametrize(("sched", "values"), SHAPES)
def test_schedules_at_their_ends_and_between(sched, values):
    assert [sched(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx(values)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (1, 0), (-1, 1)])
def test_an_exponential_through_zero_is_refused(start, end):
    with pytest.raises(ValueError, match="of the same sign"):
        sched_exp(start, end)


def fitted_lrs(method, *args, **options):
    learn = line_learner(bs=5, valid=False)                 # 2 batches an epoch
    with learn.no_logging():
        getattr(learn, method)(*args, **options)
    return learn.recorder.lrs


def test_sgdr_runs_cycles_of_1_2_and_4_epochs_and_jumps_back():
    lrs = fitted_lrs("fit_sgdr", 3, cycle_len=1, cycle_mult=2, lr_max=1.0)
    assert len(lrs) == 2 * (1 + 2 + 4)
    assert [lrs[0], lrs[2], lrs[6]] == pytest.approx([1, 1, 1])          # each cycle begins at lr_max
    assert lrs[1] == pytest.approx(0.5)                                  # half of the first cycle of two batches
    assert lrs[2:6] == pytest.approx([(1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)])
    assert lrs[6:] == pytest.approx([(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)])


@pytest.mark.parametrize("n_cycles", [3, 5, 7, 10])
@pytest.mark.parametrize("cycle_len", [1, 2, 3])
def test_sgdr_with_equal_cycles_begins_each_at_the_top(n_cycles, cycle_len):
    lrs = fitted_lrs("fit_sgdr", n_cycles, cycle_len=cycle_len, cycle_mult=1, lr_max=2.0)
    n = 2 * cycle_len
    assert lrs == pytest.approx([1 + math.cos(math.pi * k / n) for k in range(n)] * n_cycles)


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_sgdr_without_cycles_is_refused(bad):
    with pytest.raises(ValueError, match="at least 1"):
        line_learner().fit_sgdr(bad[0], bad[1], cycle_mult=bad[2])


def test_flat_cos_is_flat_and_then_falls():
    lrs = fitted_lrs("fit_flat_cos", 4, lr=1.0, pct_start=0.5, div_final=10)     # 8 batches
    assert lrs[:5] == pytest.approx([1.0] * 5)
    assert lrs[5:] == pytest.approx([1 - 0.9 * (1 - math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3)])


@pytest.mark.parametrize("method", ["fit_one_cycle", "fit_flat_cos"])
def test_a_start_beyond_the_whole_is_refused(method):
    with pytest.raises(ValueError, match="pct_start"):
        getattr(line_learner(), method)(1, pct_start=1.5)


def test_phases_put_together_by_hand_for_any_hyper_parameter():
    phases = combine_scheds([0.5, 0.5], [sched_lin(0.1, 0.2), sched_no(0.05)])
    decay = []

    class Watch(Callback):
        order = 60

        def before_batch(self):
            decay.append(get_hyper(self.learn.opt, "weight_decay"))
    learn = line_learner(bs=5, valid=False)
    with learn.no_logging():
        learn.fit(2, cbs=[ParamScheduler({"lr": phases, "weight_decay": sched_lin(0, 1)}), Watch()])
    assert learn.recorder.lrs == pytest.approx([0.1, 0.15, 0.05, 0.05])
    assert decay == pytest.approx([0, 0.25, 0.5, 0.75])


@pytest.mark.parametrize(("lr", "expected"), [
    (0.5, [0.5, 0.5]), (slice(0.01, 0.04), [0.01, 0.04]), (slice(0.3), [0.03, 0.3]), ([0.1, 0.2], [0.1, 0.2]),
    ({"last": 0.2, "first": 0.1}, [0.1, 0.2]),
])
def test_rates_of_groups_from_one_number_a_slice_a_list_or_names(lr, expected):
    learn = two_layer_learner()
    fit_quietly(learn, 1, lr=lr)
    assert [g["lr"] for g in learn.opt.param_groups] == pytest.approx(expected)
    with learn.no_logging():
        learn.fit_one_cycle(1, lr, div=1, div_final=1)
    assert [g["lr"] for g in learn.opt.param_groups] == pytest.approx(expected)


def test_a_slice_over_three_groups_rises_by_equal_factors():
    class Three(torch.nn.Sequential):
        def param_groups(self):
            return [{"name": str(k), "params": list(layer.parameters())} for k, layer in enumerate(self)]
    opt = make_optimizer(Three(*(torch.nn.Linear(1, 1) for _ in range(3))), torch.optim.SGD, slice(0.01, 1.0), 0)
    assert [g["lr"] for g in opt.param_groups] == pytest.approx([0.01, 0.1, 1.0])


@pytest.mark.parametrize("lr", [[0.1], {"first": 0.1}, {"first": 0.1, "lost": 0.1}])
def test_values_that_do_not_fit_the_groups_are_refused(lr):
    with pytest.raises(ValueError, match=r"\['first', 'last'\]"):
        two_layer_learner().fit(1, lr=lr)


def test_frozen_groups_do_not_move_and_thaw_with_their_state():
    learn = two_layer_learner(wd=0.1)
    fit_quietly(learn, 1)
    first, last = learn.model[0].weight.clone(), learn.model[1].weight.clone()
    learn.freeze_to(-1)
    fit_quietly(learn, 1)
    assert torch.equal(learn.model[0].weight, first) and not torch.equal(learn.model[1].weight, last)
    assert learn.opt.state[learn.model[0].weight]["step"].item() == 3
    learn.unfreeze()
    fit_quietly(learn, 1)
    assert not torch.equal(learn.model[0].weight, first)
    assert learn.opt.state[learn.model[0].weight]["step"].item() == 6
    with pytest.raises(ValueError, match="leaves nothing to train"):
        learn.freeze_to(2)


def test_decay_by_name_of_the_group_is_taken_as_it_is():
    learn = two_layer_learner()
    fit_quietly(learn, 1, wd={"first": 0.3, "last": 0.0})
    assert [g["weight_decay"] for g in learn.opt.param_groups] == [0.3, 0.0]


def test_the_rate_may_be_changed_by_hand_between_fits_while_momentum_stays():
    learn = line_learner(opt_func=partial(torch.optim.SGD, momentum=0.9), bs=10, valid=False)
    fit_quietly(learn, 1, lr=0.1)
    momentum = learn.opt.state[learn.model.weight]["momentum_buffer"].clone()
    weight = learn.model.weight.detach().clone()
    grad = torch.autograd.grad(learn.loss_func(learn.model(X), Y), learn.model.weight)[0]
    fit_quietly(learn, 1, lr=0.01)
    torch.testing.assert_close(learn.model.weight.detach(), weight - 0.01 * (0.9 * momentum + grad))


@pytest.mark.parametrize("form", [list, dict])
def test_each_group_may_follow_a_schedule_of_its_own(form):
    seen = []

    class Watch(Callback):
        order = 60

        def before_batch(self):
            seen.append([g["lr"] for g in self.learn.opt.param_groups])
    scheds = {"first": sched_lin(0.0, 1.0), "last": sched_no(0.5)}
    learn = two_layer_learner(bs=5, valid=False)
    with learn.no_logging():
        learn.fit(2, cbs=[ParamScheduler({"lr": scheds if form is dict else list(scheds.values())}), Watch()])
    assert seen == [[0.0, 0.5], [0.25, 0.5], [0.5, 0.5], [0.75, 0.5]]


def test_rates_of_groups_keep_their_ratio_in_one_cycle():
    seen = []

    class Watch(Callback):
        order = 60

        def before_batch(self):
            seen.append([g["lr"] for g in self.learn.opt.param_groups])
    learn = two_layer_learner(valid=False)
    with learn.no_logging():
        learn.fit_one_cycle(2, slice(0.01, 0.1), cbs=Watch())
    assert all(last == pytest.approx(10 * first) for first, last in seen) and len({last for _, last in seen}) > 3


def test_a_schedule_gives_back_only_what_it_set():
    learn = line_learner([ReduceLROnPlateau("train_loss", patience=1, factor=0.5)], lr=0.0)
    with learn.no_logging():
        learn.fit(3, lr=0.0, cbs=ParamScheduler({"momentum": sched_lin(0.5, 0.6)}))
    assert learn.opt.param_groups[0]["betas"] == (0.9, 0.99)

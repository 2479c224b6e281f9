"""Schedules against values worked out by hand, and the one-cycle policy as it is really applied."""

import math

import pytest
import torch
from test_loop import fit_quietly, line_learner

from collab.train.optim import get_hyper, make_optimizer, set_hyper
from collab.train.schedule import combine_scheds, sched_cos


def test_cosine_at_its_ends_and_quarters():
    sched = sched_cos(1, 3)
    assert [sched(p) for p in (0, 0.5, 1)] == pytest.approx([1, 2, 3])
    assert sched(0.25) == pytest.approx(2 - math.sqrt(0.5))


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


def test_one_cycle_with_a_momentum_that_the_optimizer_lacks_says_so():
    learn = line_learner(opt_func=torch.optim.Adagrad)
    with learn.no_logging(), pytest.raises(ValueError, match="Adagrad has no hyper-parameter 'momentum'"):
        learn.fit_one_cycle(1)


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

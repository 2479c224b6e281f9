"""Optimizers: what they are given is kept, decay is decoupled where it is asked for, and copies are as good."""

import copy
import pickle
from functools import partial

import pytest
import torch
from helpers import TwoLayers, X, Y, fit_quietly, line_learner, two_layer_learner
from torch import nn

from collab import Callback, CollabDataBunch, CollabWarning, collab_learner, load_learner, synthetic
from collab.losses import mse
from collab.train.optim import AdamW, Grouped, adamw, make_optimizer, param_groups


class Shares(torch.nn.Linear):
    def param_groups(self):
        return [{"name": "first", "params": [self.weight]}, {"name": "last", "params": [self.bias], "decay": 0.25}]


OPTIMIZERS = [torch.optim.SGD, partial(torch.optim.SGD, momentum=0.9), torch.optim.Adam, torch.optim.AdamW,
              torch.optim.Adagrad, torch.optim.RMSprop, partial(torch.optim.AdamW, fused=True), adamw]


@pytest.mark.parametrize("opt_func", OPTIMIZERS)
def test_weight_decay_is_decoupled_in_every_optimizer(opt_func):
    """One step with decay is the step without it from weights that were shrunk by 1 - lr wd, whatever the gradient."""
    def one_step(shrink, wd):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        opt = make_optimizer(model, opt_func, lr=0.1, wd=wd)
        for p in model.parameters():
            p.data *= shrink
            p.grad = torch.ones_like(p)
        opt.step()
        return model.weight.detach()
    torch.testing.assert_close(one_step(1, wd=0.5), one_step(1 - 0.1 * 0.5, wd=0))


def test_every_optimizer_learns_the_line():
    for opt_func in OPTIMIZERS:
        learn = line_learner(opt_func=opt_func, lr=0.1)
        before = learn.validate()["valid_loss"]
        fit_quietly(learn, 20)
        assert learn.validate()["valid_loss"] < before / 2


def hypers(learn):
    """Rate, the optimizer's own weight decay and the decoupled one, of each group."""
    return [(g["lr"], g.get("weight_decay", 0), g.get("our_weight_decay", 0)) for g in learn.opt.param_groups]


GIVEN = [  # (optimizer, what a fit without lr and wd trains with: rate, its own weight decay, the decoupled one)
    (partial(torch.optim.SGD, lr=0.5, weight_decay=1e-4), (0.5, 1e-4, 0)),
    (lambda groups: torch.optim.Adam(groups, lr=1e-2, weight_decay=2e-4), (1e-2, 2e-4, 0)),
    (partial(torch.optim.AdamW, lr=0.02, weight_decay=0.3), (0.02, 0.3, 0)),
    (partial(torch.optim.Adam, weight_decay=2e-4), (1e-3, 2e-4, 0)),      # torch's rate
    (torch.optim.AdamW, (1e-3, 0, 0)),                                     # a class was given nothing
    (torch.optim.SGD, (1e-3, 0, 0)),
]


@pytest.mark.parametrize(("opt_func", "expected"), GIVEN)
def test_what_the_optimizer_was_given_is_kept_unless_something_else_is_passed(opt_func, expected):
    seen = []

    class Watch(Callback):
        order = 60

        def before_batch(self):
            seen.append(hypers(self.learn)[0])

    def fit(**options):
        seen.clear()
        with learn.no_logging():
            learn.fit(1, cbs=Watch(), **options)
        return seen[0]
    learn = line_learner(opt_func=opt_func, lr=None, bs=10, valid=False)
    assert hypers(learn) == [expected] and fit() == expected
    own = "decoupled_weight_decay" in learn.opt.param_groups[0] and learn.opt.param_groups[0]["decoupled_weight_decay"]
    assert fit(lr=0.25, wd=0.125) == ((0.25, 0.125, 0) if own else (0.25, 0, 0.125))
    assert fit(wd=0.0) == (expected[0], 0, 0)
    assert fit() == expected                                # for the length of a fit alone
    with learn.no_logging():
        learn.fit_one_cycle(1, pct_start=0.0)
    assert learn.recorder.lrs[-1] == pytest.approx(expected[0])
    assert hypers(learn) == [expected]


def test_what_is_passed_to_the_learner_takes_the_place_of_what_the_optimizer_was_given():
    learn = line_learner(opt_func=partial(torch.optim.SGD, lr=0.5, weight_decay=1e-4), lr=0.25, wd=0.125)
    assert hypers(learn) == [(0.25, 0, 0.125)]


def test_coupled_weight_decay_goes_through_the_gradient():
    """One step of a Learner is one of torch's own optimizer, to the bit."""
    opt_func = partial(torch.optim.Adam, lr=1e-2, weight_decay=0.5)
    learn = line_learner(opt_func=opt_func, lr=None, bs=10, valid=False)
    model = copy.deepcopy(learn.model)
    fit_quietly(learn, 1)
    mse(model(X), Y).backward()
    opt_func(model.parameters(), fused=True).step()
    assert torch.equal(learn.model.weight, model.weight)


def test_rates_that_the_optimizer_was_given_by_group_are_kept():
    def by_group(groups):
        return torch.optim.SGD([{**group, "lr": lr} for group, lr in zip(groups, (0.01, 0.1))])
    learn = two_layer_learner(opt_func=by_group, lr=None)
    fit_quietly(learn, 1)
    assert [g["lr"] for g in learn.opt.param_groups] == [0.01, 0.1]
    with learn.no_logging():
        learn.fit_one_cycle(1, pct_start=0.0)
    assert learn.recorder.lrs[-3] == pytest.approx(0.1) and [g["lr"] for g in learn.opt.param_groups] == [0.01, 0.1]


def test_groups_that_a_function_made_of_all_parameters_are_trained():
    def flat(groups):
        return torch.optim.SGD([p for group in groups for p in group["params"]], lr=0.1)
    learn = line_learner(opt_func=flat, lr=None)
    before = learn.validate()["valid_loss"]
    fit_quietly(learn, 20)
    assert learn.validate()["valid_loss"] < before / 2 and [g["name"] for g in learn.opt.param_groups] == ["all"]


def test_the_shares_of_weight_decay_that_a_function_drops_are_said():
    def flat(groups):
        return torch.optim.SGD([p for group in groups for p in group["params"]])
    with pytest.warns(CollabWarning, match=r"shares of the weight decay, \{'last': 0.25\}, are lost"):
        opt = make_optimizer(Shares(2, 1), flat, wd=0.4)
    assert [(g["name"], g["our_weight_decay"]) for g in opt.param_groups] == [("all", 0.4)]


def test_an_optimizer_without_some_of_the_parameters_is_refused():
    with pytest.raises(ValueError, match="left out 1 of the 2 parameters of Linear; let it pass on all"):
        make_optimizer(torch.nn.Linear(1, 1), lambda groups: torch.optim.SGD(groups[0]["params"][:1]))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_runs_in_one_pass_unless_another_way_is_asked_for(kind):
    def fused(opt_func):
        return make_optimizer(torch.nn.Linear(1, 1), opt_func).param_groups[0]["fused"]
    assert fused(kind) and fused(partial(kind, betas=(0.8, 0.9)))
    assert not fused(partial(kind, foreach=True)) and not fused(partial(kind, fused=False))
    assert not fused(lambda groups: kind(groups))


def test_the_default_optimizer_is_torchs_adamw_to_the_bit_with_its_hooks_and_its_state():
    made = {}
    for kind in (AdamW, torch.optim.AdamW):
        torch.manual_seed(0)
        model, seen = torch.nn.Linear(5, 3), []
        opt = kind(model.parameters(), lr=0.1, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        opt.register_step_pre_hook(lambda *_, seen=seen: seen.append("before"))
        opt.register_step_post_hook(lambda *_, seen=seen: seen.append("after"))
        for _ in range(4):
            opt.zero_grad()
            model(torch.randn(7, 5)).square().mean().backward()
            opt.step()
        made[kind] = model.weight.detach(), opt, seen
    (ours, opt, seen), (weight, theirs, _) = made.values()
    assert torch.equal(ours, weight) and seen == ["before", "after"] * 4 and isinstance(opt, torch.optim.AdamW)
    assert opt.step(lambda: torch.tensor(1.5)) == 1.5 and not opt.state[opt.param_groups[0]["params"][0]][
        "exp_avg"].requires_grad
    opt.load_state_dict(theirs.state_dict())
    for name, value in theirs.state_dict()["state"][0].items():
        assert torch.equal(opt.state_dict()["state"][0][name], value)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda learn: pickle.loads(pickle.dumps(learn))],
                         ids=["copy", "pickle"])
@pytest.mark.parametrize("opt_func", OPTIMIZERS)
def test_a_copy_of_a_learner_decays_as_the_learner_does(opt_func, way):
    learn = line_learner(opt_func=opt_func, lr=0.1, wd=0.5, seed=1)
    fit_quietly(learn, 1)
    other = way(learn)
    assert type(other.opt) is type(learn.opt) and type(other.opt).__name__ == type(learn.opt).__name__
    steps = []
    other.opt.register_step_pre_hook(lambda *_: steps.append(1))
    for each in (learn, other):
        fit_quietly(each, 2)
    assert torch.equal(learn.model.weight, other.model.weight) and len(steps) == 6
    undecayed = way(learn)
    fit_quietly(undecayed, 1, wd=0.0)
    fit_quietly(learn, 1)
    assert not torch.equal(learn.model.weight, undecayed.model.weight)


@pytest.fixture(scope="module")
def data():
    return CollabDataBunch.from_df(synthetic(n_users=30, n_items=20, n_ratings=300).ratings, seed=0)


def test_a_recipe_fills_in_what_the_optimizer_was_not_given(data):
    def first(opt_func, **options):
        return hypers(collab_learner(data, "dot_bias", 4, opt_func=opt_func, **options))
    assert first(lambda groups: torch.optim.Adam(groups, lr=1e-2, weight_decay=2e-4)) == [(1e-2, 2e-4, 0)] * 2
    assert first(partial(torch.optim.SGD, lr=0.5)) == [(0.5, 0, 0)] * 2
    assert first(torch.optim.SGD) == [(5e-3, 0, 0)] * 2                     # the recipe's rate, and no decay
    assert first(partial(torch.optim.SGD, weight_decay=0.1)) == [(5e-3, 0.1, 0)] * 2
    assert first(partial(torch.optim.SGD, lr=0.5, weight_decay=0.1), lr=2.0, wd=0.25) == [(2.0, 0, 0.25), (2.0, 0, 0)]
    assert first(None) == [(5e-3, 0.3, 0), (5e-3, 0, 0)]                    # biases have no share


def test_a_learner_from_a_file_takes_what_its_optimizer_is_given(data, tmp_path):
    learn = collab_learner(data, "dot", 4, opt_func=partial(torch.optim.SGD, lr=0.5, weight_decay=1e-4))
    with pytest.warns(CollabWarning, match="does not hold opt_func SGD"):
        loaded = load_learner(learn.export(tmp_path / "model"))
    loaded.opt_func = learn.opt_func
    assert hypers(loaded) == hypers(learn) == [(0.5, 1e-4, 0)]


def test_all_suggestions_of_the_range_test_at_once_are_no_rate(data):
    learn = collab_learner(data, "dot", 4)
    with pytest.raises(ValueError, match=r"one rate is needed, not all of Suggestions.*pass \.valley, say"):
        learn.fit_one_cycle(1, lr_max=learn.lr_find())


def test_a_layer_that_is_called_param_groups_is_a_layer():
    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(1, 1))
            self.param_groups = nn.Linear(1, 1)
    (group,) = param_groups(model := Net())
    assert group["name"] == "all" and len(group["params"]) == len(list(model.parameters())) == 4
    assert not isinstance(nn.Linear(1, 1), Grouped) and isinstance(TwoLayers(), Grouped)

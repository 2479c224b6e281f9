"""What is wrong with an argument is said before work starts: text for a number, a name of another library."""

import re

import pytest
import torch
from helpers import line_learner

from collab import (
    L2,
    Checkpoint,
    CollabDataBunch,
    Learner,
    Ridge,
    collab_learner,
    per_user_split,
    random_split,
    synthetic,
)

RATINGS = synthetic(n_users=40, n_items=30, n_ratings=500).ratings
FITS = ("fit", "fit_one_cycle", "fit_flat_cos", "fit_sgdr")


@pytest.fixture(scope="module")
def data():
    return CollabDataBunch.from_df(RATINGS, seed=0, device="cpu")


def refused(says, call, kind=TypeError):
    with pytest.raises(kind) as caught:
        call()
    assert re.search(says, str(caught.value)), str(caught.value)


TEXT = r"must be a number \(or one for each parameter group: a list, a dict or a slice\), got '0\.1'; leave out the "


@pytest.mark.parametrize("name", ["lr", "wd"])
def test_a_learner_refuses_a_rate_or_decay_that_is_text_by_its_name(name, data):
    refused(f"^{name} {TEXT}", lambda: collab_learner(data, **{name: "0.1"}))
    refused(f"^{name} {TEXT}", lambda: Learner(data, torch.nn.Linear(1, 1), **{name: "0.1"}))
    refused(f"^{name} must be .*got 'auto'$", lambda: collab_learner(data, **{name: "auto"}))
    refused(f"^{name} must be a finite number, at least 0, got -1", lambda: collab_learner(data, **{name: -1}),
            ValueError)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("given", ["0.1", [0.1, "0.2"], {"factors": 0.1, "biases": None}, slice("0.1", 1.0),
                                   torch.tensor(0.1), True])
def test_a_fit_refuses_what_is_no_number_by_the_argument_that_it_has(fit, given, data):
    learn = collab_learner(data, n_factors=2)
    rate = "lr" if fit in ("fit", "fit_flat_cos") else "lr_max"
    before = [dict(group) for group in learn.opt.param_groups]
    for name in (rate, "wd"):
        refused(f"^{name} must be a number .*got ", lambda name=name: getattr(learn, fit)(1, **{name: given}))
    refused("^lr must be a number", lambda: (setattr(learn, "lr", given), getattr(learn, fit)(1)))
    assert not learn.recorder.rows
    assert [group["lr"] for group in learn.opt.param_groups] == [group["lr"] for group in before]


@pytest.mark.parametrize("fit", FITS)
def test_a_negative_rate_is_told_by_the_argument_too(fit):
    rate = "lr" if fit in ("fit", "fit_flat_cos") else "lr_max"
    for name in (rate, "wd"):
        refused(f"^{name} must be a finite number, at least 0, got -0.5",
                lambda name=name: getattr(line_learner(), fit)(1, **{name: -0.5}), ValueError)


@pytest.mark.parametrize(("fit", "name", "meant"), [
    ("fit_one_cycle", "lr", "lr_max"), ("fit_one_cycle", "max_lr", "lr_max"), ("fit_sgdr", "lr", "lr_max"),
    ("fit_one_cycle", "div_factor", "div"), ("fit_one_cycle", "callbacks", "cbs"), ("fit", "lr_max", "lr"),
    ("fit_flat_cos", "lr_max", "lr"), ("fit", "learning_rate", "lr"), ("fit", "weight_decay", "wd"),
    ("fit", "n_epoch", "n_epochs"), ("fit_sgdr", "epochs", "n_cycles"), ("fit", "resume_from", "resume")])
def test_a_keyword_of_another_library_is_answered_with_the_one_here(fit, name, meant, data):
    for learn in (line_learner(), collab_learner(data, n_factors=2)):
        refused(rf"^{fit}\(\) takes {meant}, not {name}$", lambda learn=learn: getattr(learn, fit)(**{name: 1}))
        refused("unexpected keyword argument 'zzz'", lambda learn=learn: getattr(learn, fit)(1, zzz=1))


@pytest.mark.parametrize(("name", "says"), [
    ("lr_max", "did you mean 'lr'"), ("learning_rate", "did you mean 'lr'"), ("weight_decay", "did you mean 'wd'"),
    ("callbacks", "did you mean 'cbs'"), ("layers", "did you mean 'hidden'"), ("use_nn", "did you mean 'model'"),
    ("hiden", "did you mean 'hidden'"), ("bs", r"one of the data: CollabDataBunch\.from_df\(ratings, bs=\.\.\.\)")])
def test_a_learner_answers_a_keyword_of_another_library_or_of_the_data(name, says, data):
    refused(says, lambda: collab_learner(data, "net", **{name: 1}))


@pytest.mark.parametrize(("says", "call"), [
    ("seed must be a whole number or None, got '1'", lambda: CollabDataBunch.from_df(RATINGS, seed="1")),
    ("valid_pct is a fraction .*got '0.2'", lambda: CollabDataBunch.from_df(RATINGS, valid_pct="0.2")),
    ("valid_pct is a fraction .*got '0.2'", lambda: random_split("0.2")),
    ("valid_pct is a fraction .*got None", lambda: per_user_split(None)),
    ("val_bs must be a whole number from 1 on, got '9'", lambda: CollabDataBunch.from_df(RATINGS, val_bs="9")),
    ("coeff must be a finite number, at least 0, got '0.1'", lambda: L2("0.1")),
    ("scale must be a finite number, at least 0, got '0.1'", lambda: Ridge("0.1")),
    ("scale must be a finite number, at least 0, got -1", lambda: Ridge(-1)),
    ("every must be a whole number, at least 1, got '5'", lambda: Checkpoint("c", every="5")),
    ("needs 0 < start_lr < end_lr .*got '1e-5', 10.0 and 60", lambda: line_learner().lr_find("1e-5")),
    ("must be whole numbers of at least 1, got '2', 1 and 2", lambda: line_learner().fit_sgdr("2"))])
def test_text_where_a_number_is_wanted_is_told_by_its_name(says, call):
    refused(says, call, ValueError)


@pytest.mark.parametrize("model", ["ease", "als", "infinite_ae"])
def test_a_reg_that_is_text_is_told(model, data):
    refused("^reg must be a finite number above 0, got '50'", lambda: collab_learner(data, model, reg="50"), ValueError)


def test_a_seed_that_is_text_is_told_by_the_learner(data):
    refused("^seed must be a whole number or None, got '1'", lambda: collab_learner(data, seed="1"))

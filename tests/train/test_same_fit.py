"""A fit is resumed only as the fit that it was, and a state is put back whole or not at all."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from helpers import Batchwise, cut_at, fit_quietly, interrupted_at, line_learner, same

from collab import (
    BPR,
    EMA,
    L2,
    Callback,
    CancelTrain,
    Checkpoint,
    CollabDataBunch,
    CollabWarning,
    DataBunch,
    EarlyStopping,
    Learner,
    SampledSoftmax,
    SaveBest,
    ShortEpoch,
    TensorBatches,
    collab_learner,
    synthetic,
)
from collab.data.split import random_split
from collab.files import read_tree, write_tree
from collab.train.fingerprint import hash_of

RATINGS = synthetic(n_users=40, n_items=30, n_ratings=500).ratings


def learner(ratings=RATINGS, seed=0, bs=64, data=None, cbs=None, **options):
    data = CollabDataBunch.from_df(ratings, seed=seed, bs=bs, **(data or {}))
    return collab_learner(data, n_factors=2, cbs=cbs, **{"lr": 0.01, "wd": 0.1, **options})


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A checkpoint of a one-cycle fit of two epochs, in the first of them."""
    path = tmp_path_factory.mktemp("cut") / "c"
    learn = learner()
    with learn.no_logging():
        learn.fit_one_cycle(2, cbs=[Checkpoint(path, every=2), interrupted_at("cleanup_batch", 4)])
    assert learn.interrupted
    return path


# What is compared -------------------------------------------------------------------------------------------------

def frozen():
    learn = learner()
    learn.freeze_to(1)
    return learn


def half_of_the_validation_rows():
    train, valid = first_split()
    kept = np.sort(np.concatenate([train, valid[:50]]))
    return learner(RATINGS.iloc[kept], data={"split": lambda df: (np.flatnonzero(np.isin(kept, train)),
                                                                  np.flatnonzero(np.isin(kept, valid)))})


OTHERS = {
    "rows": (lambda: learner(RATINGS[:-100]), {}, "400 training rows, this one has 320"),
    "bs": (lambda: learner(bs=60), {}, "batch size 64, this one has 60"),
    "split seed": (lambda: learner(seed=1), {}, "seed of the data 0, this one has 1"),
    "ratings": (lambda: learner(RATINGS.assign(rating=RATINGS["rating"].iloc[::-1].to_numpy())), {},
                "other training data"),
    "order": (lambda: learner(RATINGS.iloc[::-1]), {}, "other training data"),
    "validation": (half_of_the_validation_rows, {}, "other validation data"),
    "rate": (learner, {"lr_max": 0.02}, "lr 0.0004 ... 0.01 .*, this one has lr 0.0008 ... 0.02"),
    "momentum": (learner, {"moms": None}, "schedule .*momentum 0.95 .*, this one has lr"),
    "decay": (learner, {"wd": 0.2}, r"weight_decay \[0.1, 0.0\], this one has \[0.2, 0.0\]"),
    "loss": (lambda: learner(loss_func="mae"), {}, "loss mse, this one has mae"),
    "optimizer": (lambda: learner(opt_func=torch.optim.SGD), {}, "optimizer AdamW, this one has SGD"),
    "betas": (lambda: learner(opt_func=partial(torch.optim.AdamW, betas=(0.9, 0.9), fused=True)), {}, "betas .*0.99"),
    "frozen": (frozen, {}, r"groups that are trained \[True, True\], this one has \[False, True\]"),
    "epochs": (learner, {"n_epochs": 3}, "a fit of 2 epochs; resume with as many, not 3"),
}


def with_buffers():
    learn = learner()
    for name in ("seen", "shown"):
        learn.model.register_buffer(name, torch.zeros(1))
    return learn


MODEL = "was written in a fit with another model: "
OTHERS |= {
    "factors": (lambda: collab_learner(learner().data, n_factors=3, lr=0.01, wd=0.1), {},
                MODEL + r"its u_weight.weight has shape \(41, 2\), this model's \(41, 3\), and 1 other differs\. "
                "Resume with the same, or begin anew with a Checkpoint at another path$"),
    "class": (lambda: collab_learner(learner().data, "dot", lr=0.01, wd=0.1), {},
              MODEL + "its class is EmbeddingDotBias, this model's EmbeddingDot\\. Resume with the same, or begin "
              "anew with a Checkpoint at another path$"),
    "names": (with_buffers, {}, MODEL + r"it has no seen \(nor 1 more\)\. Resume"),
    "class and optimizer": (lambda: collab_learner(learner().data, "net", lr=0.01, opt_func=torch.optim.SGD), {},
                            MODEL + "its class is EmbeddingDotBias, this model's EmbeddingNet; optimizer AdamW, this "
                            r"one has SGD\. Resume"),
}


@pytest.mark.parametrize(("cut_off", "other", "says"), [
    ({"loss_func": SampledSoftmax(3)}, {"loss_func": BPR()}, r"objective SampledSoftmax\(.*, this one has BPR"),
    ({"loss_func": BPR(2)}, {"loss_func": BPR(3)}, r"objective BPR\(n_negatives=2, .*this one has BPR\(n_negatives=3,"),
    ({"loss_func": BPR()}, {}, r"objective BPR\(.*\), this one has None"),
    ({"loss_terms": [L2(0.1)]}, {"loss_terms": [L2(0.5)]}, r"terms of the loss \['L2\(0.1\)'\], this one has"),
    ({}, {"loss_terms": [L2(0.5)]}, r"terms of the loss \[\], this one has \['L2\(0.5\)'\]")])
def test_another_objective_or_term_is_refused(cut_off, other, says, tmp_path):
    with learner(**cut_off).no_logging() as learn:
        learn.fit_one_cycle(2, cbs=[Checkpoint(tmp_path / "c", every=2), cut_at(4)])
    with learner(**other).no_logging() as learn, pytest.raises(ValueError, match=says):
        learn.fit_one_cycle(2, resume=tmp_path / "c")
    with learner(**cut_off).no_logging() as learn:
        learn.fit_one_cycle(2, resume=tmp_path / "c")
    assert len(learn.recorder.rows) == 2


def test_a_checkpoint_of_a_version_that_noted_no_objective_is_taken(tmp_path):
    with learner(loss_func="bpr").no_logging() as learn:
        learn.fit_one_cycle(2, cbs=[Checkpoint(tmp_path / "c", every=2), cut_at(4)])
    tree = read_tree(tmp_path / "c")
    for name in ("objective", "terms of the loss"):
        del tree["fit"][name]
    write_tree(tmp_path / "c", tree)
    with learner(loss_func="bpr").no_logging() as learn:
        learn.fit_one_cycle(2, resume=tmp_path / "c")
    assert len(learn.recorder.rows) == 2


def first_split():
    return random_split(0.2, 0)(RATINGS)


@pytest.mark.parametrize("what", OTHERS)
def test_another_fit_is_refused_and_told_what_differs(what, cut):
    make, options, says = OTHERS[what]
    learn = make()
    before, drawn = copy.deepcopy(learn.model.state_dict()), torch.get_rng_state()
    with learn.no_logging(), pytest.raises(ValueError, match=says):
        learn.fit_one_cycle(**{"n_epochs": 2, **options}, resume=cut)
    assert same(before, learn.model.state_dict()) and not learn.recorder.rows
    assert torch.equal(drawn, torch.get_rng_state())


def test_another_schedule_is_told_from_none(cut):
    learn = learner()
    with pytest.raises(ValueError, match="schedule lr .* momentum .*, this one has constant"):
        fit_quietly(learn, 2, resume=cut)
    with learn.no_logging(), pytest.raises(ValueError, match="schedule .*, this one has lr"):
        learn.fit_flat_cos(2, resume=cut)


def test_of_more_groups_with_the_same_options_the_number_alone_is_told(tmp_path):
    data = learner().data
    learn, other = (collab_learner(data, "dot", n_factors=2, lr=0.01, wd=0.1, opt_func=opt_func)
                    for opt_func in (torch.optim.SGD, lambda groups, **options: torch.optim.SGD(
                        [{"params": [p]} for group in groups for p in group["params"]], **options)))
    fit_quietly(learn, 2, cbs=[Checkpoint(tmp_path / "c", every=2), interrupted_at("cleanup_batch", 4)])
    with pytest.raises(ValueError, match=r"a fit with groups that are trained \[True\], this one has \[True, True\]\."):
        fit_quietly(other, 2, resume=tmp_path / "c")


def test_the_same_fit_goes_on_whatever_the_seed_of_the_split_was_called(cut):
    whole = learner()
    split = first_split()
    data = CollabDataBunch.from_df(RATINGS, seed=9, bs=64, split=lambda df: split)      # the same rows
    resumed = collab_learner(data, n_factors=2, lr=0.01, wd=0.1)
    for learn, options in ((whole, {}), (resumed, {"resume": cut})):
        with learn.no_logging():
            learn.fit_one_cycle(2, cbs=Batchwise(), **options)      # as it was cut off: by the loop
    assert same(whole.model.state_dict(), resumed.model.state_dict())


def test_a_short_epoch_is_part_of_the_fit(tmp_path):
    fit_quietly(line_learner([Checkpoint(tmp_path / "c", every=1), interrupted_at("cleanup_batch", 2)]), 2)
    with pytest.raises(ValueError, match="3 batches an epoch, this one has 2; resume with the same ShortEpoch"):
        fit_quietly(line_learner(ShortEpoch(2)), 2, resume=tmp_path / "c")


@pytest.mark.parametrize("kind", ["dataset", "list"])
def test_batches_of_other_kinds_are_compared_too(kind, tmp_path):
    def made(x, bs):
        y = x.sum(1, keepdim=True)
        if kind == "list":
            batches = list(zip(x.split(bs), y.split(bs)))
        else:
            batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), bs, shuffle=True)
        torch.manual_seed(0)
        return Learner(DataBunch(batches, device="cpu"), torch.nn.Linear(2, 1), seed=0)
    x = torch.arange(40.0).view(20, 2)
    fit_quietly(made(x, 5), 2, cbs=Checkpoint(tmp_path / "c", every=5))
    fit_quietly(made(x, 5), 2, resume=tmp_path / "c")
    with pytest.raises(ValueError, match="other training data"):
        fit_quietly(made(x + 1, 5), 2, resume=tmp_path / "c")
    with pytest.raises(ValueError, match="20 training rows, this one has 18"):
        fit_quietly(made(x[:18], 5), 2, resume=tmp_path / "c")


# If it is there ---------------------------------------------------------------------------------------------------

def test_a_script_that_is_run_again_goes_on_where_it_was_cut_off(tmp_path):
    def script(*cbs):
        learn = line_learner([Checkpoint(tmp_path / "c", every=1)], seed=1)
        fit_quietly(learn, 3, cbs=cbs, resume="auto")
        return learn
    whole = line_learner(seed=1)
    fit_quietly(whole, 3)
    first = script(interrupted_at("cleanup_batch", 8))          # there is no file yet: from the beginning
    assert first.interrupted and len(first.recorder.losses) < 9
    second = script()
    with pytest.warns(CollabWarning, match="c was written after the last batch of a fit of 3 epochs: nothing was left"):
        third = script()                                        # once more when all is done
    for learn in (second, third):
        assert torch.equal(learn.model.weight, whole.model.weight)
        assert learn.recorder.losses.tolist() == whole.recorder.losses.tolist()


def test_the_checkpoint_may_be_given_to_the_fit_itself(tmp_path):
    for stop in ([interrupted_at("before_validate", 1)], []):
        learn = line_learner(seed=1)
        fit_quietly(learn, 2, cbs=iter([Checkpoint(tmp_path / "c", every=2), *stop]), resume="auto")
    assert len(learn.recorder.rows) == 2


@pytest.mark.parametrize("n", [0, 2])
def test_without_one_checkpoint_nobody_knows_from_where(n, tmp_path):
    learn = line_learner([Checkpoint(tmp_path / f"c{k}") for k in range(n)])
    with pytest.raises(ValueError, match=f'resume="auto" .* there are {n}; add cbs=Checkpoint'):
        fit_quietly(learn, 1, resume="auto")


# A state is put back whole or not at all ------------------------------------------------------------------------------

def everything(learn):
    return copy.deepcopy([learn.model.state_dict(), learn.opt.state_dict(), [p.grad for p in learn.model.parameters()],
                          [cb.state_dict() for cb in learn.cbs], torch.get_rng_state(),
                          learn.data.train.generator.get_state()])


def damage_model(state):
    state["model"]["i_bias.weight"] = state["model"]["i_bias.weight"][:-1]


def damage_dtype(state):
    state["model"]["i_bias.weight"] = state["model"]["i_bias.weight"].double()


def damage_opt(state):
    state["opt"]["state"][0]["exp_avg"] = state["opt"]["state"][0]["exp_avg"][:-1]


def damage_groups(state):
    del state["opt"]["param_groups"][0]["betas"]


def damage_random(state):
    state["random"][0] = state["random"][0][:-5]


def damage_batches(state):
    state["batches"] = state["batches"].float()


def damage_stream(state):
    next(cb for cb in state["cbs"] if cb["name"] == "Seeded")["state"]["inner"]["random"][0] = torch.zeros(3)


def damage_history(state):
    del next(cb for cb in state["cbs"] if cb["name"] == "Recorder")["state"]["sizes"]


def damage_late(state):
    """A callback that comes after others that were put back."""
    next(cb for cb in state["cbs"] if cb["name"] == "SaveBest")["state"].pop("waited")


def damage_grads(state):
    state["grads"] = {"i_bias.weight": torch.zeros(2)}


def damage_cbs(state):
    del state["cbs"][0]["state"]


DAMAGES = [damage_model, damage_dtype, damage_opt, damage_groups, damage_random, damage_batches, damage_stream,
           damage_history, damage_late, damage_grads, damage_cbs]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_load_that_is_refused_changes_nothing_and_names_the_file(damage, tmp_path):
    first, second = learner(cbs=SaveBest()), learner(cbs=SaveBest())
    fit_quietly(first, 1)
    fit_quietly(second, 2)
    first.save(tmp_path / "broken")
    state = read_tree(tmp_path / "broken")
    damage(state)
    write_tree(tmp_path / "broken", state)
    before = everything(second)
    with pytest.raises(ValueError, match="broken"):
        second.load(tmp_path / "broken")
    assert all(same(one, other) for one, other in zip(before, everything(second)))
    fit_quietly(second, 1)


@pytest.mark.parametrize("damage", DAMAGES[:5], ids=lambda damage: damage.__name__)
def test_a_fit_resumed_from_a_damaged_state_is_refused_before_it_begins(damage, cut, tmp_path):
    state = read_tree(cut)
    damage(state)
    write_tree(tmp_path / "broken", state)
    learn = learner()
    before = everything(learn)
    with learn.no_logging(), pytest.raises(ValueError, match="broken"):
        learn.fit_one_cycle(2, resume=tmp_path / "broken")
    now = everything(learn)
    assert same(before[0], now[0]) and not learn.recorder.rows and same(before[4], now[4]) and same(before[5], now[5])


# What is left out is said ---------------------------------------------------------------------------------------------

def test_the_state_of_callbacks_that_are_gone_is_left_out_with_a_warning(tmp_path):
    fit_quietly(line_learner([EMA(), EarlyStopping(patience=9), SaveBest(), Checkpoint(tmp_path / "c")]), 2)
    learn = line_learner(SaveBest("train_loss"))
    with pytest.warns(CollabWarning, match="c holds the state of EMA, EarlyStopping of 'valid_loss', SaveBest of "
                                           "'valid_loss', which this learner does not have") as said:
        learn.load(tmp_path / "c")
    assert len(said) == 1 and len(learn.recorder.losses) == 6
    line_learner([EMA(), EarlyStopping(), SaveBest()]).load(tmp_path / "c")     # all are there: nothing to say


def test_random_states_of_gpus_that_are_not_here_are_left_out_with_a_warning(tmp_path):
    learn = line_learner()
    learn.save(tmp_path / "s")
    state = read_tree(tmp_path / "s")
    gone = torch.cuda.device_count() + 4 - len(state["random"])         # states of GPUs are there once one was used
    state["random"] += [torch.zeros(16, dtype=torch.uint8)] * gone
    write_tree(tmp_path / "s", state)
    with pytest.warns(CollabWarning, match="s holds the random states of 3 GPUs that are not here"):
        learn.load(tmp_path / "s")


def test_two_of_a_kind_get_each_their_own_state(tmp_path):
    one, other = SaveBest("train_loss"), SaveBest("valid_loss")
    learn = line_learner([one, other])
    fit_quietly(learn, 2)
    learn.save(tmp_path / "s")
    fresh = SaveBest("valid_loss"), SaveBest("train_loss")                      # in another order
    line_learner(fresh).load(tmp_path / "s")
    assert [cb.best for cb in fresh] == [other.best, one.best] and one.best != other.best


def test_a_file_of_the_best_weights_has_them_once_and_is_loaded_without_a_warning(tmp_path):
    fit_quietly(line_learner(SaveBest(path=tmp_path / "best")), 2)
    assert "SaveBest" not in [cb["name"] for cb in read_tree(tmp_path / "best")["cbs"]]
    line_learner().load(tmp_path / "best")


def test_a_checkpoint_that_was_never_written_is_said(tmp_path):
    class Cut(Callback):
        def before_batch(self):
            if self.learn.training and self.learn.i == 2:
                raise CancelTrain
    with pytest.warns(CollabWarning, match="no checkpoint was written to .*c: the last batch of an epoch did not come"):
        fit_quietly(line_learner([Checkpoint(tmp_path / "c"), Cut()]), 2)
    with pytest.warns(CollabWarning, match="every 7 batches did not come in the 6 batches of this fit"):
        fit_quietly(line_learner(Checkpoint(tmp_path / "c", every=7)), 2)
    fit_quietly(line_learner(Checkpoint(tmp_path / "c", every=6)), 2)
    with pytest.raises(IsADirectoryError):
        fit_quietly(line_learner(Checkpoint(tmp_path)), 2)


def test_a_checkpoint_that_is_there_is_not_said_to_be_missing(tmp_path):
    """Where a resumed fit has too little left to come to the next place to write at."""
    for stop in ([cut_at(9)], []):       # after 8 of 9 batches; 1 is left
        fit_quietly(line_learner(), 3, cbs=[Checkpoint(tmp_path / "c", every=4), *stop], resume="auto")
    with pytest.warns(CollabWarning, match="no checkpoint was written to .*other: every 4 batches did not come in the"):
        fit_quietly(line_learner(), 3, cbs=Checkpoint(tmp_path / "other", every=4), resume=tmp_path / "c")


def test_data_are_hashed_by_their_values_and_shapes():
    x = torch.arange(12.0)
    assert hash_of(TensorBatches(x).tensors) == hash_of(TensorBatches(x.clone(), bs=3).tensors)
    others = [x.view(3, 4), x.double(), x.flip(0), x[:11]]
    assert len({hash_of([t]) for t in (x, *others)}) == 5

"""Saving, loading, and going on after a kill with the same bits as a run that was never stopped."""

import copy
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from helpers import cut_at, fit_quietly, interrupted_at, line_learner, same
from safetensors import safe_open

from collab import (
    EMA,
    SWA,
    Callback,
    Checkpoint,
    CollabDataBunch,
    CollabWarning,
    DataBunch,
    EarlyStopping,
    GradientAccumulation,
    Learner,
    ReduceLROnPlateau,
    SaveBest,
    collab_learner,
    synthetic,
)
from collab.files import read_tree, write_tree

RUN = """
import os, signal, sys
import torch
from collab import *

torch.set_num_threads(1)
torch.manual_seed(7)
path, kill, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume"

class Kill(Callback):                       # in the middle of a batch, between the backward pass and the step
    seen = 0
    def after_backward(self):
        if self.seen == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen += 1

data = CollabDataBunch.from_df(synthetic(n_users=50, n_items=40, n_ratings=800, seed=2).ratings, seed=0, bs=32)
learn = collab_learner(data, "net", n_factors=8, cbs=[Checkpoint(path, every=7), EMA(0.9), SaveBest(restore=False)])
with learn.no_logging():
    learn.fit_one_cycle(3, cbs=Kill() if kill >= 0 else None, resume=path if resume else None)
learn.save(path + ".end")
"""


def run(path, kill=-1, resume=False, fresh=None):
    """In a process of its own, with a hash seed of its own, or in one of `fresh`."""
    words = ["-c", RUN, str(path), str(kill), "resume" if resume else "new"]
    done = fresh.run(*words) if fresh else subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if kill >= 0:
        assert done.returncode == -signal.SIGKILL, done.stderr
    else:
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """How a run ends that nobody stops."""
    run(path := tmp_path_factory.mktemp("whole") / "run")
    return read_tree(f"{path}.end")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.parametrize("kills", [[9], [20], [47, 3]])
def test_a_killed_run_ends_with_the_same_bits_when_it_is_resumed(whole, tmp_path, kills, fresh):
    # 20 batches an epoch: in the first epoch; at the first batch of the second; in the third, and again on the way
    # back, where the last process has a hash seed of its own
    for k, kill in enumerate(kills):
        run(tmp_path / "killed", kill=kill, resume=k > 0, fresh=fresh)
    run(tmp_path / "killed", resume=True, fresh=fresh if len(kills) == 1 else None)
    resumed = read_tree(tmp_path / "killed.end")
    assert len(whole["cbs"]) == len(resumed["cbs"]) and same(whole, resumed)


@pytest.mark.parametrize(("method", "n"), [("fit_sgdr", 2), ("fit_flat_cos", 3)])
def test_other_schedules_are_resumed_too(method, n, tmp_path):
    whole, cut, resumed = line_learner(), line_learner(), line_learner()
    stop = [Checkpoint(tmp_path / "c", every=2), interrupted_at("cleanup_batch", 8)]
    for learn, options in ((whole, {}), (cut, {"cbs": stop}), (resumed, {"resume": tmp_path / "c"})):
        with learn.no_logging():
            getattr(learn, method)(n, **options)
    assert torch.equal(whole.model.weight, resumed.model.weight) and whole.recorder.lrs == resumed.recorder.lrs


@pytest.mark.parametrize("at", range(1, 7))
def test_every_batch_is_a_place_to_go_on_from(at, tmp_path):
    def learner(cbs=()):
        return line_learner([GradientAccumulation(8), ReduceLROnPlateau(patience=1), *cbs], seed=1)
    whole = learner()
    fit_quietly(whole, 2)
    cut = learner([Checkpoint(tmp_path / "c", every=1)])
    fit_quietly(cut, 2, cbs=interrupted_at("cleanup_batch", at if at <= 3 else at + 2))
    assert cut.interrupted
    resumed = learner()
    over = pytest.warns(CollabWarning, match="nothing was left to train") if at == 6 else nullcontext()
    with over:
        fit_quietly(resumed, 2, resume=tmp_path / "c")
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert resumed.recorder.losses.tolist() == whole.recorder.losses.tolist()
    assert resumed.recorder.frame().drop(columns="seconds").equals(whole.recorder.frame().drop(columns="seconds"))


SETTINGS = {
    "averages and the best": lambda: [EMA(0.8), GradientAccumulation(8), SaveBest(), ReduceLROnPlateau(patience=1)],
    "plain mean": lambda: [SWA(), EarlyStopping(patience=9)],
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize(("event", "at"), [("after_loss", 4), ("after_backward", 6), ("before_validate", 2),
                                           ("after_validate", 1), ("cleanup_epoch", 1)])
def test_many_settings_cut_in_many_places_end_with_the_same_bits(setting, momentum, event, at, tmp_path):
    def learner(*cbs):
        opt = partial(torch.optim.SGD, momentum=0.9) if momentum else torch.optim.AdamW
        return line_learner([*SETTINGS[setting](), *cbs], seed=1, opt_func=opt, lr=0.05, wd=0.1)
    whole, cut, resumed = learner(), learner(Checkpoint(tmp_path / "c", every=1)), learner()
    fit_quietly(whole, 3)
    fit_quietly(cut, 3, cbs=interrupted_at(event, at))
    assert cut.interrupted
    fit_quietly(resumed, 3, resume=tmp_path / "c")
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert same(whole.opt.state_dict(), resumed.opt.state_dict())
    assert resumed.recorder.frame().drop(columns="seconds").equals(whole.recorder.frame().drop(columns="seconds"))


def test_what_was_saved_in_the_middle_of_a_fit_goes_on_in_its_stream(tmp_path):
    data = CollabDataBunch.from_df(synthetic(n_users=40, n_items=30, n_ratings=500).ratings, seed=0)
    learn, other = collab_learner(data, n_factors=2), collab_learner(data, n_factors=2)
    first = []

    class Order(Callback):
        def before_batch(self):
            if self.learn.training and self.learn.i == 0:
                first.append(self.learn.xb[0].tolist())
    fit_quietly(learn, 2, cbs=[Checkpoint(tmp_path / "c"), Order()])
    other.load(tmp_path / "c")
    fit_quietly(other, 1, cbs=Order())
    assert first[2] not in first[:2]


@pytest.mark.parametrize(("one", "other"), [(torch.optim.SGD, torch.optim.AdamW), (torch.optim.AdamW, torch.optim.SGD)])
def test_the_state_of_another_optimizer_is_refused_and_changes_nothing(one, other, tmp_path):
    line_learner(opt_func=one).save(tmp_path / "s")
    learn = line_learner(opt_func=other)
    before = str(learn.opt.state_dict())
    with pytest.raises(ValueError, match=f"it is that of {one.__name__}"):
        learn.load(tmp_path / "s")
    assert str(learn.opt.state_dict()) == before
    learn.load(tmp_path / "s", with_opt=False)
    fit_quietly(learn, 1)


def test_a_shuffling_dataloader_is_resumed_too(tmp_path):
    def learner():
        torch.manual_seed(0)
        x = torch.randn(40, 3)
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), 8, shuffle=True)
        return Learner(DataBunch(loader, device="cpu"), torch.nn.Linear(3, 1), lr=0.1, seed=4)
    whole, cut, resumed = learner(), learner(), learner()
    fit_quietly(whole, 2)
    fit_quietly(cut, 2, cbs=[Checkpoint(tmp_path / "c", every=1), interrupted_at("cleanup_batch", 7)])
    fit_quietly(resumed, 2, resume=tmp_path / "c")
    assert torch.equal(whole.model.weight, resumed.model.weight)


def test_save_and_load_go_on_as_if_nothing_had_happened(tmp_path):
    def learner():
        data = CollabDataBunch.from_df(synthetic(n_users=40, n_items=30, n_ratings=500).ratings, seed=0)
        return collab_learner(data, "net", n_factors=4)
    whole, first, second = learner(), learner(), learner()
    fit_quietly(whole, 1)
    fit_quietly(whole, 1)
    fit_quietly(first, 1)
    first.save(tmp_path / "s")
    before = torch.get_rng_state()
    second.load(tmp_path / "s")
    assert torch.equal(torch.get_rng_state(), before)
    assert second.recorder.losses.tolist() == first.recorder.losses.tolist()
    fit_quietly(second, 1)
    assert same(whole.model.state_dict(), second.model.state_dict())
    assert second.recorder.losses.tolist() == whole.recorder.losses.tolist()


def test_load_without_the_optimizer_begins_it_anew(tmp_path):
    learn, other = line_learner(), line_learner()
    fit_quietly(learn, 1)
    learn.save(tmp_path / "s")
    other.load(tmp_path / "s", with_opt=False)
    assert torch.equal(learn.model.weight, other.model.weight) and not other.opt.state


def test_a_checkpoint_of_every_epoch_is_written_at_its_last_training_batch(tmp_path):
    learn = line_learner(Checkpoint(tmp_path / "c"))
    fit_quietly(learn, 2)
    state = read_tree(tmp_path / "c")
    assert (state["epoch"], state["done"]) == (1, 3)


@pytest.mark.parametrize(("make", "says"), [
    (lambda learn, path: learn.save(path), "was not written by a Checkpoint in the middle of a fit"),
    (lambda learn, path: learn.fit(3, cbs=Checkpoint(path)), "a fit of 3 epochs; resume with as many, not 2"),
    (lambda learn, path: path.write_text("no"), "not a model file"),
    (lambda learn, path: line_learner(Checkpoint(path), bs=2).fit(2), "5 batches an epoch, this one has 3"),
    (lambda learn, path: None, "there is no file"),
])
def test_resuming_from_what_is_not_a_checkpoint_of_this_fit_is_refused(make, says, tmp_path):
    learn = line_learner()
    with learn.no_logging():
        make(learn, tmp_path / "c")
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        fit_quietly(line_learner(), 2, resume=tmp_path / "c")


def test_a_state_that_does_not_fit_is_refused(tmp_path):
    line_learner().save(tmp_path / "s")
    other = line_learner()
    other.model = torch.nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"this Linear: its weight has shape \(1, 1\), this model's \(1, 2\); make"):
        other.load(tmp_path / "s")


def test_a_state_that_does_not_fit_changes_nothing(tmp_path):
    data = CollabDataBunch.from_df(synthetic(n_ratings=500).ratings, seed=0)
    collab_learner(data, n_factors=3).save(tmp_path / "s")
    other = collab_learner(data, n_factors=4)
    nn_before = {name: t.clone() for name, t in other.model.state_dict().items()}
    with pytest.raises(ValueError, match=r"its u_weight.weight has shape \(\d+, 3\), this model's \(\d+, 4\), and 1 "):
        other.load(tmp_path / "s")
    assert same(nn_before, other.model.state_dict())
    with pytest.raises(ValueError, match="fit .*: its class is EmbeddingDotBias, this model's EmbeddingDot; make"):
        collab_learner(data, "dot").load(tmp_path / "s")


def test_a_write_that_fails_leaves_the_old_checkpoint_and_no_other_file(tmp_path, monkeypatch):
    learn = line_learner()
    learn.save(tmp_path / "s")
    old = (tmp_path / "s").read_bytes()

    def fail(*_):
        raise OSError("disk full")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        learn.save(tmp_path / "s")
    assert (tmp_path / "s").read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["s"]


def test_trees_come_back_as_they_were(tmp_path):
    tree = {"a": [1, 2.5, None, True, "x"], 3: (torch.arange(3), {"b": torch.tensor(1.5)}), "i": float("inf"), "e": {}}
    write_tree(tmp_path / "t", tree)
    back = read_tree(tmp_path / "t")
    assert same(tree, back) and isinstance(back[3], tuple)
    with safe_open(tmp_path / "t", "pt") as file:           # readable by safetensors alone
        assert sorted(file.keys())
    with pytest.raises(TypeError, match="cannot be written"):
        write_tree(tmp_path / "t", {"set": {1, 2}})


# What a learner has trained since is not thrown away ----------------------------------------------------------------

def auto(learn, path, n=2, every=2, cbs=(), resume="auto"):
    fit_quietly(learn, n, cbs=[Checkpoint(path, every=every), *cbs], resume=resume)


@pytest.mark.parametrize("more", [0, 3])
def test_a_second_fit_is_not_taken_back_to_the_checkpoint_of_the_first(more, tmp_path):
    learn = line_learner(seed=1)
    auto(learn, tmp_path / "c")
    fit_quietly(learn, more)
    before, rows = copy.deepcopy(learn.model.state_dict()), len(learn.recorder.rows)
    file = (tmp_path / "c").read_bytes()
    says = f"c was written by a fit that began after 0 batches; this learner has trained {6 + 3 * more}, which would be"
    for resume in ("auto", tmp_path / "c"):
        with pytest.raises(ValueError, match=says):
            auto(learn, tmp_path / "c", resume=resume)
    assert same(before, learn.model.state_dict()) and len(learn.recorder.rows) == rows
    assert (tmp_path / "c").read_bytes() == file
    auto(learn, tmp_path / "other")
    assert len(learn.recorder.rows) == rows + 2


def test_a_script_of_two_fits_goes_on_in_the_second(tmp_path):
    def script(stop=(), first=True):
        learn = line_learner(seed=1)
        if first:
            fit_quietly(learn, 1)
        auto(learn, tmp_path / "c", 3, cbs=stop)
        return learn
    whole = line_learner(seed=1)
    fit_quietly(whole, 1)
    fit_quietly(whole, 3)
    script([cut_at(6)])
    assert read_tree(tmp_path / "c")["began"] == 3
    script([cut_at(9)], first=False)      # resumed by a learner that has not trained before
    assert read_tree(tmp_path / "c")["began"] == 3
    for learn in (script(), script(first=False)):
        assert torch.equal(learn.model.weight, whole.model.weight) and len(learn.recorder.rows) == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("out of memory")])
def test_a_learner_whose_fit_was_cut_off_goes_on_in_it(error, tmp_path):
    whole, learn = line_learner(seed=1), line_learner(seed=1)
    fit_quietly(whole, 3)
    for at in (4, 8):                                           # and again, in the fit that goes on
        try:
            auto(learn, tmp_path / "c", 3, cbs=[cut_at(at, error)])
        except RuntimeError as raised:
            assert raised is error
    auto(learn, tmp_path / "c", 3)
    assert torch.equal(learn.model.weight, whole.model.weight)
    assert learn.recorder.losses.tolist() == whole.recorder.losses.tolist()


def test_what_was_trained_or_loaded_after_a_fit_that_was_cut_off_is_kept(tmp_path):
    other = line_learner(seed=1)
    fit_quietly(other, 4)
    other.save(tmp_path / "s")
    for further in (fit_quietly, lambda learn: learn.load(tmp_path / "s")):
        learn = line_learner(seed=1)
        auto(learn, tmp_path / "c", 3, cbs=[cut_at(5)], resume=None)
        further(learn)
        with pytest.raises(ValueError, match="began after 0 batches; this learner has trained"):
            auto(learn, tmp_path / "c", 3)

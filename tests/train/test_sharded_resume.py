"""Checkpoints of sharded tables: each process writes its rows, and any number of processes go on from them."""

import importlib.util
import os
import signal
import sys
import time
from contextlib import closing
from functools import cache, partial

import pytest
import torch
from fresh import FreshProcesses
from helpers import Batchwise, raise_at
from processes import ended_after_a_kill, in_processes, values

from collab import RMSE, CancelStep, Checkpoint, CollabDataBunch, DataError, collab_learner, synthetic
from collab.files import read_tree, write_tree
from collab.sharded_rows import ShardedRows, rows_of_rank, sharded_tables
from collab.train import sharded_state
from collab.train.row_adagrad import RowAdagrad
from collab.train.sharded_state import write_rows

pytestmark = pytest.mark.usefixtures("torchrec_loaded")
needs_torchrec = pytest.mark.skipif(importlib.util.find_spec("torchrec") is None,
                                    reason='needs TorchRec: pip install "collab-torch[sharded]"')
RATINGS = synthetic(n_users=60, n_items=40, n_ratings=900, seed=3).ratings
PER_EPOCH = 8


class Enough(Exception):
    pass


def learner(n_factors=5, built=False, compiled=False):
    data = CollabDataBunch.from_df(RATINGS, seed=0, bs=90, device="cpu")
    assert len(data.train) == PER_EPOCH

    def make():
        return collab_learner(data, "dot_bias", n_factors, seed=1, opt_func=RowAdagrad, metrics=RMSE(),
                              cbs=[] if compiled else Batchwise())
    if not built:
        return make()
    with sharded_tables():
        return make()


def fitted(path, *cbs, every=3, tables="sharded", **made):
    learn = learner(**made)
    with learn.no_logging(), learn.distributed(tables=tables, minutes=0.9):
        learn.fit_one_cycle(2, cbs=[Checkpoint(path, every=every), *cbs], resume="auto")
    return learn


def state_of(learn):
    """Weights, sums of the optimizer and losses."""
    sums = {name: learn.opt.state.get(p, {}) for name, p in learn.model.named_parameters()}
    return {name: p.detach() for name, p in learn.model.named_parameters()}, sums, torch.tensor(learn.recorder.losses)


def end(rank, path, **options):
    return state_of(fitted(path, **options))


def cut(rank, path, at, **options):
    """A fit that an error ends after batch `at` of the run."""
    with pytest.raises((Enough, RuntimeError)):
        fitted(path, raise_at("after_batch", Enough(), at=at, order=200), **options)


def same(one, other):
    """Whether weights, sums and losses are the same bits."""
    return all(torch.equal(p, other[0][name]) for name, p in one[0].items()) and torch.equal(one[2], other[2]) and all(
        torch.equal(own[key], other[1][name][key]) for name, own in one[1].items() for key in own)


def names(folder):
    return sorted(one.name for one in folder.iterdir())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """How two processes end, by rank, that nothing has stopped (see `state_of`)."""
    @cache
    def undisturbed(**options):
        return values(in_processes(2, partial(end, path=tmp_path_factory.mktemp("whole") / "whole", **options)))
    return undisturbed


@needs_torchrec
@pytest.mark.parametrize("compiled", [True, False])
def test_begun_by_four_processes_and_ended_by_two_and_by_one(tmp_path, compiled):
    """Cut off twice: the RMSE of one process that was never cut off, to 1e-6. The last one is a usual learner, whose
    pass is compiled or not."""
    whole = fitted(tmp_path / "whole", compiled=compiled)
    values(in_processes(4, partial(cut, path=tmp_path / "part", at=4)))
    values(in_processes(2, partial(cut, path=tmp_path / "part", at=10)))
    last = fitted(tmp_path / "part", compiled=compiled)
    assert last.recorder.n_batches == 2 * PER_EPOCH
    assert last.recorder.rows[-1]["rmse"] == pytest.approx(whole.recorder.rows[-1]["rmse"], abs=1e-6)
    (weights, sums, _), (others, own, _) = state_of(last), state_of(whole)
    for name, p in others.items():
        torch.testing.assert_close(weights[name], p, atol=1e-5, rtol=0)
        torch.testing.assert_close(sums[name], own[name], atol=1e-7, rtol=1e-4)
    assert names(tmp_path) == ["part", "whole"]     # and the folders of tables went, as this file holds them


@needs_torchrec
@pytest.mark.parametrize("at", [4, PER_EPOCH - 1])
@pytest.mark.parametrize("n_factors", [5, 8])
def test_as_many_processes_end_with_the_same_bits(tmp_path, undisturbed, at, n_factors):
    """Also where TorchRec's rows are padded."""
    options = {"path": tmp_path / "part", "every": 4, "n_factors": n_factors}
    values(in_processes(2, partial(cut, at=at, **options)))
    for one, other in zip(undisturbed(every=4, n_factors=n_factors), values(in_processes(2, partial(end, **options)))):
        assert same(one, other)


@needs_torchrec
def test_tables_that_are_never_whole_go_on(tmp_path):
    """Cut off in four processes, and ended by three."""
    def ended(rank, path):
        learn = fitted(path, built=True)
        return learn.recorder.rows[-1]["rmse"], learn.recorder.n_batches
    values(in_processes(4, partial(cut, path=tmp_path / "part", at=4, built=True)))
    (whole, n), *_ = values(in_processes(3, partial(ended, path=tmp_path / "whole")))
    for rmse, batches in values(in_processes(3, partial(ended, path=tmp_path / "part"))):
        assert rmse == pytest.approx(whole, abs=1e-6) and batches == n


@needs_torchrec
def test_the_checkpoint_of_one_process_is_resumed_by_two(tmp_path):
    cut(0, tmp_path / "part", 4)
    whole = state_of(fitted(tmp_path / "whole"))
    for weights, sums, _ in values(in_processes(2, partial(end, path=tmp_path / "part"))):
        for name, p in whole[0].items():
            torch.testing.assert_close(weights[name], p, atol=1e-5, rtol=0)
            torch.testing.assert_close(sums[name], whole[1][name], atol=1e-7, rtol=1e-4)


@needs_torchrec
def test_a_learner_is_saved_and_loaded_inside_and_outside(tmp_path):
    path = tmp_path / "saved"

    def work(rank, n_epochs):
        learn = learner()
        with learn.no_logging(), learn.distributed(tables="sharded", minutes=0.9):
            if n_epochs:
                learn.fit(n_epochs)
                learn.save(path)
            else:
                learn.load(path)
            rmse = learn.validate()["rmse"]
            learn.fit(1)
        return rmse, *state_of(learn)
    saved = values(in_processes(2, partial(work, n_epochs=1)))
    loaded = values(in_processes(2, partial(work, n_epochs=0)))
    for (rmse, *one), (own, *other) in zip(saved, loaded):
        assert rmse == own and same(one, other)
    alone = learner()
    alone.load(path)
    assert alone.validate()["rmse"] == pytest.approx(saved[0][0], rel=1e-6)
    with alone.no_logging():
        alone.fit(1)
    torch.testing.assert_close(torch.tensor(alone.recorder.losses), saved[0][3], atol=1e-6, rtol=0)

    def outside(rank):
        """Tables that are not drawn yet are loaded before the processes are connected."""
        learn = learner(built=True)
        learn.load(path)
        with learn.no_logging(), learn.distributed(tables="sharded", minutes=0.9):
            return learn.validate()["rmse"]
    assert values(in_processes(3, outside)) == pytest.approx([saved[0][0]] * 3, rel=1e-6)


@needs_torchrec
def test_what_was_saved_can_be_read_at_once_by_all(tmp_path, monkeypatch):
    """Though the first process takes long to write the main file, and to remove the folder of the one before."""
    def work(rank):
        learn = learner()
        if not rank:
            monkeypatch.setattr(sharded_state, "write_tree", lambda *args: (time.sleep(0.5), write_tree(*args)))
        with learn.no_logging(), learn.distributed(tables="sharded", minutes=0.9):
            for _ in range(2):
                learn.save(tmp_path / "saved")
                learn.load(tmp_path / "saved")
        return True
    assert values(in_processes(2, work)) == [True, True]


# What is killed or fails -----------------------------------------------------------------------------------------


@needs_torchrec
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("when", ["rows", "main"])
def test_a_process_that_is_killed_as_it_writes_leaves_the_checkpoint_before(tmp_path, monkeypatch, undisturbed, rank,
                                                                                        when):
    """At its second checkpoint, in its own rows or, all rows being written, before the main file."""
    path, function = tmp_path / "part", "write_rows" if when == "rows" else "write_tree"
    if (rank, when) == (1, "main"):
        return                      # only the first process writes that

    def dies(me):
        before, calls = getattr(sharded_state, function), []

        def second(*args):
            calls.append(args)
            if me == rank and len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return before(*args)
        monkeypatch.setattr(sharded_state, function, second)
        fitted(path)
    results = in_processes(2, dies)
    assert results[rank] == ("died", signal.SIGKILL)
    assert results[1 - rank][1].startswith("OtherProcess: another process was killed, or has not answered")
    state = read_tree(path)
    assert state["done"] == 3 and len(names(tmp_path)) == 3     # the main file, the old folder, and what was left
    assert (tmp_path / state["tables"]["folder"]).is_dir()
    for one, other in zip(undisturbed(), values(in_processes(2, partial(end, path=path)))):
        assert same(one, other)
    assert names(tmp_path) == ["part", read_tree(path)["tables"]["folder"]]


@needs_torchrec
@pytest.mark.parametrize("function, rank", [("write_rows", 0), ("write_rows", 1), ("write_tree", 0)])
def test_a_disk_that_is_full_ends_all_processes(tmp_path, monkeypatch, function, rank):
    def work(me):
        if me == rank:
            def full(*args):
                raise OSError("no space left")
            monkeypatch.setattr(sharded_state, function, full)
        fitted(tmp_path / "x")
    results = in_processes(2, work)
    assert results[rank] == ("raised", "OSError: no space left")
    assert results[1 - rank] == ("raised", f"OtherProcess: process {rank} has failed with OSError: no space left")
    assert not (tmp_path / "x").exists()


@needs_torchrec
def test_ctrl_c_in_one_process_as_it_writes_ends_the_fit_of_all(tmp_path, monkeypatch, undisturbed):
    """The checkpoint before is whole, and both go on from it."""
    def work(rank):
        calls = []

        def interrupt(*args):
            calls.append(args)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return write_rows(*args)
        if rank:
            monkeypatch.setattr(sharded_state, "write_rows", interrupt)
        learn = fitted(tmp_path / "part")
        return learn.interrupted, learn.recorder.n_batches
    assert values(in_processes(2, work)) == [(True, 6), (True, 6)]
    assert read_tree(tmp_path / "part")["done"] == 3
    for one, other in zip(undisturbed(), values(in_processes(2, partial(end, path=tmp_path / "part")))):
        assert same(one, other)


@needs_torchrec
def test_a_checkpoint_after_a_skipped_step_is_refused(tmp_path):
    """The gradients that wait for the next step would be lost."""
    skip = partial(raise_at, "after_backward", CancelStep(), at=2, order=40)
    results = in_processes(2, lambda rank: fitted(tmp_path / "x", skip()) and None)
    assert all(how == "raised" and "whose gradients wait for the next" in what for how, what in results)
    assert not (tmp_path / "x").exists()


@needs_torchrec
def test_rows_that_one_process_cannot_read_end_all(tmp_path):
    values(in_processes(2, partial(cut, path=tmp_path / "part", at=4)))
    damage(next(tmp_path.glob("part.tables-*")) / "1.safetensors")
    one, other = in_processes(2, partial(end, path=tmp_path / "part"))
    assert other[0] == one[0] == "raised"
    assert "1.safetensors is damaged" in other[1] and "process 1 has failed with DataError" in one[1]


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
import torch
torch.set_num_threads(1)
from train.test_sharded_resume import fitted
from collab import Callback

class Die(Callback):
    def after_step(self):
        marks = Path({folder!r}) / "died"
        if os.environ["RANK"] == "1" and self.learn.recorder.n_batches == 11 and not marks.exists():
            marks.touch()
            os.kill(os.getpid(), signal.SIGKILL)

learn = fitted(Path({folder!r}) / "run", Die())
torch.save({{name: p.detach() for name, p in learn.model.named_parameters()}},
           Path({folder!r}) / f"weights{{os.environ['RANK']}}")
"""


@needs_torchrec
def test_a_process_that_is_killed_is_started_again_by_torchrun(tmp_path, undisturbed):
    """SIGKILL in the second epoch: the weights of the run that was left alone, bit by bit."""
    whole, *_ = undisturbed()[0]
    with closing(FreshProcesses("torchrec")) as fresh:
        ended = ended_after_a_kill(tmp_path, SCRIPT, fresh)
    for weights in ended:
        assert weights.keys() == whole.keys()
        assert all(torch.equal(whole[name], p) for name, p in weights.items())


# A usual learner goes on, without TorchRec -----------------------------------------------------------------------


def by_hand(path, n, share=1.0):
    """Replace a usual checkpoint by that of `n` processes with sharded tables."""
    state, model = read_tree(path), learner().model
    tables = {name: p for name, p in model.named_parameters() if p.dim() == 2}
    assert len(tables) == 4
    places = {name: k for k, (name, _) in enumerate(in_groups(model))}
    folder = path.with_name(f"{path.name}.tables-0123abcd")
    sums = {name: state["opt"]["state"].pop(places[name]) for name in tables}
    whole = {name: state["model"].pop(name) for name in tables}
    for k in range(n):
        write_rows(folder, k, {name: (t[own], sums[name]["row_sum"][own] * share) for name, t in whole.items()
                               for own in [rows_of_rank(len(t), k, n)]})
    write_tree(path, {**state, "tables": {"folder": folder.name, "size": n, "tables": {
        name: {"shape": [*t.shape], "steps": int(sums[name]["step"]), "share": share} for name, t in whole.items()}}})
    return folder


def in_groups(model):
    """The parameters in the order of the optimizer."""
    learn = learner()
    found = {id(p): name for name, p in learn.model.named_parameters()}
    return [(found[id(p)], p) for group in learn.opt.param_groups for p in group["params"]]


def damage(file):
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("n, share", [(1, 1.0), (3, 1.0), (4, 0.5), (64, 1.0)])
def test_a_usual_learner_goes_on_from_the_tables_of_several_processes(tmp_path, monkeypatch, n, share):
    """With the same bits as from a checkpoint of its own, and where TorchRec cannot be imported; of 64 processes, the
    last ones have no rows."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchrec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchrec", None)
    path = tmp_path / "part"
    cut(0, path, 4)
    whole = state_of(fitted(tmp_path / "whole"))
    folder = by_hand(path, n, share)
    assert same(state_of(fitted(path)), whole)
    assert not folder.exists()


def test_pieces_of_tables_are_read_as_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("collab.files.PIECE", 64)
    cut(0, tmp_path / "part", 4)
    whole, learn = learner(), learner()
    whole.load(tmp_path / "part")
    by_hand(tmp_path / "part", 3)
    learn.load(tmp_path / "part")
    assert same(state_of(learn), state_of(whole))
    weights, fresh = state_of(learn)[0], learner()
    fresh.load(tmp_path / "part", with_opt=False)
    assert all(torch.equal(p, weights[name]) for name, p in fresh.model.named_parameters())
    assert not fresh.opt.state


def folder_gone(path, folder):
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def file_gone(path, folder):
    (folder / "2.safetensors").unlink()


def other_rows(path, folder):
    (folder / "0.safetensors").write_bytes((folder / "2.safetensors").read_bytes())


def outside(path, folder):
    state = read_tree(path)
    state["tables"]["folder"] = "../elsewhere"
    write_tree(path, state)


def other_kind(path, folder):
    (folder / "1.safetensors").write_bytes(path.read_bytes())


def no_rows_at_all(path, folder):
    state = read_tree(path)
    state["tables"]["size"] = "many"
    write_tree(path, state)


@pytest.mark.parametrize("wrong, said", [
    (lambda path, folder: damage(folder / "1.safetensors"), "1.safetensors is damaged"),
    (folder_gone, "there is no folder .*: copy or move both"), (file_gone, "there is no file .*2.safetensors"),
    (other_rows, "does not hold 21 rows of u_weight.weight, as .*part says"),
    (outside, "'../elsewhere' is not the name of a folder"), (other_kind, "is a checkpoint of a learner"),
    (no_rows_at_all, "does not hold what such a file must .ValueError: invalid literal")])
def test_tables_that_are_not_whole_are_refused_before_anything_is_changed(tmp_path, wrong, said):
    path = tmp_path / "part"
    cut(0, path, 4)
    wrong(path, by_hand(path, 3))
    learn = learner()
    before = {name: p.detach().clone() for name, p in learn.model.named_parameters()}
    with learn.no_logging(), pytest.raises((DataError, FileNotFoundError), match=said):
        learn.fit_one_cycle(2, cbs=Checkpoint(path, every=3), resume="auto")
    with pytest.raises((DataError, FileNotFoundError), match=said):
        learn.load(path)
    assert all(torch.equal(p, before[name]) for name, p in learn.model.named_parameters())
    assert not learn.opt.state and not learn.recorder.n_batches


def test_tables_of_another_model_are_refused(tmp_path):
    cut(0, tmp_path / "part", 4)
    by_hand(tmp_path / "part", 3)
    with pytest.raises(ValueError, match=r"another model: its [ui]_weight.weight has shape .*5\), this model's .*7\)"):
        fitted(tmp_path / "part", n_factors=7)


def test_rows_are_read_by_processes_that_hold_some(tmp_path, monkeypatch):
    """Of four files, by three processes: rows and sums of tables that are spread. Row 0 becomes the average of the rest
    as the processes are connected."""
    path = tmp_path / "part"
    cut(0, path, 4)
    whole = learner()
    whole.load(path)
    by_hand(path, 4)
    for rank in range(3):
        for name, value in (("RANK", rank), ("WORLD_SIZE", 3), ("MASTER_ADDR", "here"), ("MASTER_PORT", 1)):
            monkeypatch.setenv(name, str(value))
        learn = learner(built=True)
        learn.load(path)
        tables = {name: p for name, p in learn.model.named_parameters() if isinstance(p, ShardedRows)}
        assert len(tables) == 4
        for name, p in whole.model.named_parameters():
            if name in tables:
                kept, own = whole.opt.state[p], tables[name].own
                assert torch.equal(tables[name].shard[rank == 0:], p[own][rank == 0:])
                assert torch.equal(tables[name].sums, kept["row_sum"][own])
                assert tables[name].steps == int(kept["step"]) == 3

"""Tables sharded by TorchRec train as one process does, and come back whole."""

import gc
import importlib.util
import os
import re
import signal
import sys
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from helpers import Batchwise, raise_at
from processes import in_processes, values

from collab import (
    BPR,
    EMA,
    Callback,
    CancelBatch,
    CancelStep,
    CollabDataBunch,
    DataBunch,
    DataError,
    GradientAccumulation,
    GradientClip,
    Learner,
    LossTerms,
    RankingMetrics,
    SaveBest,
    Unsupported,
    collab_learner,
    load_learner,
    synthetic,
)
from collab.learner.evidence import Evidence
from collab.learner.ridge import Ridge
from collab.losses import mse
from collab.models.layers import embedding
from collab.sharded_rows import ShardedRows, sharded_tables
from collab.train.row_adagrad import RowAdagrad

pytestmark = pytest.mark.usefixtures("torchrec_loaded")
needs_torchrec = pytest.mark.skipif(importlib.util.find_spec("torchrec") is None,
                                    reason='needs TorchRec: pip install "collab-torch[sharded]"')
RATINGS = synthetic(n_users=60, n_items=50, n_ratings=750, seed=3).ratings


def learner(model="dot_bias", bs=100, n_factors=5, **options):
    data = CollabDataBunch.from_df(RATINGS, seed=0, bs=bs, val_bs=130, device="cpu")
    sizes = {} if model == "two_tower" else {"n_factors": n_factors}
    rates = {} if model == "dot_bias" else {"lr": 0.05, "wd": 0.0}
    learn = collab_learner(data, model, seed=1, opt_func=RowAdagrad, **{**sizes, **rates, **options})
    learn.add_cbs(Batchwise())
    return learn


def sharded(learn):
    return learn.distributed(tables="sharded", minutes=0.9)


def trained(rank, make=learner, fits=(2,), together=True, cbs=lambda: []):
    """Weights, sums of the optimizer, losses and history after fits, in one `with` or in one each."""
    learn = make()
    with learn.no_logging():
        if together:
            with sharded(learn):
                for n in fits:
                    learn.fit_one_cycle(n, cbs=cbs())
        else:
            for n in fits:
                with sharded(learn):
                    learn.fit_one_cycle(n, cbs=cbs())
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in learn.recorder.rows]
    state = {name: learn.opt.state.get(p, {}) for name, p in learn.model.named_parameters()}
    return {name: p.detach() for name, p in learn.model.named_parameters()}, state, learn.recorder.losses, rows


def same_as_one(n, but=(), atol=1e-5, **options):
    one, many = trained(0, **options), values(in_processes(n, partial(trained, **options)))
    for weights, state, losses, rows in many:
        for name, p in one[0].items():
            assert type(weights[name]) is type(p)
            if name not in but:
                torch.testing.assert_close(weights[name], p, atol=atol, rtol=0)
                torch.testing.assert_close(state[name], one[1][name], atol=1e-7, rtol=1e-4)
        torch.testing.assert_close(losses, one[2], atol=1e-5, rtol=1e-5)
        for row, own in zip(rows, one[3], strict=True):
            assert row == pytest.approx(own, abs=1e-5)
    for each in many[1:]:
        assert all(torch.equal(p, many[0][0][name]) for name, p in each[0].items())


@needs_torchrec
@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("model", ["dot_bias", "dot", "net", "classifier"])
def test_processes_end_where_one_does(model, n):
    """At rates that change with each step, with the ridge of dot_bias, and widths that are no multiples of 4."""
    same_as_one(n, make=partial(learner, model))


@needs_torchrec
@pytest.mark.parametrize("n", [2, 3])
def test_rows_that_are_looked_up_several_times_take_one_step(n):
    """Those of positives and of negatives."""
    same_as_one(n, make=partial(learner, loss_func=BPR(3), metrics=[], lr=0.05, wd=0.0))


@needs_torchrec
@pytest.mark.parametrize("n", [2, 3])
def test_a_batch_is_compared_with_all_of_its_items(n):
    same_as_one(n, make=partial(learner, "two_tower", metrics=[]))


@needs_torchrec
def test_processes_may_have_no_rows_of_a_table_and_no_rows_of_a_batch():
    """Three items in four processes, and a last batch of two rows."""
    few = RATINGS[RATINGS["item"].isin(RATINGS["item"].value_counts().index[:3])].drop_duplicates("user")

    def make():
        data = CollabDataBunch.from_df(few, seed=0, bs=len(few) - int(len(few) * 0.2) - 2, device="cpu")
        learn = collab_learner(data, "dot", 3, seed=1, opt_func=RowAdagrad, lr=0.05, wd=0.0)
        learn.add_cbs(Batchwise())
        return learn
    assert make().data.train.n % make().data.train.bs in (1, 2)
    same_as_one(4, make=make)


@needs_torchrec
@pytest.mark.parametrize("together", [True, False])
def test_a_second_fit_continues_with_the_sums_of_the_first(together):
    same_as_one(2, fits=(1, 2), together=together)


class LateRate(Callback):
    """Changes the rate after the rows of the batch were looked up."""

    def after_backward(self):
        for group in self.learn.opt.param_groups:
            group["lr"] *= 0.5 + self.learn.i / 10


class EverySecondStep(Callback):
    """Skips every second step: its gradients join those of the next."""

    def after_backward(self):
        if self.learn.i % 2:
            raise CancelStep


class DropBatch(Callback):
    """Cancels a batch after its gradients were made."""

    order = 15

    def after_backward(self):
        if self.learn.i == 1:
            raise CancelBatch


@needs_torchrec
@pytest.mark.parametrize("cb", [LateRate, EverySecondStep])
def test_rates_and_steps_are_those_of_callbacks(cb):
    same_as_one(2, cbs=lambda: [cb()])


@needs_torchrec
def test_a_cancelled_batch_leaves_no_gradients():
    """As where tables are replicated; one process alone would add them to the next."""
    def replicated(rank):
        learn = learner()
        with learn.no_logging(), learn.distributed():
            learn.fit_one_cycle(2, cbs=DropBatch())
        return {name: p.detach() for name, p in learn.model.named_parameters()}
    whole = values(in_processes(2, replicated))[0]
    spread = values(in_processes(2, partial(trained, cbs=lambda: [DropBatch()])))[0][0]
    for name, p in whole.items():
        torch.testing.assert_close(spread[name], p, atol=1e-5, rtol=0)


@needs_torchrec
def test_pairs_are_scored_and_validated_inside():
    def work(rank):
        learn = learner()
        with learn.no_logging(), sharded(learn):
            learn.fit(1)
            inside = learn.predict(3, [4, 5]).tolist(), learn.validate()["rmse"], learn.get_preds()[0]
        return *inside, learn.predict(3, [4, 5]).tolist(), learn.validate()["rmse"] if not rank else None
    for scores, rmse, preds, after, rmse_after in values(in_processes(2, work)):
        assert scores == pytest.approx(after, rel=1e-6)
        assert len(preds) == 150
        assert rmse_after in (None, pytest.approx(rmse, rel=1e-6))


# Tables that are never whole ---------------------------------------------------------------------------------------


def test_alone_tables_are_built_as_usual():
    torch.manual_seed(0)
    usual = embedding(50, 4)
    torch.manual_seed(0)
    with sharded_tables():
        assert torch.equal(embedding(50, 4).weight, usual.weight)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_rows_are_drawn_alike_by_any_number_of_processes(size, monkeypatch):
    monkeypatch.setattr("collab.sharded_rows.BLOCK", 16)

    def drawn(n):
        parts = []
        for rank in range(n):
            for name, value in (("RANK", rank), ("WORLD_SIZE", n), ("MASTER_ADDR", "here"), ("MASTER_PORT", 1)):
                monkeypatch.setenv(name, str(value))
            torch.manual_seed(5)
            with sharded_tables():
                table = embedding(100, 8, std=0.1).weight
            assert isinstance(table, ShardedRows) and table.shape == (100, 8)
            parts.append(torch.empty(table.own.stop - table.own.start, 8))
            table.fill(parts[-1])
        return torch.cat(parts)
    two = drawn(2)
    assert torch.equal(drawn(size) if size > 1 else two, two)
    monkeypatch.setattr("collab.sharded_rows.ROWS", 4)
    assert torch.equal(drawn(2), two)
    assert two.abs().max() <= 0.2
    assert two.std().item() == pytest.approx(0.0880, abs=0.005)     # of a normal one cut off at two deviations
    assert len(two.unique(dim=0)) == 100


def built(rank, path=None):
    """A learner whose tables were sharded from the start, after a fit."""
    with sharded_tables():
        learn = learner()
    assert all(type(table) is ShardedRows for tables in learn.collab_model.id_tables().values() for table in tables)
    assert learn.collab_model.id_tables()["user"][0].shard is None      # not drawn yet
    with learn.no_logging(), sharded(learn):
        learn.fit_one_cycle(2)
    if path is not None:
        learn.cbs = [cb for cb in learn.cbs if not isinstance(cb, Batchwise)]     # which a file cannot hold
        learn.export(path)
    if rank:
        table = learn.model.u_weight.weight
        with pytest.raises(RuntimeError, match=r"can be looked up inside `with learn.distributed\(tables='sharded'\)`"):
            learn.predict(3, [4, 5])
        with pytest.raises(RuntimeError, match=f"needs all 61 rows of a table, of which this process holds "
                                               f"{table.own.start} to {table.own.stop}"):
            learn.recommend(3)
        return table.own, table.shard
    with learn.no_logging():
        weights = {name: p.detach().clone() for name, p in learn.model.named_parameters()}
    return weights, learn.predict(3, [4, 5]), learn.recorder.rows[-1]["valid_loss"]


@needs_torchrec
def test_tables_that_are_never_whole_come_to_the_first_process(tmp_path):
    two = values(in_processes(2, partial(built, path=tmp_path / "two.model")))
    three = values(in_processes(3, built))
    for name, p in two[0][0].items():
        torch.testing.assert_close(three[0][0][name], p, atol=1e-6, rtol=0)
    assert two[0][2] == pytest.approx(three[0][2], abs=1e-6)
    for (weights, *_), *others in (two, three):
        for own, shard in others:
            assert torch.equal(weights["u_weight.weight"][own], shard)
    loaded = load_learner(tmp_path / "two.model")
    assert loaded.predict(3, [4, 5]).tolist() == two[0][1].tolist()
    assert torch.equal(loaded.model.i_bias.weight, two[0][0]["i_bias.weight"])
    average = loaded.model.u_weight.weight[loaded.data.trained["user"]].mean(0)
    torch.testing.assert_close(loaded.model.u_weight.weight[0], average, atol=1e-7, rtol=1e-5)


@needs_torchrec
def test_tables_that_came_to_the_first_process_are_spread_again():
    def work(rank):
        with sharded_tables():
            learn = learner()
        with learn.no_logging():
            for _ in range(2):
                with sharded(learn):
                    learn.fit(1)
        return learn.recorder.losses

    def at_once(rank):
        with sharded_tables():
            learn = learner()
        with learn.no_logging(), sharded(learn):
            learn.fit(1)
            learn.fit(1)
        return learn.recorder.losses
    torch.testing.assert_close(values(in_processes(2, work))[1], values(in_processes(2, at_once))[1], atol=1e-6, rtol=0)


# What a process keeps of the rows of others ------------------------------------------------------------------------


class Watch(Callback):
    """What tensors there are with so many rows as one of these, at a batch of the second epoch, but for those that were
    there before."""

    def __init__(self, *lengths):
        self.lengths, self.before, self.seen = lengths, [], None
        self.before = self._found()

    def after_batch(self):
        if self.learn.training and self.learn.epoch == 1:
            self.seen = self.now()

    def now(self):
        return [(one.dtype, *one.shape) for one in self._found()]

    def _found(self):
        gc.collect()
        tensors = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
        return [one for one in tensors if one.dim() and len(one) in self.lengths
                and not any(one is other for other in self.before)]


@needs_torchrec
@pytest.mark.parametrize("start, there", [
    (sharded_tables, []), (nullcontext, [(torch.bool, 61), (torch.bool, 51)])])        # `data.trained`, of before
@pytest.mark.parametrize("n", [2, 4])
def test_a_process_keeps_the_ridge_of_its_own_rows_alone(n, start, there):
    """And nothing else that is as long as a table: by the default recipe, during a fit and after it."""
    def work(rank):
        watch = Watch(61, 51)
        with start():
            learn = learner(bs=64)
        assert watch.lengths == (learn.data.n_users, learn.data.n_items)
        with learn.no_logging(), sharded(learn):
            learn.fit(2, cbs=watch)
            after, tables = watch.now(), learn.collab_model.dot_tables()
            evidence = Evidence.known[learn.data.train][tables.y_range]
            beside = [table.beside(torch.arange(len(table))) for table in (tables.user_bias, tables.item_bias)]
            return (watch.seen, after, [len(own) for own in evidence.counts], evidence.biases,
                    [table.own.stop - table.own.start for table in (tables.users, tables.items)],
                    [own.tolist() for own in beside])
    counts = [learner().data.counts(side).tolist() for side in ("user", "item")]
    for during, after, lengths, biases, own, beside in values(in_processes(n, work)):
        assert during == after == there and biases is None
        assert lengths == own and own[0] <= -(-61 // n)
        assert beside == counts             # which no step has moved


@needs_torchrec
@pytest.mark.parametrize("n_factors", [5, 8])
def test_a_ridge_without_biases_is_that_of_one_process(n_factors):
    """Rows of 8 numbers have no room for more."""
    same_as_one(2, make=partial(learner, "dot", n_factors=n_factors, cbs=Ridge(3.0)))


@needs_torchrec
def test_after_the_with_the_ridge_is_whole():
    def work(rank):
        learn = learner()
        before = Evidence.of(learn.data, learn.data.y_range).ridges(0.25)
        with learn.no_logging(), sharded(learn):
            learn.fit(1)
        ridge = next(cb for cb in learn.cbs if isinstance(cb, Ridge))
        assert not ridge.by_row             # it would keep the shards
        found = Evidence.of(learn.data, learn.data.y_range).ridges(0.25)
        return [own.tolist() == one.tolist() for own, one in zip(found, before)]
    assert values(in_processes(2, work)) == [[True] * 4] * 2


# What cannot be had --------------------------------------------------------------------------------------------------


def refused(make, **fit):
    """What a `with` and a fit inside raise in two processes, which train nothing, and whether tables are spread."""
    def work(rank):
        learn = make()
        before = {name: p.detach().clone() for name, p in learn.model.named_parameters()}
        try:
            with learn.no_logging(), sharded(learn):
                learn.fit(1, **{name: make() if callable(make) else make for name, make in fit.items()})
        except (DataError, Unsupported) as error:
            spread = any(type(p) is ShardedRows for p in learn.model.parameters())
            same = spread or all(torch.equal(p, before[name]) for name, p in learn.model.named_parameters())
            assert same and not learn.recorder.n_batches
            return type(error).__name__, str(error), spread
        return "nothing", "", False
    one, other = values(in_processes(2, work))
    assert one == other
    return one


def plain():
    data = DataBunch([(torch.ones(2, 1), torch.ones(2, 1))], device="cpu")
    return Learner(data, torch.nn.Linear(1, 1), mse, opt_func=RowAdagrad)


@needs_torchrec
@pytest.mark.parametrize("make, said", [
    (partial(learner, "svdpp"), "multiplies the matrix of all ratings in each batch.*tables='replicated'"),
    (lambda: collab_learner(learner().data, "als"), "is not trained step by step"),
    (partial(learner, "two_tower", loss_func="full_softmax", metrics=[]), "loss_func='sampled_softmax'"),
    (lambda: collab_learner(learner().data, "dot", seed=1), r"AdamW: collab_learner\(data, opt_func=RowAdagrad\)"),
    (plain, "such as those of collab_learner")])
def test_what_cannot_be_sharded_is_refused_before_anything_is_done(make, said):
    kind, message, spread = refused(make)
    assert kind in ("Unsupported", "DataError") and re.search(said, message), message
    assert not spread


@needs_torchrec
@pytest.mark.parametrize("make, said", [
    (partial(GradientClip, 1.0), "GradientClip needs all gradients"),
    (partial(GradientAccumulation, 200), "larger batches"),
    (partial(EMA, 0.9), "EMA averages all weights"), (partial(SaveBest, "valid_loss"), "SaveBest keeps copies"),
    (partial(LossTerms, lambda model: torch.zeros(())), "LossTerms reads all weights"),
    (RankingMetrics, r"metrics=\[\]")])
def test_callbacks_that_need_whole_tables_are_refused_before_the_fit(make, said):
    kind, message, _ = refused(learner, cbs=make)
    assert kind == "DataError" and re.search(said, message), message


@needs_torchrec
def test_weight_decay_is_refused():
    assert "pass wd=0" in refused(learner, wd=0.1)[1]


def test_without_torchrec_it_says_what_to_install():
    def work(rank):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchrec"]:
            del sys.modules[name]
        sys.modules["torchrec"] = None
        learn = learner()
        with pytest.raises(DataError, match=r'TorchRec.*: pip install "collab-torch\[sharded\]"'), sharded(learn):
            pass
        assert type(learn.model.u_weight.weight) is torch.nn.Parameter
        with learn.no_logging(), learn.distributed(minutes=0.9):
            learn.fit(1)
        return True
    assert values(in_processes(2, work)) == [True, True]


def test_alone_sharded_tables_are_the_usual_ones():
    learn = learner()
    with learn.no_logging(), learn.distributed(tables="sharded"):
        learn.fit(1)
    assert type(learn.model.u_weight.weight) is torch.nn.Parameter


# One process fails ---------------------------------------------------------------------------------------------------


@needs_torchrec
@pytest.mark.parametrize("event, order", [
    ("before_batch", -98), ("before_batch", 10), ("after_pred", 0), ("after_loss", 0), ("after_backward", 10),
    ("after_backward", 40), ("after_step", -100), ("after_step", 0), ("after_batch", 0), ("cleanup_train", 95),
    ("before_validate", 0), ("after_epoch", 0)])
def test_an_error_of_one_process_ends_all(event, order):
    """Wherever it is raised; none waits for another."""
    def work(rank):
        learn = learner()
        if rank:
            learn.add_cbs(raise_at(event, ValueError("here"), at=1 if "batch" in event else 0, order=order))
        with learn.no_logging(), sharded(learn):
            learn.fit(2)
    (_, one), (_, other) = in_processes(2, work)
    assert one.startswith("OtherProcess: process 1 has failed with ValueError: here"), one
    assert other == "ValueError: here"


@needs_torchrec
@pytest.mark.parametrize("event", ["before_batch", "after_pred", "after_backward", "after_step", "before_validate"])
def test_a_process_that_is_killed_ends_the_others(event):
    class Killed(Callback):
        def __init__(self):
            setattr(self, event, lambda: os.kill(os.getpid(), signal.SIGKILL))

    def work(rank):
        learn = learner()
        if rank == 1:
            learn.add_cbs(Killed())
        with learn.no_logging(), sharded(learn):
            learn.fit(1)
    first, killed, third = in_processes(3, work)
    assert killed == ("died", signal.SIGKILL)
    assert first[0] == third[0] == "raised" and first[1].startswith("OtherProcess: another process was killed"), first


@needs_torchrec
def test_an_interrupt_of_one_process_ends_the_fit_of_all_and_tables_come_back():
    def work(rank):
        learn = learner()
        if rank:
            learn.add_cbs(raise_at("after_loss", KeyboardInterrupt(), at=3))
        with learn.no_logging(), sharded(learn):
            learn.fit(2)
        mean = learn.model.u_weight.weight[learn.data.trained["user"]].mean(0)
        torch.testing.assert_close(learn.model.u_weight.weight[0], mean, atol=1e-6, rtol=0)
        return learn.interrupted, type(learn.model.u_weight.weight), learn.model.u_weight.weight.detach()
    one, other = values(in_processes(2, work))
    assert one[:2] == other[:2] == (True, torch.nn.Parameter)
    assert torch.equal(one[2], other[2])

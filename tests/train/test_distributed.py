"""Several processes on slices of each batch end where one process on whole batches does."""

from functools import partial

import pytest
import torch
from helpers import Batchwise, line_learner
from processes import in_processes, values
from torch import nn

from collab import (
    BPR,
    MAE,
    RMSE,
    Callback,
    CollabDataBunch,
    DataBunch,
    EarlyStopping,
    GradientAccumulation,
    GradientClip,
    InBatchSoftmax,
    Learner,
    LossTerms,
    Metric,
    MixedPrecision,
    Ridge,
    SampledSoftmax,
    SaveBest,
    TensorBatches,
    collab_learner,
    synthetic,
)
from collab.losses import mse
from collab.train.process_group import ProcessGroup
from collab.train.reduction import Gradients
from collab.train.row_adagrad import RowAdagrad

RATINGS = synthetic(n_users=60, n_items=50, n_ratings=750, seed=3).ratings        # six batches of 100
MORE = synthetic(n_users=120, n_items=90, n_ratings=1_500, seed=3).ratings
OPTIMIZERS = {"sgd": {"opt_func": torch.optim.SGD, "lr": 0.3, "wd": 0.01},
              "adagrad": {"opt_func": RowAdagrad, "lr": 0.05, "wd": None}, "adamw": {"lr": 5e-3, "wd": 0.1}}
MODELS = "dot_bias", "net", "bpr", "two_tower"


def bunch(ratings=RATINGS):
    return CollabDataBunch.from_df(ratings, seed=0, bs=100, val_bs=130, device="cpu")


def trained(rank, make, n_epochs=2):
    """The parameters, losses and history of a learner after a fit, inside a `with` that does nothing in one process."""
    learn = make()
    learn.add_cbs(Batchwise())          # one process takes the steps of the loop, too
    with learn.no_logging(), learn.distributed():
        learn.fit_one_cycle(n_epochs)
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in learn.recorder.rows]
    return ({name: p.detach() for name, p in learn.model.named_parameters()}, torch.tensor(learn.recorder.losses), rows,
            learn.recorder._batches().sizes.tolist())


def same_as_one(make, n, but=(), atol=1e-5, of_losses=1e-6):
    """Train in one process and in `n`; all of these end with the same bits, and with those of one to `atol`."""
    one = trained(0, make)
    many = values(in_processes(n, partial(trained, make=make)))
    for each in many[1:]:
        assert all(torch.equal(each[0][name], p) for name, p in many[0][0].items())
        assert each[2] == many[0][2]
    for name, p in one[0].items():
        if name not in but:
            torch.testing.assert_close(many[0][0][name], p, atol=atol, rtol=0)
    torch.testing.assert_close(many[0][1], one[1], atol=of_losses, rtol=of_losses)
    for row, own in zip(many[0][2], one[2], strict=True):
        assert row == pytest.approx(own, abs=of_losses)
    assert many[0][3] == one[3]
    return many[0], one


def learner(model, optimizer, ratings=RATINGS, **options):
    sizes = {} if model == "two_tower" else {"n_factors": 5}
    return collab_learner(bunch(ratings), model, seed=1, **{**OPTIMIZERS[optimizer], **sizes, **options})


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_processes_end_where_one_does(model, optimizer, n):
    same_as_one(lambda: learner(model, optimizer), n)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("model", ["dot_bias", "svdpp", "classifier"])
def test_metrics_are_those_of_all_rows(model, n):
    """To 1e-9, where the weights are the same: before any training."""
    def measured(rank):
        learn = collab_learner(bunch(), model, seed=1, n_factors=5, metrics=[RMSE(), MAE(), largest])
        learn.add_cbs(Batchwise())
        with learn.distributed():
            learn.fit(1, lr=0.0, wd=0.0) if model == "dot_bias" else None
            return learn.validate(), learn.get_preds()
    one, many = measured(0), values(in_processes(n, measured))
    for scores, (preds, targets) in many:
        assert scores["rmse"] == pytest.approx(one[0]["rmse"], rel=1e-9)
        assert scores["mae"] == pytest.approx(one[0]["mae"], rel=1e-9)
        assert scores["largest"] == one[0]["largest"]
        assert scores["valid_loss"] == pytest.approx(one[0]["valid_loss"], rel=1e-9)
        assert torch.equal(preds, one[1][0])        # in the order of the rows
        assert torch.equal(targets, one[1][1])
    assert len({repr(scores) for scores, _ in many}) == 1


def largest(preds, targets):
    return float((preds - targets).abs().max())


@pytest.mark.parametrize(("name", "make"), [
    ("accumulated", lambda: learner("dot_bias", "adamw", cbs=GradientAccumulation(250))),
    ("clipped", lambda: learner("dot_bias", "adamw", cbs=GradientClip(0.01))),
    ("both", lambda: learner("dot_bias", "adamw", cbs=[GradientAccumulation(250), GradientClip(0.01)])),
    ("ridge", lambda: learner("dot_bias", "adagrad", wd=None)),
    ("terms", lambda: learner("dot_bias", "adamw", cbs=LossTerms(square))),
    ("dropout", lambda: learner("net", "adamw", emb_drop=0.2, drop=0.3)),
    ("dropout of drawn items", lambda: learner("net", "sgd", drop=0.3, cbs=BPR(n_negatives=2))),
    ("several drawn items", lambda: learner("dot_bias", "adamw", loss_func=BPR(n_negatives=3))),
    ("sampled softmax", lambda: learner("dot_bias", "adagrad", loss_func=SampledSoftmax(n_negatives=7))),
    ("softmax in the batch", lambda: learner("dot", "sgd", wd=None, cbs=InBatchSoftmax(exclude_seen=True))),
    ("with biases", lambda: learner("dot_bias", "adamw", wd=None, loss_func=InBatchSoftmax())),
    ("svdpp", lambda: learner("svdpp", "sgd")),
    ("svdpp of drawn items", lambda: learner("svdpp", "adagrad", loss_func=BPR(n_negatives=2))),
    ("net of drawn items", lambda: learner("net", "adagrad", loss_func=BPR(n_negatives=2))),
    ("softmax", lambda: learner("softmax", "sgd", wd=None, drop=0.3, leave_out=True)),
    ("classifier", lambda: learner("classifier", "sgd", drop=0.0)),
    ("bfloat16", lambda: learner("net", "sgd", MORE, cbs=MixedPrecision())),
    ("fewer rows than processes", lambda: few_rows()),
    ("small tables with sparse gradients", lambda: few_rows(torch.optim.SparseAdam, sparse=True)),
], ids=lambda value: value if isinstance(value, str) else "")
def test_whatever_is_combined(name, make):
    same_as_one(make, 3, **({"atol": 4e-3, "of_losses": 4e-3} if name == "bfloat16" else {}))     # its rounding


def square(model):
    return 0.01 * model.u_weight.weight.square().mean()


def few_rows(opt=torch.optim.SGD, sparse=False):
    """Batches of two rows and a last one of one: some slices are empty."""
    rows = [torch.tensor([1, 2, 3, 4, 5]), torch.tensor([2, 1, 3, 2, 1]), torch.tensor([5.0, 3.0, 1.0, 2.0, 4.0])]
    data = DataBunch(TensorBatches(*rows, bs=2, shuffle=True, seed=1), TensorBatches(*rows, bs=2), device="cpu")
    torch.manual_seed(2)
    return Learner(data, Product(sparse), mse, opt, lr=0.1, metrics=[RMSE(), MAE(), largest], seed=3)


class Product(nn.Module):
    def __init__(self, sparse=False):
        super().__init__()
        self.users, self.items = nn.Embedding(6, 3, sparse=sparse), nn.Embedding(4, 3, sparse=sparse)

    def forward(self, users, items):
        return (self.users(users) * self.items(items)).sum(1)


@pytest.mark.parametrize("sparse", [False, True])
def test_large_tables_are_exchanged_by_their_rows(sparse):
    """Equal to the gradients of all rows, worked out without any process."""
    def made():
        torch.manual_seed(0)
        model = nn.Embedding(40_000, 4, sparse=sparse)
        model.bias = nn.Parameter(torch.zeros(2))
        return model

    def loss_of(model, rows):
        return (model(rows).square().sum(1) * torch.arange(1.0, len(rows) + 1)).sum() + model.bias.sum() * len(rows)
    slices = [torch.tensor([1, 5, 5, 39_999]), torch.tensor([5, 7]), torch.tensor([], dtype=torch.int64)]

    def added(rank):
        model, group = made(), ProcessGroup(torch.device("cpu"), 0.5)
        if len(slices[rank]):
            loss_of(model, slices[rank]).backward()
        mine = Gradients(model)
        mine.add_up(group.objects(mine.numbers))
        group.close()
        assert model.weight.grad.is_sparse == sparse
        return model.weight.grad.to_dense() if sparse else model.weight.grad, model.bias.grad
    model = made()
    sum(loss_of(model, rows) for rows in slices[:2]).backward()
    many = values(in_processes(3, added))
    for table, bias in many:
        torch.testing.assert_close(table, model.weight.grad.to_dense() if sparse else model.weight.grad)
        assert torch.equal(bias, torch.full((2,), 6.0))
        assert torch.equal(table, many[0][0])


@pytest.mark.parametrize(("name", "make", "sparse"), [
    ("ridge", lambda: learner("dot_bias", "adagrad", lr=0.07, wd=None, cbs=Ridge()), True),
    ("bpr", lambda: learner("dot", "adagrad", cbs=BPR()), True),
    ("net", lambda: learner("net", "adagrad", cbs=GradientAccumulation(250)), True),
    ("clipped", lambda: learner("dot_bias", "adagrad", cbs=GradientClip(0.1)), False),
    ("decay", lambda: learner("dot_bias", "adagrad", wd=0.1), False),
    ("other", lambda: learner("dot_bias", "adamw"), False)], ids=lambda value: value if isinstance(value, str) else "")
def test_large_tables_have_sparse_gradients(name, make, sparse, monkeypatch):
    """Where only touched rows move; the steps are those of dense ones."""
    monkeypatch.setattr("collab.train.sparse_gradients.LARGE", 1)
    monkeypatch.setattr("collab.train.reduction.SMALL", 1)

    class Seen(Callback):
        def after_pred(self):
            if self.learn.training:
                self.sparse = [layer.sparse for layer in self.learn.model.modules() if isinstance(layer, nn.Embedding)]

    def trained_by(rank):
        learn, seen = make(), Seen()
        learn.add_cbs([Batchwise(), seen])
        with learn.no_logging(), learn.distributed():
            learn.fit_one_cycle(2)
        assert not any(layer.sparse for layer in learn.model.modules() if isinstance(layer, nn.Embedding))
        return {name: p.detach() for name, p in learn.model.named_parameters()}, {*seen.sparse}
    one, many = trained_by(0), values(in_processes(2, trained_by))
    for params, seen in many:
        assert seen == {sparse}
        for key, p in one[0].items():
            torch.testing.assert_close(params[key], p, atol=1e-5, rtol=0)
            assert torch.equal(params[key], many[0][0][key])


def test_the_steps_of_sparse_gradients():
    """RowAdagrad takes the same steps for a sparse gradient, with rows that come twice, as for the dense one."""
    tables = [nn.Parameter(torch.arange(12.0).view(6, 2)) for _ in range(2)]
    rows = torch.tensor([4, 1, 4])
    for table, sparse in zip(tables, (False, True)):
        opt = RowAdagrad([table], lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            nn.functional.embedding(rows, table, sparse=sparse).square().sum().backward()
            opt.step()
        assert opt.state[table]["row_sum"][4] > 0 and opt.state[table]["row_sum"][0] == 0
    torch.testing.assert_close(tables[0], tables[1])


# What is the same in all processes, and what only the first one does --------------------------------------------------

def test_processes_without_a_seed_train_one_model():
    def work(rank):
        torch.manual_seed(rank)         # as a process of its own would have
        learn = collab_learner(bunch(), n_factors=5, **OPTIMIZERS["adamw"])
        with learn.no_logging(), learn.distributed():
            learn.fit(1)
        return [*learn.model.parameters()], learn.recorder.losses
    (first, losses), *others = values(in_processes(3, work))
    for params, own in others:
        assert all(map(torch.equal, first, params)) and (own == losses).all()


def test_what_was_trained_in_one_process_goes_on_in_several():
    """Weights and moments of the first process, which has loaded them alone."""
    def begun(rank):
        learn = learner("dot_bias", "adamw", cbs=Batchwise())
        if rank == 0:
            with learn.no_logging(), learn.distributed() if False else learn.no_bar():
                learn.opt.zero_grad()
                one_step(learn)
        with learn.no_logging(), learn.distributed():
            learn.fit(1)
        return {name: p.detach() for name, p in learn.model.named_parameters()}
    one, many = begun(0), values(in_processes(2, begun))
    for name, p in one.items():
        torch.testing.assert_close(many[0][name], p, atol=1e-5, rtol=0)
        assert torch.equal(many[0][name], many[1][name])


def one_step(learn):
    *xb, yb = next(iter(learn.data.train.in_order()))
    learn.loss_func(learn.model(*xb), yb).backward()
    learn.opt.step()


def test_a_stop_by_what_all_have_measured(tmp_path):
    """Each process sees the metrics of all rows, and so stops after the same epoch; the first one has written."""
    def work(rank):
        learn = learner("dot_bias", "adamw", cbs=[EarlyStopping(patience=0, min_delta=10.0), SaveBest(
            path=tmp_path / f"best{rank}")])
        with learn.distributed():
            learn.fit(5)
        return len(learn.recorder.rows), learn.recorder.put_back
    assert values(in_processes(2, work)) == [(2, 1), (2, 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["best0"]


def test_the_first_process_alone_prints(capfd):
    def work(rank):
        with (learn := line_learner()).distributed():
            learn.fit(1)
    values(in_processes(3, work))
    out = capfd.readouterr().out
    assert out.count("epoch") == 1 and len(out.splitlines()) == 2


# What is refused -------------------------------------------------------------------------------------------------

def refused(work, n=2):
    """The message with which every process refuses to train."""
    results = in_processes(n, work)
    assert [how for how, _ in results] == ["raised"] * n, results
    return results[0][1]


def test_several_processes_do_not_train_models_of_their_own():
    assert "fit inside `with learn.distributed():`" in refused(lambda rank: line_learner().fit(1))


def test_a_model_in_a_wrapper_is_refused():
    with pytest.raises(TypeError, match="give the model itself, not DataParallel around it"):
        Learner(line_learner().data, nn.DataParallel(nn.Linear(1, 1)))


@pytest.mark.parametrize(("change", "said"), [
    ("data", "training rows"), ("epochs", "number of epochs"), ("rate", "hyper-parameters"),
    ("model", "shape of parameters"), ("callbacks", "callbacks")])
def test_what_differs_between_processes_is_said(change, said):
    def work(rank):
        odd = rank == 1
        data = CollabDataBunch.from_df(RATINGS, seed=5 if odd and change == "data" else 0, bs=100, device="cpu")
        learn = collab_learner(data, n_factors=6 if odd and change == "model" else 5, wd=0.1,
                               lr=0.2 if odd and change == "rate" else 0.1,
                               cbs=GradientClip(1) if odd and change == "callbacks" else None)
        with learn.distributed():
            learn.fit(2 if odd and change == "epochs" else 1)
    message = refused(work)
    expected = f"has other {said} than process 0" if change == "data" else f"another fit than process 0: {said}: "
    assert f"process 1 {'' if change == 'data' else 'would train '}{expected}" in message, message


def test_a_metric_that_cannot_be_merged_is_refused():
    class Odd(Metric):
        name = "odd"

        def reset(self):
            self.n = 0

        def update(self, pred, target):
            self.n += len(target)

        def value(self):
            return self.n

    def work(rank):
        with (learn := line_learner(metrics=Odd())).distributed():
            learn.fit(1)
    assert "the metric odd cannot be computed by several processes" in refused(work)


def test_batch_norm_is_refused():
    def work(rank):
        with (learn := learner("net", "adamw", batch_norm=True)).distributed():
            learn.fit(1)
    assert "normalises over the rows of a batch" in refused(work)


def test_other_tables_are_refused():
    with pytest.raises(ValueError, match="tables='shared' is not one of"), line_learner().distributed("shared"):
        pass


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), "30", None])
def test_minutes_that_are_no_time_are_refused_in_a_process_that_is_alone_too(minutes):
    with pytest.raises(ValueError, match="minutes must be a number above 0, got "), \
            line_learner().distributed(minutes=minutes):
        pass


def test_one_process_alone_is_not_changed():
    learn = line_learner()
    with learn.distributed() as same:
        assert same is learn and len(learn.cbs) == len(line_learner().cbs)

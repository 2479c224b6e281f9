"""Full-batch descent: ratings as a sparse tensor, one batch of all rows, errors recorded every n iterations."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import RATINGS, X, Y, fit_quietly, line_learner
from helpers import small_data as data
from matplotlib.figure import Figure
from torch import Tensor, nn

from collab import (
    EMA,
    RMSE,
    SWA,
    Callback,
    Checkpoint,
    CollabDataBunch,
    DataError,
    EarlyStopping,
    EmbeddingDot,
    EmbeddingDotBias,
    EmbeddingNet,
    RecordEvery,
    SaveBest,
    TensorBatches,
    collab_learner,
    load_learner,
    mse,
    observed_mse,
)
from collab.learner.recipes import RECIPES
from collab.losses import huber
from collab.models import layers as module
from collab.train.optim import adamw

# Sparse tensors ---------------------------------------------------------------------------------------------------

def test_each_stored_value_is_the_rating_of_its_own_pair_in_a_shuffled_table():
    """Values in coalesced order under indices in table order would be shuffled labels."""
    every = pd.DataFrame([(u, i, 100 * u + i) for u in range(1, 9) for i in range(1, 13) if (u + i) % 3])
    made = CollabDataBunch.from_df(every.sample(frac=1, random_state=1), valid_pct=0.3, seed=0, device="cpu")
    for part in (made.train, made.valid, made.train.in_order(), made.train.with_(bs=2), made.batches(every)):
        sparse = part.to_sparse()
        assert sparse.is_coalesced() and sparse.dtype is torch.float32 and sparse.shape == (made.n_users, made.n_items)
        users, items = (vocab.decode(rows.numpy()) for vocab, rows in zip((made.users, made.items), sparse.indices()))
        known = [u is not None and i is not None for u, i in zip(users, items)]
        assert all(known) and sparse.values().tolist() == [100 * u + i for u, i in zip(users, items)]
        assert len(sparse.values()) == part.n
        flat = sparse.indices()[0] * made.n_items + sparse.indices()[1]
        assert (flat.diff() > 0).all()
    assert not torch.equal(made.train.to_sparse().values(), made.train.tensors[2])      # the orders do differ


def test_a_pair_that_was_rated_again_has_the_mean_and_zero_is_a_rating():
    users, items = torch.tensor([2, 1, 2, 1, 2]), torch.tensor([1, 3, 1, 0, 1])
    ratings = torch.tensor([5.0, 0.0, 2.0, 3.0, 2.0])
    sparse = TensorBatches(users, items, ratings, shape=(3, 4)).to_sparse()
    assert sparse.indices().tolist() == [[1, 1, 2], [0, 3, 1]] and sparse.values().tolist() == [3.0, 0.0, 3.0]


def test_batches_that_are_no_table_of_ratings_say_so():
    with pytest.raises(DataError, match=r"no shape \(n_users, n_items\)"):
        TensorBatches(torch.arange(3), torch.arange(3), torch.ones(3)).to_sparse()


# The observed error -----------------------------------------------------------------------------------------------

def factors(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return tuple(torch.randn(n, 5, generator=draw, dtype=dtype).requires_grad_() for n in (31, 21))


def test_both_ways_and_the_model_give_the_observed_error_and_its_gradients():
    made = data()
    model, sparse = EmbeddingDot(5, made.n_users, made.n_items, init_std=1.0), made.train.to_sparse()
    u, v = model.u_weight.weight, model.i_weight.weight
    users, items, ratings = made.train.tensors
    by_hand = np.mean([(r - (u[a] @ v[b]).item()) ** 2 for a, b, r in zip(users, items, ratings.tolist())])
    losses = [observed_mse(sparse, u, v), observed_mse(sparse, u, v, how="product"), mse(model(users, items), ratings)]
    assert [loss.item() for loss in losses] == pytest.approx([by_hand] * 3, rel=1e-5)
    grads = [torch.autograd.grad(loss, (u, v)) for loss in losses]
    for other in grads[1:]:
        torch.testing.assert_close(other, grads[0])


@pytest.mark.parametrize("how", ["gather", "product"])
def test_entries_in_any_order_and_again_count_by_themselves(how):
    u, v = factors(torch.float64)
    index, r = torch.tensor([[5, 0, 5, 30], [20, 3, 20, 0]]), torch.tensor([1.0, 2.0, 4.0, 3.0], dtype=torch.float64)
    sparse = torch.sparse_coo_tensor(index, r, (31, 21), check_invariants=True)
    expected = sum((x - (u[a] @ v[b]).item()) ** 2 for a, b, x in zip(*index, r.tolist())) / 4
    assert not sparse.is_coalesced() and observed_mse(sparse, u, v, how).item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda u, v: observed_mse(sparse, u, v, how), (u, v))


def test_what_does_not_fit_is_named():
    u, v = factors()
    sparse = data().train.to_sparse()
    with pytest.raises(ValueError, match="neither 'gather' nor 'product'"):
        observed_mse(sparse, u, v, "both")
    for wrong in (sparse.to_dense(), sparse.t()):
        with pytest.raises(ValueError, match="must be a sparse COO tensor"):
            observed_mse(wrong, u, v)


def test_huber_is_square_near_and_straight_far_away():
    pred = torch.tensor([0.0, 0.5, 3.0])
    assert huber(pred, torch.zeros(3)).item() == pytest.approx((0 + 0.125 + 2.5) / 3)
    with pytest.raises(ValueError, match="one score per rating"):
        huber(pred[:, None], torch.zeros(3))


@pytest.mark.parametrize("name", ["mse", "mae", "huber"])
def test_any_loss_by_its_name(name):
    learn = collab_learner(data(), "dot", loss_func=name, lr=0.1)
    fit_quietly(learn, 20)
    losses = learn.recorder.losses
    assert learn.loss_func.__name__ == name and losses[-1] < 0.6 * losses[0]


# One batch of all rows --------------------------------------------------------------------------------------------

def test_a_full_batch_is_all_training_rows_in_their_order(tmp_path):
    made = data()
    assert len(made.train) == 1 and made.train.bs == made.train.n == 240 and not made.train.shuffle
    assert all(torch.equal(a, b) for a, b in zip(next(iter(made.train)), made.train.tensors))
    learn = collab_learner(made, "dot", n_factors=4)
    learn.export(tmp_path / "m")
    again = load_learner(tmp_path / "m", device="cpu").data.train
    assert again.bs == 240 and not again.shuffle and torch.equal(again.to_sparse().to_dense(),
                                                                 made.train.to_sparse().to_dense())
    assert data(bs=64).train.shuffle
    with pytest.raises(DataError, match="or 'full', got 'all'"):
        data(bs="all")


def test_full_batch_descent_is_plain_descent_on_the_mean_loss():
    """lr 10 on the mean over all ratings, against the same steps written out."""
    made = data()
    torch.manual_seed(0)
    model = EmbeddingDot(3, made.n_users, made.n_items, init_std=0.3)
    u, v = (w.weight.detach().clone().requires_grad_() for w in (model.u_weight, model.i_weight))
    learn = collab_learner(made, model, opt_func=torch.optim.SGD, lr=2)
    fit_quietly(learn, 20)
    for _ in range(20):
        loss = observed_mse(made.train.to_sparse(), u, v)
        for p, grad in zip((u, v), torch.autograd.grad(loss, (u, v))):
            p.data -= 2 * grad
    torch.testing.assert_close((model.u_weight.weight[1:], model.i_weight.weight[1:]), (u[1:], v[1:]))
    assert learn.recorder.losses[-1] == pytest.approx(loss.item(), rel=1e-4) and len(learn.recorder.losses) == 20


def test_an_optimizer_of_ones_own_has_no_weight_decay_unless_asked():
    """The recipes' decay is for AdamW; times a rate of 10 it would be larger than the weights."""
    assert collab_learner(data(), "dot", opt_func=torch.optim.SGD, lr=10).wd == 0
    assert collab_learner(data(), "dot", opt_func=torch.optim.SGD, lr=10, wd=0.01).wd == 0.01
    assert collab_learner(data(), "dot").wd > 0


@pytest.mark.parametrize("model", ["dot", "dot_bias", "net", "classifier", "svdpp"])
def test_no_recipe_takes_more_than_the_whole_weight_away(model):
    """At the square root of a million rows it would be 23 times the weight, and the fit would end in NaN."""
    made = data()
    for bs, ratio in ((64, 1), (4096, 8)):
        made.train.bs = bs
        learn = collab_learner(made, model, n_factors=2, opt_func=adamw)
        rate, decay = RECIPES[model].lr, RECIPES[model].wd
        assert (learn.lr, learn.wd) == (pytest.approx(rate * ratio), pytest.approx(decay * ratio))
    made.train.bs = 10**6
    learn = collab_learner(made, model, n_factors=2, opt_func=adamw)
    assert learn.lr * learn.wd <= 1 + 1e-9 and learn.lr / learn.wd == pytest.approx(rate / decay)


@pytest.mark.parametrize("model", [EmbeddingDot, EmbeddingDotBias])
def test_scores_of_a_large_batch_are_those_of_small_ones(model, monkeypatch):
    torch.manual_seed(0)
    users, items = torch.randint(31, (500,)), torch.randint(21, (500,))
    made = model(4, 31, 21, init_std=1.0)
    scores = {}
    for large in (1, 10**9):
        monkeypatch.setattr(module, "LARGE", large)
        score = made(users, items)
        scores[large] = score, *torch.autograd.grad(score.square().sum(), list(made.parameters()))
    torch.testing.assert_close(scores[1], scores[10**9])


@pytest.mark.parametrize("model", [EmbeddingDot, EmbeddingDotBias, EmbeddingNet])
@pytest.mark.parametrize("std", [0.5, 0.05])
def test_factors_begin_with_the_deviation_asked_for_and_files_keep_it(model, std, tmp_path):
    torch.manual_seed(0)
    made = model(40, 31, 21, init_std=std)
    for table in (made.u_weight.weight, made.i_weight.weight):
        assert table.abs().max() <= 2 * std and table.std().item() == pytest.approx(0.88 * std, rel=0.1)
    assert made.config["init_std"] == std
    learn = collab_learner(data(), made)
    learn.export(tmp_path / "m")
    assert load_learner(tmp_path / "m", device="cpu").model.config["init_std"] == std


# Every n iterations -----------------------------------------------------------------------------------------------

def test_errors_of_all_parts_are_recorded_every_n_iterations_and_at_the_end():
    made = data(bs=100, test=RATINGS.iloc[:50])             # three batches an epoch
    learn, record = collab_learner(made, "dot", n_factors=3), RecordEvery(2)
    fresh = learn.validate()["rmse"]

    class Watch(Callback):
        seen = []

        def after_batch(self):
            if self.learn.training and record.iteration % 2 == 0:
                self.seen.append([self.learn.validate(part) for part in (made.train, made.valid)])
    fit_quietly(learn, 3, cbs=[record, Watch()])
    frame = record.frame()
    assert frame["iteration"].tolist() == [0, 2, 4, 6, 8, 9]
    assert frame["valid_rmse"][0] == fresh
    assert list(frame) == ["iteration", *(f"{part}_{what}" for part in ("train", "valid", "test")
                                          for what in ("loss", "rmse", "mae"))]
    for row, seen in zip(record.rows[1:], Watch.seen, strict=False):
        assert row["train_rmse"] == pytest.approx(seen[0]["rmse"])
        assert row["valid_loss"] == pytest.approx(seen[1]["valid_loss"], rel=0.05)    # but for unknown ids
    assert record.rows[-1]["valid_mae"] == learn.validate()["mae"]
    assert record.rows[-1]["test_rmse"] == learn.validate(made.test)["rmse"]
    assert "valid_loss" not in learn.recorder.frame() and len(learn.recorder.rows) == 3


@pytest.mark.parametrize("cb", [lambda: EMA(0.5), lambda: SWA(), lambda: SaveBest("train_loss"),
                                lambda: EarlyStopping("train_loss", 2)])
def test_looking_does_not_disturb_the_fit(cb):
    def trained(*cbs):
        learn = collab_learner(data(bs=50), "net", n_factors=3, seed=1)
        fit_quietly(learn, 3, cbs=[*cbs, cb()])
        return learn
    plain, watched = trained(), trained(RecordEvery(2))
    for name, t in plain.model.state_dict().items():
        assert torch.equal(t, watched.model.state_dict()[name]), name
    assert plain.recorder.losses.tolist() == watched.recorder.losses.tolist()


def test_what_is_recorded_is_what_a_validation_would_have_seen():
    class Keep(Callback):
        order = 80
        seen = []

        def after_epoch(self):
            self.seen.append(self.learn.recorder.rows[-1]["valid_loss"])
    for cbs in ([], [EMA(0.5)]):
        Keep.seen, record = [], RecordEvery(3)
        fit_quietly(line_learner([*cbs, Keep()], metrics=RMSE()), 3)
        fit_quietly(line_learner([*cbs, record], metrics=RMSE()), 3)
        assert record.frame()["valid_loss"].tolist()[1:] == Keep.seen
    assert record.frame()["train_loss"].iloc[-1] == pytest.approx(mse(record.learn.model(X), Y).item())


def test_a_resumed_fit_records_the_same(tmp_path):
    def fit(*cbs, **options):
        record = RecordEvery(2)
        learn = collab_learner(data(bs=50), "dot", n_factors=3, seed=1)
        fit_quietly(learn, 3, cbs=[record, Checkpoint(tmp_path / "c", every=4), *cbs], **options)
        return record.rows, learn.model.state_dict()

    class Stop(Callback):
        order = 200

        def after_batch(self):
            if self.learn.training and self.learn.epoch == 1 and self.learn.i == 3:
                raise KeyboardInterrupt
    (whole, weights), _, (rows, again) = fit(), fit(Stop()), fit(resume=tmp_path / "c")
    assert rows == whole and all(torch.equal(weights[k], again[k]) for k in weights)


def test_a_thousand_epochs_print_a_line_a_look(capsys):
    learn = line_learner(metrics=RMSE(), bs=10)
    learn.fit(1000, cbs=RecordEvery(250))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["iteration", "train_loss", "train_rmse", "valid_loss", "valid_rmse"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "250", "500", "750", "1000"]
    assert all(re.fullmatch(r" *\d+(  +\d+\.\d{4}){4}", line) for line in lines[1:])
    learn.fit(1)
    assert capsys.readouterr().out.split()[:3] == ["epoch", "train_loss", "valid_loss"]     # as ever


def test_the_curves_are_drawn_on_the_given_axes():
    record, ax = RecordEvery(1), Figure().subplots()
    assert record.plot(ax=Figure().subplots()).get_lines() == []
    fit_quietly(line_learner(), 2, cbs=record)
    assert record.plot(ax=ax) is ax
    assert [line.get_label() for line in ax.get_lines()] == ["train_loss", "valid_loss"]
    assert ax.get_lines()[0].get_xdata().tolist() == [0, 1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        RecordEvery(0)


def test_without_a_validation_part_the_training_part_is_recorded():
    record = RecordEvery(3)
    fit_quietly(line_learner(valid=False), 1, cbs=record)
    assert list(record.frame()) == ["iteration", "train_loss"]


# Deep ones --------------------------------------------------------------------------------------------------------

class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


@pytest.mark.parametrize("activation, function", [
    ("relu", torch.relu), ("gelu", nn.functional.gelu), ("tanh", torch.tanh), ("silu", nn.functional.silu),
    ("leaky_relu", nn.functional.leaky_relu), (nn.ELU, nn.functional.elu), (Sine, torch.sin)])
def test_a_net_of_any_depth_has_the_activation_asked_for(activation, function, tmp_path):
    torch.manual_seed(0)
    made = data(bs=32)
    net = EmbeddingNet(4, made.n_users, made.n_items, hidden=(8, 6, 5), drop=0.0, activation=activation, init_std=1.0)
    users, items, _ = (t[:7] for t in made.train.tensors)
    x = torch.cat([net.u_weight(users), net.i_weight(items)], 1)
    linear = [m for m in net.layers if isinstance(m, nn.Linear)]
    for layer in linear[:-1]:
        x = function(layer(x))
    torch.testing.assert_close(net.eval()(users, items), linear[-1](x)[:, 0])
    learn = collab_learner(made, net)
    learn.export(tmp_path / "m")
    own = EmbeddingNet(**{**net.config, "activation": Sine}) if activation is Sine else None
    loaded = load_learner(tmp_path / "m", model=own, device="cpu")
    torch.testing.assert_close(loaded.model.eval()(users, items), net(users, items), rtol=0, atol=0)
    if own:
        with pytest.raises(ValueError, match=r"activation 'Sine' is not one of relu, .*load_learner\(path, model="):
            load_learner(tmp_path / "m")


def test_batch_norm_stands_before_the_activation_and_takes_batches_of_one_row(tmp_path):
    made = data(bs=239)                                     # the second batch is of one row
    net = EmbeddingNet(4, made.n_users, made.n_items, hidden=(8, 6), drop=0.1, activation="gelu", batch_norm=True)
    assert [type(m).__name__ for m in net.layers] == ["Linear", "BatchNorm", "GELU", "Dropout"] * 2 + ["Linear"]
    learn = collab_learner(made, net)
    fit_quietly(learn, 5)
    norm = net.layers[1]
    assert np.isfinite(learn.recorder.losses).all() and norm.num_batches_tracked == 5       # not those of one row
    one = net.eval()(made.train.tensors[0][:1], made.train.tensors[1][:1])
    torch.testing.assert_close(one, net(made.train.tensors[0][:9], made.train.tensors[1][:9])[:1])
    learn.export(tmp_path / "m")
    loaded = load_learner(tmp_path / "m", device="cpu")
    assert loaded.model.config["batch_norm"] and loaded.model.layers[1].num_batches_tracked == 5
    assert torch.equal(loaded.get_preds(loaded.data.train)[0], learn.get_preds(made.train)[0])


def test_an_activation_that_is_none_is_named():
    with pytest.raises(ValueError, match="activation 'relly' is not one of relu, leaky_relu"):
        EmbeddingNet(2, 3, 3, activation="relly")

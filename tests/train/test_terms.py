"""Loss terms: their values against double sums, what they add to a fit, and what is recorded of them."""

from __future__ import annotations

import pytest
import torch
from helpers import X, Y, fit_quietly, line_learner
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from collab import (
    L2,
    Callback,
    Checkpoint,
    CollabDataBunch,
    EmbeddingDot,
    EmbeddingNet,
    GradientAccumulation,
    Gravity,
    LossTerms,
    MixedPrecision,
    SaveBest,
    collab_learner,
    load_learner,
    mse,
    synthetic,
)
from collab.files import read_tree


def tables() -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    return tuple(torch.randn(n, 3, generator=draw, dtype=torch.float64).requires_grad_() for n in (4, 6))


def naive_l2(u, v):
    return sum(sum((x * x).item() for row in table for x in row) / len(table) for table in (u, v))


def naive_gravity(u, v):
    return sum((a @ b).item() ** 2 for a in u for b in v) / (len(u) * len(v))


def data(bs: int | str = 32, **options) -> CollabDataBunch:
    return CollabDataBunch.from_df(synthetic(30, 20, 300, seed=2).ratings, seed=0, bs=bs, device="cpu", **options)


def quiet(learn, n=1, **options):
    fit_quietly(learn, n, **options)
    return learn


# Values -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("term, naive", [(L2, naive_l2), (Gravity, naive_gravity)])
@pytest.mark.parametrize("coeff", [0.0, 0.3, 2.0])
def test_a_term_is_its_double_sum_over_known_users_and_items(term, naive, coeff):
    torch.manual_seed(0)
    model = EmbeddingDot(5, 8, 11, init_std=1.0)
    model.u_weight.weight.data[0] = model.i_weight.weight.data[0] = 1e6         # the unknown row counts nothing
    expected = coeff * naive(model.u_weight.weight[1:], model.i_weight.weight[1:])
    value = term(coeff)(model)
    assert value.shape == () and value.item() == pytest.approx(expected, rel=1e-5, abs=1e-12)
    value.backward()
    assert not model.u_weight.weight.grad[0].any() and not model.i_weight.weight.grad[0].any()


@pytest.mark.parametrize("term", [L2(0.7), Gravity(0.7)])
def test_gradients_are_those_of_finite_differences(term):
    assert torch.autograd.gradcheck(term.value, tables())
    assert torch.autograd.gradgradcheck(term.value, tables())


@pytest.mark.parametrize("coeff", [-1.0, float("nan"), float("inf")])
def test_a_coefficient_is_finite_and_not_negative(coeff):
    with pytest.raises(ValueError, match="coeff must be a finite number"):
        Gravity(coeff)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation gives, backward passes included."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.n = max(self.n, *(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor)), 0)
        return out


def test_no_tensor_of_all_users_times_all_items_is_made():
    """2.5 billion scores would be 10 GB; what is made is no larger than the tables."""
    n, k = 50_001, 8
    model = EmbeddingDot(k, n, n, init_std=0.1)
    with Largest() as largest:
        (L2(0.1)(model) + Gravity(1.0)(model)).backward()
    assert model.u_weight.weight.grad[1:].all(dim=1).any() and largest.n == n * k


# In training ------------------------------------------------------------------------------------------------------

def norm_term(model: nn.Module) -> Tensor:
    return 0.5 * model.weight.square().sum()


def test_terms_are_added_in_training_alone_and_recorded_by_hand():
    """lr 0: every batch sees the same weights. The mean over batches of 4, 4 and 2 rows is that over rows."""
    learn = quiet(line_learner(LossTerms(norm_term), lr=0.0), 2)
    frame = learn.recorder.frame()
    assert list(frame) == ["epoch", "train_loss", "observed", "norm_term", "valid_loss", "seconds"]
    with torch.no_grad():
        observed, valid = mse(learn.model(X), Y).item(), mse(learn.model(X[:8]), Y[:8]).item()
        by_batch = [mse(learn.model(X[i:i + 4]), Y[i:i + 4]).item() for i in (0, 4, 8)]
        term = norm_term(learn.model).item()
    assert frame["observed"].tolist() == pytest.approx([observed] * 2)
    assert frame["norm_term"].tolist() == pytest.approx([term] * 2)
    assert frame["train_loss"].tolist() == pytest.approx([observed + term] * 2)
    assert frame["valid_loss"].tolist() == pytest.approx([valid] * 2)
    assert learn.recorder.parts["observed"].tolist() == pytest.approx(by_batch * 2)
    assert learn.recorder.parts["norm_term"].tolist() == pytest.approx([term] * 6)
    assert learn.recorder.losses.tolist() == pytest.approx([b + term for b in by_batch] * 2)


def test_the_step_follows_loss_and_terms():
    learn = line_learner([LossTerms(norm_term)], bs=10, opt_func=torch.optim.SGD, lr=0.1)
    w, b = learn.model.weight.item(), learn.model.bias.item()
    error = w * X + b - Y
    quiet(learn)
    assert learn.model.weight.item() == pytest.approx(w - 0.1 * (2 * (error * X).mean().item() + w), rel=1e-5)
    assert learn.model.bias.item() == pytest.approx(b - 0.1 * 2 * error.mean().item(), rel=1e-5)


def test_accumulated_batches_are_one_batch_with_terms_too():
    one = line_learner(LossTerms(norm_term), bs=10, opt_func=torch.optim.SGD)
    parts = line_learner([LossTerms(norm_term), GradientAccumulation(10)], bs=4, opt_func=torch.optim.SGD)
    for learn in (one, parts):
        quiet(learn, 3)
    torch.testing.assert_close(one.model.state_dict(), parts.model.state_dict())


def test_a_batch_with_terms_does_not_wait_for_the_device(monkeypatch):
    reads = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__"):
        own = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda self, *a, own=own, **k: (reads.append(1), own(self, *a, **k))[1])

    def count(bs):
        learn = line_learner(LossTerms(norm_term), bs=bs, opt_func=torch.optim.SGD)
        reads.clear()
        quiet(learn)
        return len(reads)
    assert count(bs=1) == count(bs=5) > 0


def test_the_history_has_terms_where_there_were_any():
    learn = quiet(line_learner())
    quiet(learn, cbs=LossTerms(norm_term))
    assert learn.recorder.parts["observed"].isna().tolist() == [True] * 3 + [False] * 3
    assert learn.recorder.frame()["norm_term"].isna().tolist() == [True, False]
    quiet(learn)
    assert len(learn.recorder.parts) == 9 and "norm_term" not in learn.recorder.rows[-1]


def test_a_range_test_is_of_the_loss_with_terms_and_leaves_no_trace():
    plain, learn = line_learner(), line_learner(LossTerms(lambda model: 100 + 0 * model.weight.sum()))
    for each in (plain, learn):
        each.lr_find(num_it=10, plot=False)
    gap = learn.recorder.lr_find[0].losses[0] - plain.recorder.lr_find[0].losses[0]
    assert gap == pytest.approx(100, rel=1e-4)
    assert not len(learn.recorder.parts)
    assert list(quiet(line_learner()).recorder.parts) == []


def test_what_is_no_term_is_named_before_training():
    with pytest.raises(TypeError, match=r"Gravity\(1\) needs the factors .* Linear learns no factors of users"):
        fit_quietly(line_learner(LossTerms(Gravity(1.0))))
    with pytest.raises(TypeError, match=r"'norms' must give a tensor of shape \(\)"):
        def norms(model):
            return model.weight
        fit_quietly(line_learner(LossTerms(norms)))
    with pytest.raises(ValueError, match="name of its own"):
        LossTerms(L2(1.0), L2(2.0))
    with pytest.raises(TypeError, match="into one LossTerms"):
        fit_quietly(line_learner([LossTerms(norm_term), LossTerms(norm_term)]))
    taken = L2(1.0)
    taken.name = "train_loss"
    with pytest.raises(ValueError, match="cannot be named 'train_loss'"):
        fit_quietly(line_learner(LossTerms(taken)))


# Over ratings -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("bs", [32, "full"])
def test_l2_pulls_norms_and_gravity_all_scores_towards_zero(bs):
    def trained(*terms):
        learn = quiet(collab_learner(data(bs), "dot", n_factors=5, lr=0.05, wd=0.0, seed=1, loss_terms=terms), 30)
        return L2(1.0)(learn.model).item(), Gravity(1.0)(learn.model).item()
    plain, small, light = trained(), trained(L2(0.5)), trained(Gravity(0.5))
    assert small[0] < 0.8 * plain[0] and light[1] < 0.8 * plain[1]


@pytest.mark.filterwarnings("ignore:MixedPrecision changes nothing")       # in dot models
@pytest.mark.parametrize("model", ["dot", "dot_bias", "net", "classifier", "svdpp"])
def test_every_model_with_factors_takes_terms(model):
    learn = quiet(collab_learner(data(), model, n_factors=4, loss_terms=[L2(0.1), Gravity(1.0)], cbs=MixedPrecision()))
    row = learn.recorder.rows[0]
    assert list(row)[:5] == ["epoch", "train_loss", "observed", "l2", "gravity"]
    assert row["train_loss"] == pytest.approx(row["observed"] + row["l2"] + row["gravity"], rel=1e-5)
    (rmse, mae) = learn.recorder.plot_metrics().get_lines()
    assert (rmse.get_label(), mae.get_label()) == ("rmse", "mae")


def test_terms_of_a_model_with_a_history_are_of_its_whole_factors():
    learn = quiet(collab_learner(data(), "svdpp", n_factors=4))
    u, v = learn.weight(is_item=False), learn.weight()
    assert L2(0.5)(learn.model).item() == pytest.approx((u.square().sum() / len(u) + v.square().sum() / len(v)) / 2)
    assert Gravity(2.0)(learn.model).item() == pytest.approx(2 * (u @ v.T).square().mean().item(), rel=1e-4)
    L2(1.0)(learn.model).backward()
    assert learn.model.u_rated.weight.grad.abs().sum() > 0 < learn.model.i_raters.weight.grad.abs().sum()


def test_a_model_that_is_solved_takes_no_terms():
    with pytest.raises(TypeError, match="ALS is solved.* takes no loss_terms"):
        collab_learner(data(), "als", loss_terms=[L2(0.1)])
    assert collab_learner(data(), "als", loss_terms=[]).model


def test_a_model_without_factors_is_refused_by_one_sentence():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Parameter(torch.tensor(3.0))

        def forward(self, users, items):
            return self.c.expand(len(users))
    learn = collab_learner(data(), Constant(), loss_terms=[L2(0.1)])
    with pytest.raises(TypeError, match=r"^L2\(0.1\) needs .* but Constant learns no factors of users: "):
        learn.fit(1)


def test_a_fit_with_terms_that_is_resumed_ends_with_the_same_bits(tmp_path):
    def learner(*cbs):
        return collab_learner(data(), "net", n_factors=4, seed=3, loss_terms=[L2(0.1), Gravity(1.0)], cbs=cbs)

    class Stop(Callback):
        order = 200

        def after_batch(self):
            if self.learn.training and self.learn.epoch == 1 and self.learn.i == 4:
                raise KeyboardInterrupt
    whole = quiet(learner(Checkpoint(tmp_path / "a", every=3), SaveBest()), 3)
    cut = learner(Checkpoint(tmp_path / "b", every=3), SaveBest(), Stop())
    quiet(cut, 3)
    assert cut.interrupted and list(read_tree(tmp_path / "b")["cbs"])
    resumed = quiet(learner(Checkpoint(tmp_path / "b", every=3), SaveBest()), 3, resume=tmp_path / "b")
    for name, t in whole.model.state_dict().items():
        assert torch.equal(t, resumed.model.state_dict()[name])
    assert whole.recorder.parts.equals(resumed.recorder.parts)
    seconds = [{k: v for k, v in row.items() if k != "seconds"} for row in whole.recorder.rows]
    assert seconds == [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.recorder.rows]


def test_the_history_of_terms_is_exported(tmp_path):
    learn = quiet(collab_learner(data(), "dot", n_factors=4, loss_terms=[L2(0.1)], loss_func="huber"), 2)
    learn.export(tmp_path / "m")
    loaded = load_learner(tmp_path / "m", device="cpu")
    names = ["l2", "observed"]
    assert loaded.recorder.parts[names].equals(learn.recorder.parts[names]) and loaded.recorder.rows[1]["l2"] > 0
    assert loaded.loss_func is learn.loss_func and loaded.loss_func.__name__ == "huber"
    quiet(loaded)
    assert loaded.recorder.rows[-1]["l2"] > 0          # which is trained on with


def test_a_term_of_ones_own_may_read_whatever_the_model_has():
    def layers(model):
        return sum(p.square().sum() for p in model.layers.parameters())
    learn = quiet(collab_learner(data(), EmbeddingNet(4, 31, 21), lr=0.0, loss_terms=[layers]))
    assert learn.recorder.rows[0]["layers"] == pytest.approx(layers(learn.model).item(), rel=1e-5)

"""The ridge of dot_bias, the plan by size, and where training starts."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Batchwise, some_cb

from collab import (
    CollabDataBunch,
    CollabWarning,
    DataError,
    EmbeddingDot,
    EmbeddingDotBias,
    MixedPrecision,
    Unsupported,
    collab_learner,
    load_learner,
    synthetic,
)
from collab.data.signal import Signal, contrast, signal
from collab.learner import factory
from collab.learner.evidence import CLEAR, Evidence, fitted_damping
from collab.learner.recipes import RECIPES, rate_plan, rates
from collab.learner.ridge import Ridge
from collab.models.baseline import BiasBaseline
from collab.train.optim import adamw
from collab.train.row_adagrad import RowAdagrad

RATINGS = synthetic(n_users=60, n_items=40, n_ratings=900, seed=5).ratings


@pytest.fixture(scope="module")
def data():
    return CollabDataBunch.from_df(RATINGS, seed=0, bs=64, device="cpu")


def ridge_of(learn):
    return next(cb for cb in learn.cbs if isinstance(cb, Ridge))


def test_ridges_of_some_rows_are_those_of_all(data, monkeypatch):
    monkeypatch.setattr("collab.learner.evidence.ROWS", 7)
    found, rows = Evidence.of(data, data.y_range), torch.tensor([3, 0, 5, 3])
    every = [torch.from_numpy(ridge) for ridge in found.ridges(0.25)]
    for k, one in enumerate(found.row_ridges(0.25)):
        factors, biases = one(found.counts[k][rows])
        assert torch.equal(factors, every[k][rows]) and torch.equal(biases, every[k + 2][rows])
    assert all(len(ridge.unique()) > 5 for ridge in every)


def test_evidence_that_was_kept_for_some_rows_is_whole_again():
    """With the same bits, and without another look at the signal; as after a `with` whose tables were sharded."""
    data = CollabDataBunch.from_df(RATINGS, seed=0, bs=64, device="cpu")
    learn, whole = collab_learner(data), Evidence.of(data, data.y_range)
    biases = [layer.weight.detach().clone() for layer in (learn.model.u_bias, learn.model.i_bias)]
    for held in ((slice(20, 40), slice(0, 11)), (slice(55, 61), slice(33, 41))):        # the second of what was dropped
        some = Evidence.of(data, data.y_range, held)
        assert some.biases is None and [len(own) for own in some.counts] == [rows.stop - rows.start for rows in held]
        for k, (one, rows) in enumerate(zip(some.row_ridges(0.25), held)):
            for mine, every in zip(one(some.counts[k]), whole.ridges(0.25)[k::2]):
                assert mine.tolist() == every[rows].tolist()
    again = Evidence.of(data, data.y_range)
    assert again.signal is whole.signal and all(map(np.array_equal, again.ridges(0.25), whole.ridges(0.25)))
    learn = collab_learner(data)
    assert all(map(torch.equal, biases, (learn.model.u_bias.weight, learn.model.i_bias.weight)))


def test_ridges_are_those_of_the_formula(data):
    users, items, ratings = (t.numpy() for t in data.train.tensors)
    found = Evidence.of(data, data.y_range)
    m = (ratings.astype(float).mean() - 0.5) / 5
    baseline = BiasBaseline(data.n_users, data.n_items).fit(*data.train.tensors, 5.0, 3.0)
    e = ratings - baseline(*data.train.tensors[:2]).numpy()
    assert found.slope == pytest.approx(5 * m * (1 - m)) and found.sigma == pytest.approx(np.sqrt((e ** 2).mean()))
    n_u, n_i = np.bincount(users, minlength=data.n_users), np.bincount(items, minlength=data.n_items)
    strength = max(found.signal.excess - 2 * found.signal.deviation, 0.005) ** -0.25
    assert found.contrast > 0.68 and strength > 0.8 / found.contrast
    whole = (0.25 * strength * found.sigma * found.slope
             * (np.sqrt((n_u > 0).sum()) + np.sqrt((n_i > 0).sum())) / np.sqrt(len(ratings)))
    of_users, of_items, of_user_bias, of_item_bias = found.ridges(0.25)
    for own, n in ((of_users, n_u), (of_items, n_i)):
        assert (own * n).sum() / n.sum() == pytest.approx(whole, rel=1e-5)          # the mean over ratings
        known = n > 0
        assert np.ptp(own[known] * n[known] ** 0.6) < 1e-5 * own.max() * n.max()    # proportional to n^(.4 - 1)
    assert of_user_bias[5] == pytest.approx(5 * found.slope ** 2 / n_u[5])
    assert of_item_bias[5] == pytest.approx(3 * found.slope ** 2 / n_i[5])


def no_factors(**options):
    """Ratings that are means, biases and noise alone."""
    return synthetic(1000, 500, 40_000, seed=6, n_factors=0, **options).ratings


def large_biases():
    """Ratings that biases explain but for a little noise."""
    rng = np.random.default_rng(0)
    pairs = rng.choice(1000 * 500, 20_000, replace=False)
    ratings = 3 + 0.5 * rng.normal(size=1000)[pairs // 500] + 0.5 * rng.normal(size=500)[pairs % 500]
    return pd.DataFrame({"user": pairs // 500, "item": pairs % 500, "rating": ratings + 0.1 * rng.normal(size=20_000)})


@pytest.mark.parametrize("shape", [(60, 40, 500), (40, 60, 500)])
def test_the_contrast_is_that_of_the_formula(shape):
    data = CollabDataBunch.from_df(synthetic(*shape, seed=1).ratings, valid_pct=0, seed=0, device="cpu")
    users, items, _ = (t.numpy() for t in data.train.tensors)
    (u, i), damping = ((users, items), 4.0) if shape[0] > shape[1] else ((items, users), 2.5)       # more of the former
    chosen = np.zeros((u.max() + 1, i.max() + 1))
    chosen[u, i] = 1
    shared, fitted = chosen.T @ chosen, (chosen / (chosen.sum(1, keepdims=True) + damping)).T @ chosen
    off = ~np.eye(len(shared), dtype=bool)
    s = 0.7 - 2 * 0.1 - (fitted[off] ** 2).sum() / shared[off].sum()
    edge = np.sqrt(len(np.unique(users))) + np.sqrt(len(np.unique(items)))
    expected = (s / ((shared[off] ** 2).sum() / shared[off].sum())) ** 0.25 * np.sqrt(500) / edge
    columns = data.train.tensors[:2]
    assert contrast(Signal(0.7, 0.1), *columns, data.n_users, data.n_items, (4.0, 2.5)) == pytest.approx(expected)
    assert 0 < contrast(Signal(0.0, 0.0), *columns, data.n_users, data.n_items, (4.0, 2.5)) < expected / 2


def test_the_contrast_of_one_factor_is_its_singular_value_over_the_largest_of_noise():
    """Every pair is rated; the factor's products have f times the deviation of the noise."""
    rng, n, f = np.random.default_rng(0), (300, 200), 0.2
    truth = np.outer(rng.choice([-1, 1], n[0]), rng.choice([-1, 1], n[1])) * f
    noise = rng.normal(size=n)
    users, items = np.indices(n)
    table = pd.DataFrame({"user": users.ravel(), "item": items.ravel(), "rating": 3 + (truth + noise).ravel()})
    data = CollabDataBunch.from_df(table, valid_pct=0, seed=0, device="cpu")
    assert Evidence.of(data, None).contrast == pytest.approx(
        np.linalg.norm(truth, 2) / np.linalg.norm(noise, 2), rel=0.05)


def test_biases_that_fit_noise_are_no_factors():
    """Many users share two items: what their biases take of the noise makes residuals agree less than by chance."""
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(4000), 8), rng.integers(150, size=32_000)
    table = pd.DataFrame({"user": users, "item": items, "rating": 3 + 2 * rng.normal(size=32_000)})
    data = CollabDataBunch.from_df(table.drop_duplicates(["user", "item"]), valid_pct=0, seed=0, device="cpu")
    columns, n = data.train.tensors, (data.n_users, data.n_items)
    left = columns[2] - BiasBaseline(*n).fit(*columns, 0.0, 0.0)(*columns[:2])
    found = signal(*columns[:2], left, *n)
    assert found.excess > 5 * found.deviation       # though there are no factors
    assert contrast(found, *columns[:2], *n, (0.0, 0.0)) < 0.4 < contrast(found, *columns[:2], *n, (1e9, 1e9))
    assert Evidence.of(data, None).contrast < 0.4


@pytest.mark.parametrize("power", [-70, -20, 20, 70])
def test_the_signal_is_the_same_in_every_unit(data, power):
    columns, n = data.train.tensors, (data.n_users, data.n_items)
    left = columns[2] - BiasBaseline(*n).fit(*columns)(*columns[:2])
    found = signal(*columns[:2], left, *n)
    assert found.deviation > 0 and signal(*columns[:2], left * 2.0 ** power, *n) == found


def test_ratings_that_are_all_the_same_are_damped_as_ever():
    table = synthetic(60, 40, 900, seed=5).ratings.assign(rating=4.0)
    data = CollabDataBunch.from_df(table, valid_pct=0, seed=0, device="cpu")
    learn = collab_learner(data, y_range=(0.5, 5.5))
    assert Evidence.of(data, (0.5, 5.5)).damping == (5.0, 3.0) and "contrast" not in str(learn.summary())
    with learn.no_logging():
        learn.fit(1)
    assert learn.predict(*table.loc[0, ["user", "item"]].astype(int)) == pytest.approx(4.0, abs=0.01)


def test_a_model_built_by_hand_says_how_strong_its_ridge_is():
    data = CollabDataBunch.from_df(no_factors(), valid_pct=0, seed=0, device="cpu")
    model = EmbeddingDotBias(5, data.n_users, data.n_items, y_range=data.y_range)
    assert "factors are lost in noise" in collab_learner(data, model).recipe


def test_partners_are_counted_on_a_part_of_many_ratings(monkeypatch):
    data = CollabDataBunch.from_df(no_factors(), valid_pct=0, seed=0, device="cpu")
    columns = *data.train.tensors[:2], data.n_users, data.n_items
    of_all = contrast(Signal(0.7, 0.1), *columns, (5.0, 3.0))
    monkeypatch.setattr("collab.data.signal.SAMPLE", 10_000)
    assert of_all != contrast(Signal(0.7, 0.1), *columns, (5.0, 3.0)) == pytest.approx(of_all, rel=0.05)


def test_the_damping_is_the_variance_of_noise_over_that_of_biases():
    rng, n = np.random.default_rng(1), 60_000
    users, items = rng.integers(3000, size=n), rng.integers(2000, size=n)
    ratings = 3 + 0.5 * rng.normal(size=3000)[users] + 0.8 * rng.normal(size=2000)[items] + 1.2 * rng.normal(size=n)
    columns = torch.from_numpy(users), torch.from_numpy(items), torch.from_numpy(ratings)
    own = fitted_damping(*columns, 3000, 2000)
    of_users, of_items = 1.2 ** 2 / 0.5 ** 2, 1.2 ** 2 / 0.8 ** 2
    assert own[0] == pytest.approx(5 * (of_users / 5) ** (3000 / 3300), rel=0.1)
    assert own[1] == pytest.approx(3 * (of_items / 3) ** (2000 / 2300), rel=0.1)


def test_a_contrast_that_is_too_low_is_shown_below_the_limit(data):
    found = replace(Evidence.of(data, data.y_range), contrast=CLEAR - 1e-4)
    assert f"(contrast {CLEAR - 0.01:.2f}, clear from {CLEAR:g})" in found.said


def test_where_no_factors_stand_out_a_model_is_its_biases_and_says_so(data):
    clear, data = data, CollabDataBunch.from_df(no_factors(), valid_pct=0, seed=0, device="cpu")
    learn, found = collab_learner(data), Evidence.of(data, data.y_range)
    model = learn.model
    said = ("factors are lost in noise (contrast {:.2f}, clear from 0.68), and biases are damped by {:.1f} and {:.1f} "
            "ratings")
    assert said.format(math.floor(100 * found.contrast) / 100, *found.damping) in str(learn.summary())
    assert "contrast" not in str(collab_learner(clear).summary())
    assert found.contrast < 0.4 and found.damping[0] < 4 and found.damping[1] < 2.5      # biases are large beside noise
    baseline = BiasBaseline(data.n_users, data.n_items).fit(*data.train.tensors, *found.damping)
    for bias, own, closed in zip(found.biases, (model.u_bias, model.i_bias), (baseline.u_bias, baseline.i_bias)):
        torch.testing.assert_close(bias, closed.float())
        torch.testing.assert_close(own.weight[1:, 0], (bias / found.slope)[1:])
    assert found.ridges(0.25)[2][5] == pytest.approx(found.damping[0] * found.slope ** 2 / found.counts[0][5].item())


@pytest.mark.parametrize("bs", [64, 1024, 8192])
@pytest.mark.parametrize("table", [no_factors(), no_factors(noise=2.0), large_biases(),
                                   synthetic(3000, 900, 9_000, seed=4).ratings],
                         ids=["no factors", "noise", "large biases", "three ratings a user"])
def test_the_recipe_is_not_worse_than_biases(table, bs):
    data = CollabDataBunch.from_df(table, valid_pct=0.2, seed=0, bs=bs, device="cpu")
    users, items, y = data.valid.tensors
    baseline = BiasBaseline(data.n_users, data.n_items).fit(*data.train.tensors)
    learn = collab_learner(data)
    with learn.no_logging():
        learn.fit_one_cycle(5)
    assert learn.validate()["rmse"] <= 1.001 * (baseline(users, items) - y).square().mean().sqrt().item()


def test_the_more_signal_the_weaker_the_ridge():
    def strength(**options):
        data = CollabDataBunch.from_df(synthetic(200, 150, 6_000, seed=1, **options).ratings, valid_pct=0, seed=0)
        return Evidence.of(data, data.y_range).strength
    assert strength(noise=0.3) < strength(noise=1.0) < strength(noise=1.0, n_factors=0)


def test_biases_start_in_closed_form_and_those_of_well_known_items_nearer_to_0(data):
    model, found = collab_learner(data).model, Evidence.of(data, data.y_range)
    torch.testing.assert_close(model.u_bias.weight[1:, 0], found.biases[0][1:] / found.slope)
    share = 20 / (20 + found.counts[1].float())
    torch.testing.assert_close(model.i_bias.weight[1:, 0], (share * found.biases[1] / found.slope)[1:])


def test_a_model_built_by_hand_keeps_its_start(data):
    model = EmbeddingDotBias(5, data.n_users, data.n_items, y_range=data.y_range)
    before = model.u_bias.weight.detach().clone()
    learn = collab_learner(data, model)
    assert torch.equal(learn.model.u_bias.weight[1:], before[1:]) and ridge_of(learn)


def test_the_loss_is_recorded_without_the_ridge_and_trained_with_it(data):
    learn = collab_learner(data, n_factors=5, cbs=Batchwise())
    seen = []

    def keep(cb):
        if learn.training:
            seen.append((learn.loss.item(), [t.clone() for t in learn.xb], learn.yb.clone(),
                         {k: v.clone() for k, v in learn.model.state_dict().items()}))
    learn.add_cbs(some_cb(order=0.5, after_loss=keep))
    with learn.no_logging():
        learn.fit(1)
    ridges = [torch.from_numpy(r) for r in ridge_of(learn).ridges]
    for k in (0, 5):
        total, (users, items), y, weights = seen[k]
        p, q = weights["u_weight.weight"][users], weights["i_weight.weight"][items]
        b, c = weights["u_bias.weight"][users, 0], weights["i_bias.weight"][items, 0]
        plain = (0.5 + 5 * torch.sigmoid((p * q).sum(1) + b + c + weights["mu"]) - y).square().mean()
        held = (ridges[0][users] * p.square().sum(1) + ridges[1][items] * q.square().sum(1)
                + ridges[2][users] * b.square() + ridges[3][items] * c.square()).mean()
        assert learn.recorder.losses[k] == pytest.approx(plain.item(), rel=1e-5)
        assert total == pytest.approx((plain + held).item(), rel=1e-5)


def test_a_weight_decay_stands_in_place_of_the_ridge(data):
    learn = collab_learner(data, n_factors=5)
    with learn.no_logging():
        learn.fit(1, wd=0.1)
        assert not len(ridge_of(learn).ridges)
        learn.fit(1)
        assert len(ridge_of(learn).ridges) == 4
    assert not [cb for cb in collab_learner(data, wd=0.1).cbs if isinstance(cb, Ridge)]
    assert collab_learner(data, lr=0.01).opt_func is adamw


def test_a_ridge_of_ones_own_stands_in_place_of_the_recipe_s(data):
    learn = collab_learner(data, n_factors=5, cbs=Ridge(3.0))
    assert [cb.scale for cb in learn.cbs if isinstance(cb, Ridge)] == [3.0] and learn.opt_func is RowAdagrad
    dot = collab_learner(data, "dot", n_factors=5, cbs=Ridge(3.0))
    assert dot.wd == 0 and collab_learner(data, "dot").wd > 0
    with pytest.raises(TypeError, match="a learner has one Ridge"):
        learn.fit(1, cbs=Ridge())


def test_row_adagrad_by_name_has_its_own_rate_and_the_ridge(data):
    small = CollabDataBunch.from_df(RATINGS, seed=0, bs=1)
    assert collab_learner(small).opt_func is adamw
    learn = collab_learner(small, opt_func=RowAdagrad)
    assert learn.lr == {"factors": 0.07, "biases": 0.14} and ridge_of(learn).scale == 0.25
    assert collab_learner(small, "net", opt_func=RowAdagrad).lr == 0.07
    assert "Recipe: RowAdagrad at 0.07 and 0.14 with a ridge, as asked for" in str(learn.summary())


def test_a_rate_for_adam_is_warned_of(data):
    learn = collab_learner(data, n_factors=5)
    with learn.no_logging(), pytest.warns(CollabWarning, match=r"0\.005 is a rate for Adam; this learner has"):
        learn.fit_one_cycle(1, 5e-3)


@pytest.mark.parametrize("n_epochs, rates, must", [
    (1, {"lr": -1}, "lr must be a finite number, at least 0"),
    (1, {"lr": 1e-3, "wd": -1}, "wd must be a finite number"),
    (-1, {"lr": 1e-3}, "n_epochs must be a whole number")])
def test_impossible_numbers_are_refused_without_a_word_on_rates(data, n_epochs, rates, must):
    learn = collab_learner(data, n_factors=5)
    with warnings.catch_warnings(), pytest.raises(ValueError, match=must):
        warnings.simplefilter("error")
        learn.fit(n_epochs, **rates)


def test_another_model_gets_rates_of_its_own(data):
    learn = collab_learner(data, n_factors=5)
    learn.set_model(EmbeddingDot(5, data.n_users, data.n_items))
    assert learn.opt_func is adamw and learn.lr == RECIPES["dot"].lr
    assert not [cb for cb in learn.cbs if isinstance(cb, Ridge)]
    with learn.no_logging():
        learn.fit(1)


def test_batches_without_columns_are_refused_with_a_remedy(data):
    learn = collab_learner(CollabDataBunch.from_df(RATINGS, seed=0), n_factors=5)
    learn.data.train = torch.utils.data.DataLoader(list(zip(*learn.data.train.tensors)), batch_size=64)
    with pytest.raises(DataError, match=r"no slices of tensors; pass a weight decay in its place"):
        learn.fit(1)


def test_a_large_loaded_learner_trains_in_tiles_as_it_did(data, tmp_path, monkeypatch):
    monkeypatch.setattr(factory, "MANY_ROWS", 500)
    learn = collab_learner(data, n_factors=5)
    again = load_learner(learn.export(tmp_path / "m"), device="cpu")
    for one in (learn, again):
        kinds = [type(cb).__name__ for cb in one.cbs]
        assert "TileOrder" in kinds and "Threads" not in kinds


def test_a_model_that_is_no_dot_product_has_no_ridge(data):
    with pytest.raises(Unsupported, match="EmbeddingNet has no ridge: it is not a plain dot product; pass a weight"):
        collab_learner(data, "net", cbs=Ridge()).fit(1)


def test_the_plan_goes_by_size():
    assert rate_plan(80_000, 64)[:2] == (adamw, 3.5e-3)
    assert rate_plan(80_000, 128)[1] == pytest.approx(3.5e-3 * 2 ** 0.5)
    for n, bs in ((80_000, 1024), (250_000, 64), (20_000, 64)):
        assert rate_plan(n, bs)[:2] == (RowAdagrad, {"factors": 0.07, "biases": 0.14})


def test_decay_of_other_models_shrinks_with_more_ratings():
    net = RECIPES["net"]
    assert rates(net, 60_000, 64) == (5e-3, 0.1)
    assert rates(net, 800_000, 64) == (5e-3, pytest.approx(0.01))
    assert rates(net, 800_000, 256) == (1e-2, pytest.approx(0.02))


def test_a_file_keeps_ridge_and_optimizer(data, tmp_path):
    learn = collab_learner(data, n_factors=5)
    with learn.no_logging():
        learn.fit(1)
    again = load_learner(learn.export(tmp_path / "m.safetensors"))
    assert again.opt_func is RowAdagrad and again.lr == learn.lr and ridge_of(again).scale == ridge_of(learn).scale
    before = again.model.i_weight.weight.detach().clone()
    with again.no_logging():
        again.fit_one_cycle(1)
    assert not torch.equal(before, again.model.i_weight.weight)


def test_mixed_precision_says_that_a_dot_product_has_nothing_to_cast(data):
    learn = collab_learner(data, n_factors=5, cbs=MixedPrecision())
    with learn.no_logging(), pytest.warns(CollabWarning, match="changes nothing"):
        learn.fit(1)


@pytest.mark.parametrize("ratings", [RATINGS[:2], RATINGS[:20].assign(rating=5.0), RATINGS.assign(rating=3.0)],
                         ids=["two rows", "all the highest", "all the same"])
def test_little_or_nothing_to_learn(ratings):
    learn = collab_learner(CollabDataBunch.from_df(ratings, valid_pct=0, seed=0), n_factors=5)
    with learn.no_logging():
        learn.fit_one_cycle(2)
    assert all(p.isfinite().all() for p in learn.model.parameters())


def test_it_is_no_worse_than_biases_where_there_are_no_factors():
    ratings = synthetic(300, 150, 9_000, seed=2, n_factors=0, noise=0.9).ratings
    for bs in (16, 256):
        data = CollabDataBunch.from_df(ratings, seed=0, bs=bs, device="cpu")
        learn = collab_learner(data)
        with learn.no_logging():
            learn.fit_one_cycle(5)
        baseline = BiasBaseline(data.n_users, data.n_items).fit(*data.train.tensors, 5.0, 3.0)
        users, items, y = data.valid.tensors
        biases = (baseline(users, items).clamp(1, 5) - y).square().mean().sqrt().item()
        assert learn.validate()["rmse"] < 1.01 * biases

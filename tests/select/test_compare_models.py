"""compare_models: the same ratings for all, the better model wins, equal ones are tied, and nothing is done in vain."""

from __future__ import annotations

import copy
import gc
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from collab import (
    BiasBaseline,
    CollabDataBunch,
    CollabLearner,
    CollabWarning,
    Comparison,
    DataError,
    Popularity,
    collab_learner,
    compare_models,
    evaluate,
    kfold,
    rows_split,
    synthetic,
)
from collab.data.batches import TensorBatches
from collab.evaluate.accuracy import errors
from collab.select.goal import goal

MADE = synthetic(60, 40, 1200, seed=3)
RATINGS = MADE.ratings
TIMES = ["seconds", "mb"]


class Noisy(nn.Module):
    """The true score of each pair, and noise of its own of a given size."""

    def __init__(self, data: CollabDataBunch, noise: float, seed: int):
        super().__init__()
        truth = MADE.truth
        table = truth.mean + truth.u_bias[:, None] + truth.i_bias + truth.u_factors @ truth.i_factors.T
        table = table + noise * np.random.default_rng(seed).normal(size=table.shape)
        users, items = (np.array([0, *(int(id) - 1 for id in list(vocab))]) for vocab in (data.users, data.items))
        self.table = nn.Parameter(torch.tensor(table[users][:, items], dtype=torch.float32))

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return self.table[users, items]


def noisy(noise: float, seed: int = 0):
    """A function that makes a learner whose model knows the truth but for some noise; trained for an epoch at almost
    no rate, since a learner without a history would be trained by a recipe."""
    def make(data: CollabDataBunch) -> CollabLearner:
        learn = collab_learner(data, Noisy(data, noise, seed), lr=1e-9)
        with learn.no_logging():
            learn.fit(1)
        return learn
    return make


def data(**options) -> CollabDataBunch:
    return CollabDataBunch.from_df(RATINGS, **{"seed": 0, "device": "cpu", **options})


def words(found: Comparison) -> dict[str, str]:
    return dict(zip(found.table["model"], found.table["vs best"]))


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return compare_models(data(), ["dot_bias", "als_explicit", ("dot_bias", {"seed": 1, "epochs": 5})], keep=True)


# Who wins ---------------------------------------------------------------------------------------------------------

def test_a_model_that_is_truly_better_wins_and_one_that_is_as_good_is_tied():
    found = compare_models(data(), {"near": noisy(0.2), "as near": noisy(0.2, seed=1), "far": noisy(1.0)})
    assert {*found.table["model"][:2]} == {"near", "as near"} == {*found.tied}
    assert words(found)["far"] == "worse" and sorted(words(found).values())[0] == "best"
    assert found.table["rmse"].is_monotonic_increasing
    far = found.table.set_index("model").loc["far"]
    assert far["difference"] == pytest.approx(far["rmse"] - found.table["rmse"][0]) and far["p_value"] < 0.05
    assert "are tied: the difference from the best may be chance" in repr(found)


def test_two_seeds_of_one_model_are_tied(compared: Comparison):
    pairs = compared.pairs.query("metric == 'rmse'").set_index(["a", "b"])
    row = pairs.loc[("dot_bias", "dot_bias, seed=1, epochs=5")]
    assert row["difference"] != 0 and row["p_holm"] > 0.05


def test_where_no_model_beats_the_biases_these_are_recommended():
    drawn = np.random.default_rng(0).integers(1, 6, 600).astype(float)
    noise = pd.DataFrame({"user": np.arange(600) % 30, "item": np.arange(600) // 30, "rating": drawn})
    found = compare_models(noise, {"by heart": lambda data: collab_learner(data, "als_explicit", 10, reg=1e-4)},
                           metrics="rmse", device="cpu", seed=0)
    assert found.no_better_than_baseline == ["by heart"] and words(found)["by heart"] == "worse"
    assert found.taken is None and found.advice()[-1] == f"No model is better than {found.best} by more than chance."
    assert "Take" not in repr(found)


def standing(rows: list[tuple[str, str, float]], better: list[str]) -> Comparison:
    """Models of (name, "vs best", seconds), best first, beside the baseline popularity; those that are `better`."""
    table = pd.DataFrame([{"model": name, "ndcg@10": 0.5 - k / 100, "vs best": word, "seconds": seconds}
                          for k, (name, word, seconds) in enumerate(rows)])
    pairs = pd.DataFrame([{"metric": "ndcg@10", "a": name, "b": "popularity", "difference": 0.1,
                           "p_holm": 0.001 if name in better else 0.4} for name, *_ in rows if name != "popularity"])
    baselines = [name for name, *_ in rows if name == "popularity"]
    return Comparison(table, pairs, pd.DataFrame(), ["ndcg@10"], "9 ratings", 9, baselines)


@pytest.mark.parametrize("rows, better, taken, says", [
    ([("lightgcn", "best", 9.0), ("als", "tied with best", 4.0), ("ease", "worse", 1.0), ("popularity", "worse", 0.1)],
     ["lightgcn", "als", "ease"], "als", ["lightgcn and als are tied: the difference from the best may be chance.",
     "Take als: it is better than popularity by more than chance, in 4 s where lightgcn takes 9 s."]),
    ([("ease", "best", 2.0), ("dot_bias", "tied with best", 1.0), ("als", "tied with best", 3.0),
      ("popularity", "worse", 0.1)], ["ease"], "ease",
     ["ease, dot_bias and als are tied: the difference from the best may be chance.",
      "Take ease: it is better than popularity by more than chance.",
      "Not better than popularity by more than chance: dot_bias and als."]),
    ([("ease", "best", 2.0), ("popularity", "tied with best", 0.1), ("als", "worse", 3.0)], [], None,
     ["ease and popularity are tied: the difference from the best may be chance.",
      "No model is better than popularity by more than chance."]),
    ([("ease", "best", 2.0), ("als", "worse", 1.0), ("popularity", "worse", 0.1)], ["ease", "als"], "ease",
     ["Take ease: it is better than all others by more than chance."]),
    ([("bpr", "best", 0.11), ("als", "tied with best", 0.07), ("ease", "tied with best", 0.02)], ["bpr", "als", "ease"],
     "bpr", ["bpr, als and ease are tied: the difference from the best may be chance.",
             "Take bpr: it is as good as the others."]),
    ([("bpr", "best", 7.3), ("als", "tied with best", 6.0), ("ease", "tied with best", 5.0)], ["bpr", "als", "ease"],
     "als", ["bpr, als and ease are tied: the difference from the best may be chance.",
             "Take als: it is as good as the others, in 6 s where bpr takes 7.3 s."]),
    ([("bpr", "best", 0.13), ("als", "worse", 0.01), ("popularity", "worse", 0.0)], ["bpr", "als"], "bpr",
     ["Take bpr: it is better than all others by more than chance.",
      "als has 0.4900, and takes 0.01 s where bpr takes 0.13 s."]),
    ([("bpr", "best", 0.1), ("als", "worse", 0.004), ("popularity", "worse", 0.0)], ["bpr", "als"], "bpr",
     ["Take bpr: it is better than all others by more than chance."])])
def test_one_model_is_taken_the_cheapest_of_those_that_are_best_and_better_than_the_baseline(rows, better, taken, says):
    found = standing(rows, better)
    assert found.taken == taken and found.advice() == says


# The same for all -------------------------------------------------------------------------------------------------

def test_figures_are_those_of_the_library_on_the_same_held_out_rows(compared: Comparison):
    rows = compared.table.set_index("model")
    for label in ("dot_bias", "als_explicit"):
        learn, = compared.learners[label]
        assert rows.loc[label, "rmse"] == pytest.approx(learn.validate()["rmse"], abs=1e-6)
        assert rows.loc[label, "mae"] == pytest.approx(learn.validate()["mae"], abs=1e-6)
    table = errors(compared.learners["als_explicit"][0]).set_index("model")
    for name in ("mean and biases", "mean rating"):
        assert rows.loc[name, ["rmse", "mae"]].tolist() == pytest.approx(table.loc[name].tolist(), abs=1e-6)
    assert compared.measured_on == "240 ratings of the validation part"


def test_models_that_rank_are_measured_as_evaluate_does():
    chosen = data(implicit=True, threshold=2)
    found = compare_models(chosen, ["als", "ease"], k=5, keep=True)
    assert found.metrics == ["ndcg@5", "precision@5", "recall@5"] and found.table["ndcg@5"].is_monotonic_decreasing
    rows = found.table.set_index("model")
    for label, ranker in (("als", found.learners["als"][0]), ("ease", found.learners["ease"][0]),
                          ("MostPopular", Popularity(chosen))):
        summary = evaluate(ranker, chosen.valid, k=5, baseline=False).summary
        assert rows.loc[label, found.metrics].tolist() == pytest.approx(
            summary[["ndcg", "precision", "recall"]].tolist())


def test_models_of_ratings_are_measured_by_rankings_too_and_rankers_lack_errors():
    found = compare_models(data(), ["als_explicit", "als"], metrics=("rmse", "ndcg"), relevant_above=3)
    rows = found.table.set_index("model")
    assert np.isnan(rows.loc["als", "rmse"]) and rows.loc["als", "vs best"] == "not measured"
    assert rows["ndcg@10"][["als", "als_explicit", "MostPopular"]].notna().all()
    assert found.table["model"].tolist()[-2:] in (["als", "MostPopular"], ["MostPopular", "als"])


def test_every_model_trains_on_the_same_rows_and_sees_nothing_that_is_held_out():
    seen = []

    def make(given: CollabDataBunch) -> CollabLearner:
        seen.append((given.valid, given.test, [t.tolist() for t in given.train.tensors], given.train.bs))
        return collab_learner(given, "als_explicit", 4)
    full = data(bs=128)
    compare_models(full, {"one": make, "other": (make, {"bs": 32})})
    assert [held for *held, _, _ in seen] == [[None, None]] * 2 and [bs for *_, bs in seen] == [128, 32]
    assert seen[0][2] == seen[1][2] == [t.tolist() for t in full.train.tensors]
    assert full.valid is not None and full.train.bs == 128


def test_recipes_bring_their_batch_size_and_epochs_and_options_change_them():
    found = compare_models(data(bs=32), ["svdpp", ("dot", {"epochs": 2, "bs": 100, "n_factors": 3})], keep=True)
    own, = found.learners["svdpp"]
    other, = found.learners["dot, epochs=2, bs=100, n_factors=3"]
    assert own.data.train.bs == 1024 and len(own.recorder.rows) == 10
    assert other.data.train.bs == 100 and len(other.recorder.rows) == 2
    assert other.weight().shape == (other.data.n_items - 1, 3)


def test_folds_hold_out_every_rating_once_and_count_them_all():
    found = compare_models(RATINGS, ["als_explicit"], folds=3, device="cpu")
    assert found.measured_on == "3 folds" and found.folds["fold"].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    total = 0.0
    for split in kfold(3, 0):
        fold = CollabDataBunch.from_df(RATINGS, split=split, seed=0, device="cpu")
        learn = CollabLearner(fold, BiasBaseline(fold.n_users, fold.n_items).fit(*fold.train.tensors))
        preds, targets = learn.get_preds()
        total += float((preds.double() - targets).square().sum())
    rows = found.table.set_index("model")
    assert rows.loc["mean and biases", "rmse"] == pytest.approx((total / len(RATINGS)) ** 0.5)
    each = found.folds.query("model == 'mean and biases'")
    assert rows.loc["mean and biases", "seconds"] == pytest.approx(each["seconds"].mean())
    again = compare_models(data(), ["als_explicit"], folds=3)                   # the parts of the data, joined
    assert again.measured_on == "3 folds" and again.n_users == found.n_users


def test_the_test_part_is_measured_where_it_is_asked_for():
    both = CollabDataBunch.from_df(RATINGS[:1000], test=RATINGS[1000:], seed=0, device="cpu")
    found = compare_models(both, ["als_explicit"], part="test", keep=True)
    assert found.measured_on == "200 ratings of the test part"
    learn, = found.learners["als_explicit"]
    assert found.table.set_index("model").loc["als_explicit", "rmse"] == pytest.approx(
        learn.validate(both.test)["rmse"], abs=1e-6)


def test_the_same_seed_gives_the_same_figures():
    one, other, third = (compare_models(RATINGS, ["dot_bias", "bpr"], metrics="ndcg", seed=seed, device="cpu")
                         for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one.table.drop(columns=TIMES), other.table.drop(columns=TIMES))
    pd.testing.assert_frame_equal(one.pairs, other.pairs)
    assert not one.table.drop(columns=TIMES).equals(third.table.drop(columns=TIMES))


def test_learners_are_let_go_unless_they_are_to_be_kept():
    made = []

    def make(given: CollabDataBunch) -> CollabLearner:
        learn = collab_learner(given, "als_explicit", 4)
        gc.collect()
        made.append((sum(ref() is not None for ref, _ in made), weakref.ref(learn)))
        made[-1] = made[-1][::-1]
        return learn
    assert compare_models(data(), dict.fromkeys("abc", make)).learners == {}
    assert [alive for _, alive in made] == [0, 0, 0]


# What does not fit, fails or is cut off ---------------------------------------------------------------------------

def never(given: CollabDataBunch) -> CollabLearner:
    raise AssertionError("this was to be refused before anything is built")


@pytest.mark.parametrize("models, options, message", [
    (["dot_bais"], {}, "model 'dot_bais' is not one of .*; did you mean 'dot_bias'"),
    ([never, "als"], {}, "als: it only orders items, and has no rmse and no mae; compare by metrics='ndcg'"),
    ([never, "hybrid"], {}, "hybrid: a hybrid model needs features"),
    ([never, ("dot", {"n_factor": 3})], {}, "dot, n_factor=3: .*did you mean 'n_factors'"),
    ([never, ("ease", {"epochs": 3})], {"metrics": "ndcg"}, "ease is solved at once, .* takes no epochs"),
    ([never, "dot", "dot"], {}, "dot is there twice"),
    ([never, ("dot", 3)], {}, "a pair such as"),
    ([never, 3], {}, "a model is the name of a recipe"),
    ([lambda data: never(data)], {}, "a function without a name needs one"),
    ([(never, {"lr": 1})], {}, "lr: beside a function only epochs and bs are options"),
    ([("dot", {"bs": "512"})], {}, "bs must be a whole number from 1 on, or 'full', got '512'"),
    ({"mean and biases": never}, {}, "mean and biases is the name of a baseline"),
    ([], {}, "there is nothing to compare"),
    ([never], {"metrics": "rsme"}, "metrics='rsme' is not one of rmse, mae, log_loss, .*; did you mean 'rmse'?"),
    ([never], {"metrics": "ndcg", "k": 0}, "k must be a whole number"),
    ([never], {"folds": 2, "part": "test"}, "folds are made of the training and validation ratings"),
    ([never], {"folds": 2, "valid_pct": 0.3}, "folds say what is held out, and leave nothing to valid_pct"),
    ([never], {"part": "train"}, "neither 'valid' nor 'test'"),
    ([never], {"part": "test"}, "there is no test part to measure on"),
    ([never], {"level": 95}, "level must lie between 0 and 1"),
    ([never], {"bs": 3}, "bs: these are decided already in a CollabDataBunch"),
])
def test_what_cannot_be_compared_is_refused_before_work_starts(models, options, message):
    with pytest.raises((DataError, ValueError, TypeError), match=message):
        compare_models(data(), models, **options)


def test_implicit_data_have_no_errors_and_data_without_a_held_out_part_nothing_to_measure():
    with pytest.raises(DataError, match="implicit data are choices, .* there is no rmse; compare by ndcg"):
        compare_models(data(implicit=True), [never], metrics="rmse")
    with pytest.raises(DataError, match="there is no validation part to measure on; .* or say folds=5"):
        compare_models(data(valid_pct=0), [never])


def test_by_default_models_that_do_not_fit_are_left_out_and_named():
    levels = RATINGS.assign(rating=np.random.default_rng(0).normal(size=len(RATINGS)))
    found = compare_models(levels, metrics="rmse", device="cpu", seed=0, epochs=1)
    assert {*found.left_out} == {"hybrid", "classifier"}
    assert {*found.table["model"]} == {"mean rating", "mean and biases", "dot_bias", "dot", "net", "svdpp",
                                       "als_explicit", "bayes"}
    assert "Not compared: classifier: the ratings lie on more than 101 levels" in repr(found)


def test_a_model_that_fails_is_left_out_with_a_warning_and_the_others_stay():
    def fails(given: CollabDataBunch) -> CollabLearner:
        raise RuntimeError("out of memory")
    with pytest.warns(CollabWarning, match=r"not compared, since they failed: fails \(RuntimeError: out of memory\)"):
        found = compare_models(data(), [fails, "als_explicit"])
    assert found.left_out == {"fails": "RuntimeError: out of memory"} and "als_explicit" in words(found)
    with pytest.raises(RuntimeError, match="out of memory"):
        compare_models(data(), [fails])


def test_a_learner_over_other_data_is_refused():
    other = data()
    with pytest.raises(DataError, match="mine: the learner is over other data"):
        compare_models(data(), {"mine": lambda _: collab_learner(other, "als_explicit")})


def test_a_learner_that_has_the_held_out_ratings_at_hand_is_refused():
    outer = data()
    every = copy.copy(outer)
    every.train = TensorBatches(*map(torch.cat, zip(outer.train.tensors, outer.valid.tensors)), bs=outer.train.bs,
                                shape=outer.train.shape, shuffle=True)
    without = copy.copy(every)
    without.valid = None
    for seen in (outer, every, without):
        with pytest.raises(DataError, match="mine: the learner is over other data, .* build it over the data that"):
            compare_models(outer, {"mine": lambda _, seen=seen: collab_learner(seen, "als_explicit")})


def test_a_learner_over_a_copy_of_the_training_part_is_measured():
    def batched(given: CollabDataBunch) -> CollabLearner:
        other = copy.copy(given)
        other.train = given.train.with_(16)
        return collab_learner(other, "als_explicit")
    assert "batched" in words(compare_models(data(), [batched]))


def stops_at(nth: int):
    calls = []

    def make(given: CollabDataBunch) -> CollabLearner:
        calls.append(1)
        if len(calls) == nth:
            raise KeyboardInterrupt
        return collab_learner(given, "als_explicit", 4)
    return make


def test_ctrl_c_keeps_the_models_that_are_done():
    with pytest.warns(CollabWarning, match="interrupted after 1 of 3 models: the comparison lacks stops, dot"):
        found = compare_models(data(), {"als_explicit": "als_explicit", "stops": stops_at(1), "dot": "dot"})
    assert found.interrupted and {*words(found)} == {"als_explicit", "mean rating", "mean and biases"}
    assert "Interrupted: this is what was done." in repr(found)
    with pytest.raises(KeyboardInterrupt):
        compare_models(data(), {"stops": stops_at(1)})


def test_ctrl_c_in_a_later_fold_keeps_the_folds_before_it():
    with pytest.warns(CollabWarning, match="interrupted in fold 3 of 4: the comparison has the 2 before it"):
        found = compare_models(data(), {"first": "als_explicit", "stops": stops_at(3)}, folds=4)
    assert found.folds["fold"].unique().tolist() == [1, 2] and len(found.folds) == 8
    assert found.measured_on == "2 folds" and found.interrupted


def test_ctrl_c_within_a_fit_counts_as_one():
    def make(given: CollabDataBunch) -> CollabLearner:
        learn = collab_learner(given, "als_explicit", 4)
        learn.interrupted = True
        learn.recorder.rows.append({"epoch": 0})
        return learn
    with pytest.warns(CollabWarning, match="interrupted after 1 of 2 models"):
        compare_models(data(), {"als_explicit": "als_explicit", "cut": make})


# How it is shown --------------------------------------------------------------------------------------------------

def test_the_table_is_read_by_people_and_by_programs(compared: Comparison):
    assert list(compared.table) == ["model", "rmse", "low", "high", "difference", "p_value", "vs best", "mae", *TIMES]
    lines = repr(compared).splitlines()
    assert lines[0] == "RMSE on 240 ratings of the validation part, 56 users; less is better"
    assert lines[2].split() == ["model", "rmse", "low", "high", "difference", "p_value", "vs", "best", "mae", "seconds",
                                *(["mb"] if compared.table["mb"].notna().any() else [])]
    assert lines[3].startswith(compared.best) and len({*map(len, lines[3:4])}) == 1
    assert compared.table["low"].lt(compared.table["rmse"]).all() and compared.table["seconds"].gt(0).all()


def test_html_escapes_names():
    found = compare_models(data(), {"<b>mine</b>": lambda given: collab_learner(given, "als_explicit", 4)})
    assert "&lt;b&gt;mine&lt;/b&gt;" in found._repr_html_() and "<b>" not in found._repr_html_()


def test_the_picture_has_a_dot_and_an_interval_for_every_model(compared: Comparison):
    from matplotlib.figure import Figure
    ax = compared.plot(Figure().subplots())
    shown = compared.table.iloc[::-1].reset_index(drop=True)
    assert [label.get_text() for label in ax.get_yticklabels()] == shown["model"].tolist()
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in dots] == pytest.approx(shown["rmse"].tolist())
    bars = [line.get_xdata() for line in ax.lines if line.get_marker() != "o"][1:]
    value = compared.table["rmse"][0]
    assert bars[-1] == pytest.approx([value, value])                    # the best one differs by nothing from itself
    worst, best = shown["model"][0], compared.best
    pair = compared.pairs.query("metric == 'rmse' and a in @both and b in @both", local_dict={"both": [worst, best]})
    ends = sorted([pair["low"].item(), pair["high"].item()], key=abs)
    assert sorted(abs(bars[0] - value)) == pytest.approx([abs(end) for end in ends])


def test_a_terminal_shows_what_is_trained_and_a_pipe_nothing(monkeypatch: pytest.MonkeyPatch, capsys):
    compare_models(data(), ["als_explicit"], metrics="mae")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("collab.select.watching.bars_wanted", lambda: True)
    monkeypatch.setattr("fastprogress.fastprogress.printing", lambda: True)
    compare_models(data(), ["als_explicit", ("dot", {"epochs": 2})], metrics="mae")
    shown = capsys.readouterr().out
    assert "dot, epochs=2, epoch 2 of 2" in shown and "als_explicit, epoch 15 of 15" in shown


def test_a_split_holds_out_the_same_rows_for_a_table():
    found = compare_models(RATINGS, ["als_explicit"], split=rows_split(range(100)), device="cpu")
    assert found.measured_on == "100 ratings of the validation part"


def test_models_of_ratings_with_few_batches_an_epoch_are_named():
    rated, ranked = synthetic(60, 40, 900, seed=1).ratings, synthetic(30, 20, 300, seed=1).ratings
    found = compare_models(rated, ["svdpp", "dot_bias", ("svdpp", {"bs": 64}), "als_explicit"], metrics="rmse",
                           epochs=1, device="cpu", seed=0)
    said = "Trained in fewer than 10 batches an epoch: svdpp. On so few ratings smaller ones may do better: try bs=64."
    assert found.large_batches == ["svdpp"] and said in found.notes() and said in repr(found)
    found = compare_models(rated, [("svdpp", {"bs": 79})], metrics="rmse", epochs=1, device="cpu", seed=0)
    assert not found.large_batches and "batches" not in repr(found)            # 720 ratings in 10 batches
    found = compare_models(ranked, ["bpr"], metrics="ndcg", implicit=True, epochs=1, device="cpu", seed=0)
    assert not found.large_batches                                             # of which nothing was measured


def test_the_case_of_a_metric_does_not_matter():
    found = compare_models(synthetic(30, 20, 300, seed=1).ratings, ["als_explicit"], metrics=["RMSE", "Ndcg", "rmse"],
                           epochs=1, device="cpu", seed=0)
    assert found.metrics == ["rmse", "ndcg@10"]
    data = CollabDataBunch.from_df(synthetic(30, 20, 300, seed=1).ratings, seed=0)
    assert goal("RMSE", data, False).name == "rmse" and goal("NDCG@7", data, True).name == "ndcg@7"

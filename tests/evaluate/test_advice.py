"""What is said of a model that is not better than its baseline by more than chance; nothing of one that is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from collab import (
    ALS,
    EASE,
    BiasBaseline,
    CollabDataBunch,
    EmbeddingDotBias,
    EmbeddingNet,
    RankingResult,
    collab_learner,
    load_learner,
)
from collab.cli.command import as_options
from collab.evaluate import advice
from collab.evaluate.shortfall import Beside

FACTORS, NET = EmbeddingDotBias(2, 4, 4), EmbeddingNet(2, 4, 4)


def beside(excess: float, n: int = 400, squares: float = 4.0) -> Beside:
    """Squared errors that sum to `excess` more than those of biases; two standard errors are 2 sqrt(4) = 4."""
    return Beside(0.9, 0.91, n, n, excess, squares)


def ranked(values: list[float], beside: list[float] | None) -> RankingResult:
    def result(name: str, column: list[float], baseline: RankingResult | None) -> RankingResult:
        table = pd.DataFrame({"user": range(len(column)), "n_relevant": 1, "ndcg": column})
        return RankingResult(name, 10, table, table[["ndcg"]].mean(), {}, baseline)
    return result("Model", values, None if beside is None else result("MostPopular", beside, None))


def test_a_model_of_ratings_that_is_better_by_more_than_chance_needs_no_advice():
    assert advice.of_errors(NET, beside(-4.1)) is None and advice.of_errors(NET, beside(-3.9)) is not None
    assert advice.of_errors(NET, beside(-3.9, n=99)) is None            # too few to say anything
    assert advice.of_errors(BiasBaseline(4, 4), beside(0.0)) is None    # the baseline itself


def test_dot_bias_is_what_to_try_and_biases_where_it_was_tried():
    said = advice.of_errors(NET, beside(0.0))
    assert said.startswith("EmbeddingNet is not better than mean and biases by more than chance: their RMSE is 0.9000 "
                           "and 0.9100. Try dot_bias with its default settings")
    assert advice._not_better(NET, Beside(0.92, 0.91, 100, 100, 4.1, 4.0)) == (
        "EmbeddingNet is worse than mean and biases: their RMSE is 0.9200 and 0.9100")
    assert "not better than mean and biases by more than chance" in advice._not_better(
        NET, Beside(0.92, 0.91, 100, 100, 3.9, 4.0))
    said = advice.of_errors(FACTORS, beside(0.0))
    assert "Take the biases (BiasBaseline), or gather more ratings." in said and "Try" not in said
    assert as_options(said).endswith("collab compare DATA shows what each model reaches, and which differences are "
                                     "chance")


def test_a_ranking_is_compared_with_popularity_user_by_user():
    rng = np.random.default_rng(0)
    popular = rng.random(200)
    assert advice.of_ranking(FACTORS, ranked((popular + 0.02).tolist(), popular.tolist())) is None
    assert advice.of_ranking(FACTORS, ranked(popular.tolist(), None)) is None
    mixed = (popular + rng.normal(0, 0.2, 200)).tolist()
    said = advice.of_ranking(FACTORS, ranked(mixed, popular.tolist()))
    assert said.startswith("EmbeddingDotBias does not rank better than the most popular items by more than chance: its "
                           f"ndcg@10 is {np.mean(mixed):.4f}, theirs {np.mean(popular):.4f}. Try als or ease")
    worse = advice.of_ranking(FACTORS, ranked((popular - 0.02).tolist(), popular.tolist()))
    assert "ranks worse than the most popular items: its" in worse


@pytest.mark.parametrize("model, other", [(ALS(2, 4, 4), "Try ease."), (EASE(4), "Try als."),
                                          (ALS(2, 4, 4, implicit=False), "Try als or ease,")])
def test_where_als_was_tried_it_is_ease_and_then_the_most_popular_items(model, other: str):
    same = [0.5, 0.25, 0.75, 0.5]
    said = advice.of_ranking(model, ranked(same, same))
    assert other in said and ("show the most popular items until" in said) is (other != "Try als or ease,")


def noise(ratings: np.ndarray) -> pd.DataFrame:
    """Ratings that have nothing to do with their users and items, of 40 by 30."""
    rng = np.random.default_rng(1)
    pairs = rng.permutation(1200)[:len(ratings)]
    return pd.DataFrame({"user": pairs // 30, "item": pairs % 30, "stars": ratings})


@pytest.mark.filterwarnings("default:column 'plays' looks like counts")
def test_counts_are_named_before_the_advice_on_the_command_line_and_in_python(collab, tmp_path):
    table = noise(np.random.default_rng(0).geometric(0.2, 900)).rename(columns={"stars": "plays"})
    table.to_csv(tmp_path / "r.csv", index=False)
    code, out, err = collab("train", tmp_path / "r.csv", "--epochs", 1, "--out", tmp_path / "m.safetensors")
    assert err.startswith("Warning: column 'plays' looks like counts (all") and "for choices, say --implicit and" in err
    said = next(line for line in out.splitlines() if line.startswith("This looks like counts (all are whole numbers"))
    assert code == 0 and "): say --implicit and train a model that ranks, such as als: a count" in said
    assert "dot_bias is not better" in said and "BiasBaseline" not in said and said in collab(
        "evaluate", tmp_path / "m.safetensors")[1]
    assert "ather more ratings" not in said and "noisy" not in said         # one cause, one remedy
    learn = load_learner(tmp_path / "m.safetensors")
    assert "say implicit=True and" in advice.errors_and_advice(learn, table)[1]


def test_ratings_far_from_the_others_are_named_before_the_advice(recwarn):
    ratings = np.random.default_rng(0).integers(1, 6, 900)
    ratings[[5, 80]] = 45
    learn = collab_learner(CollabDataBunch.from_df(noise(ratings), seed=0), n_factors=2)
    said = advice.errors_and_advice(learn)[1]
    assert said.startswith("column 'stars': 2 of 900 ratings, such as 45, are far from the others, which go from 1 to "
                           "5; correct or drop them, unless they are meant. EmbeddingDotBias ")
    assert "too few" not in said and "more ratings" not in said


def test_strengths_that_outweigh_all_others_are_what_to_mend_and_nothing_else(recwarn):
    strengths = np.random.default_rng(0).geometric(0.2, 900)
    strengths[5] = 1_000_000
    data = CollabDataBunch.from_df(noise(strengths), implicit=True, seed=0)
    why, same = advice.of_ratings(data, data.valid.tensors[2]), [0.5, 0.25, 0.75, 0.5]
    said = advice.of_ranking(ALS(2, 4, 4), ranked(same, same), why)
    assert said.startswith("column 'stars': 1 of 900 strengths, such as 1,000,000, is more than all others") and (
        "than the most popular items" in said) and "Try ease" not in said and "more choices" not in said


def test_ratings_on_a_scale_and_choices_have_no_such_sign():
    table = noise(np.random.default_rng(0).integers(1, 6, 900))
    data = CollabDataBunch.from_df(table, seed=0)
    assert advice.of_ratings(data, data.valid.tensors[2]) is None
    data = CollabDataBunch.from_df(table.assign(stars=table["stars"] * 20 - 19), implicit=True, seed=0)
    assert advice.of_ratings(data, data.valid.tensors[2]) is None


def test_the_better_of_mean_and_biases_is_what_to_take():
    said = advice.of_errors(FACTORS, beside(0.0), 0.89)
    assert "The mean rating alone has 0.8900." in said and "Take the mean rating (BiasBaseline with infinite d" in said
    assert "Take the biases" in advice.of_errors(FACTORS, beside(0.0), 0.92)
    shown = as_options(said)
    assert "noisy for more. Gather more ratings. collab compare DATA" in shown and "BiasBaseline" not in shown

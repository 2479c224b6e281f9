"""Ranking metrics: worked by hand, against plain Python, against trec_eval and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from collab.evaluate.ranking import METRICS, auc, coverage, novelty, popularity


def naive(recommended: list, relevant: set, k: int) -> dict[str, float]:
    """The metrics as one would write them down, for one user."""
    top = recommended[:k]
    ranks = [rank for rank, item in enumerate(top, start=1) if item in relevant]
    dcg = sum(1 / math.log2(rank + 1) for rank in ranks)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    precisions = [sum(other <= rank for other in ranks) / rank for rank in ranks]
    return {"ndcg": dcg / ideal, "precision": len(ranks) / k, "recall": len(ranks) / len(relevant),
            "map": sum(precisions) / min(k, len(relevant)), "mrr": 1 / ranks[0] if ranks else 0.0,
            "hit": float(bool(ranks))}


def measured(recommended: list, relevant: set, k: int) -> dict[str, float]:
    hits = torch.tensor([[item in relevant for item in recommended[:k]]])
    return {name: metric(hits, torch.tensor([len(relevant)]), k).item() for name, metric in METRICS.items()}


def test_the_worked_example():
    found = measured(list("AXBYZ"), set("ABC"), 5)
    assert found == pytest.approx({"ndcg": 0.7039, "precision": 0.4, "recall": 2 / 3, "map": 0.5556, "mrr": 1.0,
                                   "hit": 1.0}, abs=5e-5)
    assert found["ndcg"] == pytest.approx((1 + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2))
    assert found["map"] == pytest.approx((1 + 2 / 3) / 3)
    assert measured(list("AXBYZ"), set("ABC"), 2)["map"] == 0.5         # (1 / 1) / min(2, 3)
    assert measured(list("XAB"), set("ABC"), 3)["mrr"] == 0.5


lists = st.integers(1, 12).flatmap(lambda n: st.tuples(
    st.permutations(range(n)), st.sets(st.integers(0, n + 3), min_size=1), st.integers(1, n + 4)))


@settings(max_examples=200, deadline=None)
@given(lists)
@example(([0], {5}, 3))                 # nothing found, and a list shorter than k
@example(([0, 1], {0, 1, 2}, 5))        # all found, and more that could not be
@example(([0, 1, 2], {1}, 1))
def test_metrics_are_what_plain_python_says_and_lie_between_0_and_1(case):
    found = measured(*case)
    assert found == pytest.approx(naive(*case), rel=1e-12)
    assert all(0 <= value <= 1 + 1e-12 for value in found.values())


def test_many_users_at_once_are_measured_as_each_one_alone():
    draw = torch.Generator().manual_seed(0)
    hits, n_relevant = torch.rand(50, 7, generator=draw) < 0.3, torch.randint(7, 20, (50,), generator=draw)
    for metric in METRICS.values():
        alone = torch.cat([metric(h[None], n[None], 7) for h, n in zip(hits, n_relevant)])
        together = metric(hits, n_relevant, 7)
        assert together.dtype == torch.float64 and torch.equal(together, alone)


def test_an_ideal_list_scores_one_whatever_k_is():
    for k, n_relevant in ((3, 8), (8, 3), (5, 5)):
        found = measured(list(range(8)), set(range(n_relevant)), k)
        assert found["ndcg"] == pytest.approx(1) and found["map"] == pytest.approx(1) and found["mrr"] == 1


def test_who_has_nothing_to_find_has_no_ndcg_recall_or_map():
    values = {name: metric(torch.zeros(1, 3), torch.tensor([0]), 3).item() for name, metric in METRICS.items()}
    assert {name for name, value in values.items() if math.isnan(value)} == {"ndcg", "recall", "map"}


def test_a_k_far_above_the_catalogue_needs_no_memory_for_it():
    assert METRICS["ndcg"](torch.ones(1, 2), torch.tensor([2]), 10 ** 12).item() == pytest.approx(1)


@settings(max_examples=100, deadline=None)
@given(lists)
def test_trec_eval_agrees(case):
    recommended, relevant, k = case
    run = {str(item): 100.0 - rank for rank, item in enumerate(recommended[:k])}
    names = {f"{name}.{k}" for name in ("ndcg_cut", "P", "recall", "map_cut", "success")}
    evaluator = pytrec_eval.RelevanceEvaluator({"q": {str(item): 1 for item in relevant}}, names | {"recip_rank"})
    theirs = evaluator.evaluate({"q": run})["q"]
    assert measured(*case) == pytest.approx({
        "ndcg": theirs[f"ndcg_cut_{k}"], "precision": theirs[f"P_{k}"], "recall": theirs[f"recall_{k}"],
        "map": theirs[f"map_cut_{k}"] * len(relevant) / min(k, len(relevant)),      # they divide by all relevant
        "mrr": theirs["recip_rank"], "hit": theirs[f"success_{k}"]}, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 30), st.integers(1, 40), st.integers(0, 10_000))
def test_scikit_learn_agrees(n: int, k: int, seed: int):
    rng = np.random.default_rng(seed)
    scores, relevant = rng.permutation(n).astype(float), rng.random(n) < 0.3
    relevant[rng.integers(n)] = True
    hits = torch.from_numpy(relevant[np.argsort(-scores)][:k].copy())[None]
    n_relevant = torch.tensor([relevant.sum()])
    assert METRICS["ndcg"](hits, n_relevant, k).item() == pytest.approx(ndcg_score([relevant], [scores], k=k))
    if k >= n:      # theirs has no cut
        assert METRICS["map"](hits, n_relevant, k).item() == pytest.approx(average_precision_score(relevant, scores))


# AUC --------------------------------------------------------------------------------------------------------------

@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), st.integers(2, 25), st.integers(1, 6), st.integers(0, 10_000))
def test_auc_is_that_of_scikit_learn_with_ties_and_without_what_was_seen(m: int, n: int, levels: int, seed: int):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-levels, levels, (m, n)).astype(np.float32)
    scores[rng.random((m, n)) < 0.1] = -0.0
    relevant, candidates = rng.random((m, n)) < 0.4, rng.random((m, n)) < 0.7
    ours = auc(*map(torch.from_numpy, (scores, relevant, candidates))).tolist()
    for value, s, r, c in zip(ours, scores, relevant, candidates):
        if len(set(r[c])) < 2:
            assert math.isnan(value)
        else:
            assert value == pytest.approx(roc_auc_score(r[c], s[c]), abs=1e-12)


def test_auc_of_infinite_scores():
    scores = torch.tensor([[-torch.inf, -torch.inf, 1.0, torch.inf, -torch.inf]])
    relevant = torch.tensor([[True, False, False, True, False]])
    candidates = torch.tensor([[True, True, True, True, False]])
    # right: -inf and inf; wrong: -inf and 1; of the four pairs inf wins two, and -inf ties one
    assert auc(scores, relevant, candidates).tolist() == [2.5 / 4]


# Beyond accuracy --------------------------------------------------------------------------------------------------

def test_coverage_novelty_and_popularity_by_hand():
    found = torch.tensor([[1, 2], [2, -1], [-1, -1]])
    share = torch.tensor([0.0, 0.5, 0.125])
    assert coverage(found, 4).item() == 0.5                               # two of four items
    assert novelty(found, share).tolist()[:2] == [(1 + 3) / 2, 3]           # bits
    assert popularity(found, share).tolist()[:2] == [(0.5 + 0.125) / 2, 0.125]
    assert novelty(found, share)[2].isnan() and popularity(found, share)[2].isnan()

"""The search for the ridge of new users solves for each ridge once."""

import math

import pytest

from collab import CollabDataBunch, collab_learner, synthetic
from collab.retrieval import fold_in_ranking, fold_in_ratings
from collab.retrieval.ridge_search import once_each


def test_a_function_is_called_once_for_ridges_that_differ_by_rounding():
    asked = []
    found = once_each(lambda x: asked.append(x) or 2 * x)
    assert [found(1.0), found(0.1 * 10 ** 0.5 * 10 ** 0.5), found(3.0)] == [2.0, 2.0, 6.0] and asked == [1.0, 3.0]


def test_a_tuple_may_have_places_without_a_number():
    found = once_each(lambda ridge: ridge[0])
    assert [found((2.0, None)), found((2.0, 1.0)), found((3.0, None))] == [2.0, 2.0, 3.0]


@pytest.mark.parametrize(("module", "solve", "at", "model", "kind", "ridge"), [
    (fold_in_ratings, "solve", 5, "dot_bias", {}, "ridge"),
    (fold_in_ranking, "solve_ranked", 3, "bpr", {"implicit": True}, "ranked_ridge")])
def test_a_search_solves_for_no_ridge_twice(module, solve, at, model, kind, ridge, monkeypatch):
    asked, solves = [], getattr(module, solve)

    def counted(*args):
        numbers = args[at][:2] if isinstance(args[at], tuple) else args[at:at + 1]
        asked.append((*args[2].tolist(), *(round(math.log10(x), 3) for x in numbers)))
        return solves(*args)
    monkeypatch.setattr(module, solve, counted)
    data = CollabDataBunch.from_df(synthetic(60, 40, 900, seed=1).ratings, seed=0, device="cpu", **kind)
    learn = collab_learner(data, model, n_factors=4, seed=0)
    with learn.no_logging():
        learn.fit_one_cycle(2)
    assert getattr(learn.fold_in(), ridge)
    assert len(asked) > 3 and len(asked) == len({*asked})

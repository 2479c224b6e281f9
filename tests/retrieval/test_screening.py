"""Screening: float32 finds the items that may be among the best, float64 scores them, and the lists are the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from collab import CollabDataBunch, Index, Vocab, collab_learner, synthetic
from collab.compiled import not_compiled
from collab.data.histories import Histories
from collab.models.dot_form import DotForm, TableScorer
from collab.models.embedding import EmbeddingDot, EmbeddingDotBias
from collab.retrieval import compiled_one, screening, topk
from collab.retrieval.topk import top_k

N_ITEMS = 500


def by_torch(monkeypatch):
    monkeypatch.setattr(compiled_one.BestOfOne, "compiles", lambda *_, **__: False)


@pytest.fixture(autouse=True, params=["torch", "compiled"])
def few_are_many(request, monkeypatch):
    monkeypatch.setattr(screening, "MANY", 1)
    monkeypatch.setattr(compiled_one, "PATIENCE", 0)
    if request.param == "torch":
        by_torch(monkeypatch)
    elif not_compiled():
        pytest.skip(not_compiled())


@pytest.fixture
def certain(monkeypatch) -> list[bool]:
    """For each user that was screened, whether that was enough."""
    found: list[bool] = []

    def noted(*args):
        result = screening.screened(*args)
        found.extend(result[2].tolist())
        return result

    def noted_one(*args):
        result = screening.screened_one(*args)
        found.append(result is not None)
        return result
    monkeypatch.setattr(topk, "screened", noted)
    monkeypatch.setattr(topk, "screened_one", noted_one)

    best_of_one = compiled_one.BestOfOne.__call__

    def noted_compiled(*args):
        result = best_of_one(*args)
        found.append(result is not None)
        return result
    monkeypatch.setattr(compiled_one.BestOfOne, "__call__", noted_compiled)
    return found


def form(seed: int = 0, n_items: int = N_ITEMS, scale: float = 1.0, biases: bool = True, **options) -> DotForm:
    draw = torch.Generator().manual_seed(seed)
    users, items = (scale * torch.randn(n, 20, generator=draw) for n in (9, n_items))
    own = (scale * torch.randn(9, generator=draw), scale * torch.randn(n_items, generator=draw), 0.3) if biases else ()
    return DotForm(users, items, *own, **options)


def scored(form: DotForm) -> np.ndarray:
    """All scores, summed by numpy in float64 and rounded to float32."""
    p, q = form.users.double().numpy(), form.items.double().numpy()
    scores = p @ q.T
    if form.u_bias is not None:
        scores = scores + form.u_bias.double().numpy()[:, None] + form.i_bias.double().numpy() + form.mu
    if form.y_range is not None:
        low, high = form.y_range
        scores = low + (high - low) / (1 + np.exp(-scores))
    return scores.astype(np.float32)


def listed(form: DotForm, candidates: np.ndarray, k: int, seen: dict[int, list[int]]) -> list[list[int]]:
    """The k best candidates of each user by a sort of all of them, equal scores by row."""
    scores = scored(form)
    left = [[c for c in candidates if c not in seen.get(u, [])] for u in range(len(scores))]
    return [sorted(own, key=lambda c, u=u: (-scores[u, c], c))[:k] for u, own in enumerate(left)]


def histories(seen: dict[int, list[int]], n_users: int) -> Histories:
    users, items = torch.tensor([(u, i) for u, own in seen.items() for i in own]).unbind(1)
    return Histories.of(users, items, torch.ones(len(users)), n_users)


@pytest.mark.parametrize("options", [{}, {"biases": False}, {"y_range": (0.5, 5.5)}, {"scale": 1e-6}, {"scale": 1e6}])
@pytest.mark.parametrize("users", [[3], [8, 0, 3, 3], list(range(9))])
def test_the_lists_are_those_of_a_sort_of_all_exact_scores(certain, options, users):
    made = form(**options)
    seen = {u: np.argsort(-scored(made)[u])[:30:2].tolist() for u in range(9)}
    expected = listed(made, np.arange(1, N_ITEMS), 7, seen)
    for candidates in (range(1, N_ITEMS), torch.arange(1, N_ITEMS), torch.arange(1, N_ITEMS).flip(0)):
        rows, scores = top_k(TableScorer(made), torch.tensor(users), candidates, 7, histories(seen, 9))
        assert rows.tolist() == [expected[u] for u in users]
        np.testing.assert_allclose(scores, [scored(made)[u, expected[u]] for u in users], rtol=1e-6)
    assert len(certain) == 3 * len(users)
    assert all(certain) or "y_range" in options         # the sigmoid makes 5.5 of all large scores


def test_only_some_candidates_are_ranked_and_known_items_beyond_the_model_are_ignored(certain):
    made, chosen = form(), torch.tensor([i for i in range(1, N_ITEMS) if i % 3])
    seen = {0: [2, 4, N_ITEMS + 3], 1: [N_ITEMS], 2: []}
    rows, _ = top_k(TableScorer(made), torch.arange(3), chosen, 5, histories({0: seen[0], 1: seen[1]}, 3))
    assert rows.tolist() == listed(made, chosen.numpy(), 5, seen)[:3] and certain == [True] * 3


def test_items_that_float32_cannot_tell_apart_are_in_exact_order(certain):
    """Scores of 1 + j 2^-23 in steps that the products of float32 lose: the terms 2^12 and -2^12 are rounded away."""
    big, n = 2.0 ** 12, 64
    items = torch.zeros(N_ITEMS, 3)
    steps = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    items[1:n + 1] = torch.stack([torch.full((n,), big), 1 + steps * 2.0 ** -23, torch.full((n,), -big)], 1)
    made = DotForm(torch.ones(2, 3), items)
    rows, scores = top_k(TableScorer(made), torch.tensor([1]), range(1, N_ITEMS), 10)
    assert rows[0].tolist() == (1 + steps.argsort(descending=True)[:10]).tolist()
    assert scores[0].tolist() == [1 + j * 2.0 ** -23 for j in range(63, 53, -1)]
    assert certain == [False]           # 64 items within the error of float32: all were scored exactly


def test_equal_items_come_in_the_order_of_their_rows(certain):
    made = form()
    made.items[100:] = made.items[100]              # 400 items that are the same
    made.i_bias[100:] = 50.0                        # and the best
    rows, scores = top_k(TableScorer(made), torch.arange(9), range(1, N_ITEMS), 6)
    assert rows.tolist() == [list(range(100, 106))] * 9 and certain == [False] * 9
    assert (scores == scores[:, :1]).all()
    made.i_bias[100:] = -50.0                       # now the last: ties among them decide nothing
    assert top_k(TableScorer(made), torch.arange(9), range(1, N_ITEMS), 6)[0].tolist() == listed(
        made, np.arange(1, N_ITEMS), 6, {}) and certain[9:] == [True] * 9


def test_scores_that_a_sigmoid_makes_equal_are_ordered_by_row():
    made = form(scale=4.0, y_range=(1.0, 5.0))      # some 70 before the sigmoid: dozens of scores are 5
    assert ((scored(made) == 5.0).sum(1) > 100).all()
    rows, _ = top_k(TableScorer(made), torch.arange(9), range(1, N_ITEMS), 8)
    assert rows.tolist() == listed(made, np.arange(1, N_ITEMS), 8, {})


def test_a_user_who_has_seen_all_but_a_few_gets_these(certain):
    made, left = form(), [7, 40, 41]
    seen = {0: [i for i in range(N_ITEMS) if i not in left]}
    rows, scores = top_k(TableScorer(made), torch.tensor([0]), range(1, N_ITEMS), 5, histories(seen, 1))
    assert rows[0].tolist() == [*listed(made, np.array(left), 5, {})[0], -1, -1]
    assert scores[0, 3:].tolist() == [-np.inf] * 2 and certain == [True]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_broken_weights_are_refused_as_they_are_without_screening(bad, monkeypatch):
    made = form()
    made.items[77, 3] = bad
    for many in (1, 1 << 40):
        monkeypatch.setattr(screening, "MANY", many)
        try:
            rows = top_k(TableScorer(made), torch.arange(9), range(1, N_ITEMS), 4)[0]
        except ValueError as error:
            assert "not numbers" in str(error) and bad is np.nan
        else:
            assert ((rows[:, 0] == 77) == (made.users[:, 3] > 0)).all() and bad is not np.nan


@pytest.mark.parametrize(("scale", "biases"), [(1e-20, False), (1e-20, True), (1.0, True), (1.0, False), (1e-6, False),
                                               (1e15, False)])
def test_the_rough_scores_are_wrong_by_no_more_than_they_say(scale, biases):
    made = form(scale=scale, biases=biases)
    rough, error = TableScorer(made).roughly(torch.arange(9))
    exact = made.users.double() @ made.items.double().T
    exact = exact if made.i_bias is None else exact + made.i_bias.double()
    wrong = (rough.double() - exact).abs().numpy()
    assert rough.dtype == torch.float32 and error.shape == (9, 1) and (wrong <= error).all()
    assert (error < 1e-3 * exact.std(1, keepdim=True).numpy()).all() or scale == 1e-20    # and tell items apart


def test_tables_in_half_or_double_precision_are_not_screened(certain):
    for dtype in (torch.float16, torch.float64):
        made = form()._replace(**{name: getattr(form(), name).to(dtype) for name in ("users", "items", "u_bias",
                                                                                      "i_bias")})
        assert top_k(TableScorer(made), torch.arange(2), range(1, N_ITEMS), 4)[0].tolist() == listed(
            made, np.arange(1, N_ITEMS), 4, {})[:2]
    assert not certain


@pytest.mark.parametrize("name", ["dot", "dot_bias", "als", "als_explicit", "bpr"])
def test_a_learner_and_its_index_recommend_the_same_with_and_without_screening(name, certain, monkeypatch):
    ratings = synthetic(n_users=40, n_items=600, n_ratings=6000, seed=0).ratings
    learn = collab_learner(CollabDataBunch.from_df(ratings, seed=0, bs=512, device="cpu"), name, 8, seed=0)
    with learn.no_logging():
        learn.fit(2)
    users = [*learn.data.users]

    def tables():
        return [learn.recommend(users, n=9), *(learn.recommend(user, n=9) for user in users),
                learn.index().recommend(users, n=9, exclude=[1, 2, 3]), *learn.recommend_all(5)]
    screened = tables()
    assert certain.count(True) > 0.9 * len(certain) > 100
    monkeypatch.setattr(screening, "MANY", 1 << 40)
    by_torch(monkeypatch)
    n = len(certain)
    for one, other in zip(screened, tables(), strict=True):
        assert one.equals(other)
    assert len(certain) == n


def test_a_model_with_a_cross_of_its_own_is_asked_for_that(certain):
    class Backwards(EmbeddingDotBias):
        def cross(self, users, items):
            return -super().cross(users, items)

    class Plain(EmbeddingDot):
        """Changes nothing."""
    torch.manual_seed(0)
    backwards, plain = Backwards(4, 3, N_ITEMS), Plain(4, 3, N_ITEMS)
    for model in (backwards, plain):
        with torch.no_grad():
            rows, _ = top_k(model.scorer(), torch.arange(3), range(1, N_ITEMS), 5)
            scores = model.cross(torch.arange(3), torch.arange(1, N_ITEMS)).float()
        assert rows.tolist() == (scores.argsort(dim=1, descending=True)[:, :5] + 1).tolist()
    assert len(certain) == 3            # of the second


def test_an_index_of_vectors_finds_what_a_sort_finds(certain):
    made = form(biases=False)
    index = Index(made.items, Vocab([*range(1, N_ITEMS)], "item"))
    found = index.search(made.users, k=6, exclude=[[1, 2], *([] for _ in range(8))])
    expected = listed(made, np.arange(1, N_ITEMS), 6, {0: [1, 2]})
    assert found["item"].to_numpy().reshape(9, 6).tolist() == expected and certain == [True] * 9


def test_weights_that_change_behind_torchs_back_change_the_list():
    """Large terms that cancel are worse in float32 than the length of the former vectors would allow."""
    draw, n = torch.Generator().manual_seed(0), 400
    ratings = pd.DataFrame({"user": np.arange(n) % 5, "item": np.arange(n), "rating": 3.0})
    learn = collab_learner(CollabDataBunch.from_df(ratings, valid_pct=0, seed=0), "dot", n_factors=3)
    users, items = learn.model.u_weight.weight, learn.model.i_weight.weight
    for length in (1.0, 1e7):
        large = length * torch.randn(n + 1, generator=draw)
        users.data[:] = torch.tensor([0.3, 0.7, 1.0])      # not noticed by a tensor's version
        items.data[:] = torch.stack([large, large * -3 / 7, torch.rand(n + 1, generator=draw)], 1)
        exact = (items.double() @ users[1].double()).float().tolist()
        best = sorted(range(1, n + 1), key=lambda row: (-exact[row], row))[:10]
        assert learn.recommend(0, exclude=None)["item"].tolist() == [row - 1 for row in best]

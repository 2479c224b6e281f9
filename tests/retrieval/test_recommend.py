"""Exact top-k: against a naive sort, in blocks of any size, without what was seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor, nn

from collab.data.histories import Histories
from collab.models import net
from collab.models.embedding import EmbeddingDotBias
from collab.models.net import EmbeddingNet
from collab.models.plain import as_collab
from collab.numerics import cosines
from collab.retrieval import topk as recommend
from collab.retrieval.topk import cross_scores, top_k

SCORES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, np.inf, -np.inf, 1e-45, -1e-45, 3.4e38, -3.4e38]) | \
    st.floats(width=32, allow_nan=False)


def naive(table: np.ndarray, queries: list[int], candidates: list[int], k: int,
          seen: dict[int, set[int]]) -> tuple[list[list[int]], list[list[float]]]:
    """Sort all candidates of each query by descending score, then ascending row."""
    rows, scores = [], []
    for q in queries:
        left = sorted((-float(table[q, c]), c) for c in candidates if c not in seen.get(q, ())
                      and table[q, c] != -np.inf)[:k]
        rows.append([c for _, c in left] + [-1] * (k - len(left)))
        scores.append([-s for s, _ in left] + [-np.inf] * (k - len(left)))
    return rows, scores


@st.composite
def problems(draw):
    n_users, n_items = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    table = np.array(draw(st.lists(SCORES, min_size=n_users * n_items, max_size=n_users * n_items)), dtype=np.float32)
    queries = draw(st.lists(st.integers(0, n_users - 1), max_size=8))
    candidates = draw(st.lists(st.integers(0, n_items - 1), unique=True))
    seen = draw(st.dictionaries(st.integers(0, n_users - 1), st.sets(st.integers(0, n_items - 1))))
    return table.reshape(n_users, n_items), queries, candidates, draw(st.integers(1, n_items + 3)), seen


def histories(seen: dict[int, set[int]], n_users: int) -> Histories:
    pairs = [(u, i) for u, items in seen.items() for i in items]
    users, items = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return Histories.of(users, items, torch.ones(len(pairs)), n_users)


@settings(max_examples=300, deadline=None)
@given(problems(), st.sampled_from([1, 2, 3, 7, 20, 1 << 22]))
@example((np.zeros((1, 3), dtype=np.float32), [0], [2, 0, 1], 2, {0: {0}}), 1)
@example((np.zeros((2, 3), dtype=np.float32), [0, 1], [], 2, {0: {0}}), 4)
@example((np.full((1, 2), -np.inf, dtype=np.float32), [0], [1, 0], 2, {}), 1)
def test_top_k_is_a_sort_however_the_work_is_cut(problem, max_scores: int):
    table, queries, candidates, k, seen = problem
    sizes = []

    def scores(users: Tensor, items: Tensor) -> Tensor:
        sizes.append(len(users) * len(items))
        return torch.from_numpy(table)[users][:, items]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recommend, "MAX_SCORES", max_scores)
        rows, best = top_k(scores, torch.tensor(queries, dtype=torch.int64),
                           torch.tensor(candidates, dtype=torch.int64), k, histories(seen, len(table)))
    expected_rows, expected_scores = naive(table, queries, candidates, k, seen)
    assert rows.dtype == torch.int64 and best.dtype == torch.float32 and rows.shape == best.shape == (len(queries), k)
    assert rows.tolist() == expected_rows and best.tolist() == expected_scores
    assert max(sizes, default=0) <= max_scores and sum(sizes) == len(queries) * len(candidates)


def test_top_k_of_many_queries_is_a_sort():
    draw = torch.Generator().manual_seed(0)
    table = torch.randint(-50, 50, (300, 400), generator=draw) / 8        # many ties
    rows, scores = top_k(lambda u, i: table[u][:, i], torch.arange(300), torch.randperm(400, generator=draw), 25)
    expected = np.argsort(-table.numpy(), axis=1, kind="stable")[:, :25]
    assert np.array_equal(rows, expected) and np.array_equal(scores, np.take_along_axis(table.numpy(), expected, 1))


def test_no_call_scores_more_pairs_than_are_held_at_a_time():
    shapes = []

    def scores(users: Tensor, items: Tensor) -> Tensor:
        shapes.append((len(users), len(items)))
        return torch.zeros(len(users), len(items))
    top_k(scores, torch.arange(3000), torch.arange(5000), 10)
    assert all(m * n <= recommend.MAX_SCORES for m, n in shapes) and sum(m for m, _ in shapes) == 3000
    assert len(shapes) < 6                                               # and blocks are as large as they may be


def test_seen_items_of_other_users_stay_and_own_ones_go():
    table = torch.tensor([[9.0, 8, 7, 6], [9.0, 8, 7, 6]])
    seen = histories({0: {0, 2}, 1: set()}, 2)
    for queries in ([0, 1], [1, 0, 0]):
        rows, scores = top_k(lambda u, i: table[u][:, i], torch.tensor(queries), torch.arange(4), 3, seen)
        assert rows.tolist() == [[[1, 3, -1], [0, 1, 2]][q] for q in queries]
        assert scores.tolist() == [[[8, 6, -torch.inf], [9, 8, 7]][q] for q in queries]


def test_scores_that_a_model_keeps_are_not_written_to():
    kept = torch.tensor([[9.0, 8, 7, 6]])
    rows, _ = top_k(lambda u, i: kept, torch.tensor([0]), torch.arange(4), 1, histories({0: {0}}, 1))
    assert rows.tolist() == [[1]] and kept.tolist() == [[9, 8, 7, 6]]


def test_whoever_has_seen_everything_gets_nothing():
    rows, scores = top_k(lambda u, i: torch.ones(len(u), len(i)), torch.tensor([0]), torch.arange(3), 2,
                         histories({0: {0, 1, 2}}, 1))
    assert rows.tolist() == [[-1, -1]] and scores.tolist() == [[-torch.inf] * 2]


def test_half_precision_and_integer_scores_are_ranked_too():
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64):
        table = torch.tensor([[1, -2, 3]], dtype=dtype)
        rows, _ = top_k(lambda u, i, t=table: t[u][:, i], torch.tensor([0]), torch.arange(3), 3)
        assert rows.tolist() == [[2, 0, 1]]


def test_scores_that_are_not_numbers_are_refused():
    for nan in (torch.nan, -torch.nan, torch.tensor(torch.inf) - torch.inf):
        with pytest.raises(ValueError, match=r"NaN"):
            top_k(lambda u, i, x=nan: torch.tensor([[1.0, x, 2.0]]), torch.tensor([0]), torch.arange(3), 1)


def test_k_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        top_k(lambda u, i: torch.ones(1, 1), torch.tensor([0]), torch.tensor([0]), 0)


def test_cosine_is_that_of_sklearn_and_zero_for_a_zero_row():
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    weight[2] = 0
    scores = cosines(weight)(torch.arange(6), torch.tensor([5, 2, 0]))
    np.testing.assert_allclose(scores, cosine_similarity(weight)[:, [5, 2, 0]], atol=1e-6)
    assert not scores[2].any() and not scores[:, 1].any()


def test_a_model_without_cross_is_called_pair_by_pair_in_small_parts(monkeypatch: pytest.MonkeyPatch):
    class Distance(nn.Module):
        def __init__(self):
            super().__init__()
            self.u_weight, self.i_weight = nn.Embedding(5, 3), nn.Embedding(7, 3)

        def forward(self, users, items):
            return -(self.u_weight(users) - self.i_weight(items)).square().sum(1)

    torch.manual_seed(0)
    model, sizes = Distance(), []
    model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    monkeypatch.setattr("collab.models.base.MAX_PAIRS", 4)
    users, items = torch.tensor([4, 0, 1]), torch.tensor([6, 2])
    scores = cross_scores(model)(users, items)
    assert scores.shape == (3, 2) and max(sizes) == 4
    for m, u in enumerate(users):
        for n, i in enumerate(items):
            torch.testing.assert_close(scores[m, n], model(u[None], i[None])[0])
    assert cross_scores(model)(users[:0], items).shape == (0, 2)
    assert as_collab(model).scores(users[:0], users[:0]).shape == (0,)


def test_a_model_with_cross_is_asked_for_it():
    model = EmbeddingDotBias(3, 5, 7)
    model.cross = lambda users, items: torch.full((len(users), len(items)), 7.0, dtype=torch.float64)
    scores = cross_scores(model)(torch.arange(3), torch.arange(4))
    assert scores.dtype == torch.float32 and torch.equal(scores, torch.full((3, 4), 7.0))


@pytest.mark.parametrize("shape", [{}, {"hidden": [], "y_range": (1, 5)}, {
    "hidden": [7, 5], "activation": "elu", "batch_norm": True, "y_range": (0.5, 5.5)}])
def test_a_networks_table_of_scores_is_what_it_gives_pair_by_pair(shape, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    model = EmbeddingNet(3, 5, 30, **shape)
    for p in model.parameters():
        p.data.normal_()
    model(torch.randint(5, (20,)), torch.randint(30, (20,)))        # running statistics of their own
    users, items = torch.tensor([4, 0, 1, 1]), torch.randperm(30)[:23]
    with torch.no_grad():
        expected = model.eval()(users.repeat_interleave(23), items.repeat(4)).view(4, 23)
        for most in (net.MAX_NUMBERS, 60):        # all items at once, or a few at a time
            monkeypatch.setattr(net, "MAX_NUMBERS", most)
            torch.testing.assert_close(cross_scores(model)(users, items), expected, rtol=1e-5, atol=1e-6)
    assert cross_scores(model)(users[:0], items).shape == (0, 23)


def test_scores_of_another_shape_are_refused_by_the_model_s_name():
    class Column(nn.Module):
        def forward(self, users: Tensor, items: Tensor) -> Tensor:
            return users[:, None].float()
    with pytest.raises(ValueError, match=r"Column gave scores of shape \(2, 1\) for 2 pairs"):
        as_collab(Column()).scores(torch.tensor([1, 2]), torch.tensor([1, 2]))

"""InfiniteAE: the kernel against formulas and a wide random network, the ridge against dense numpy, and its lists."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import dense, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from collab import ragged
from collab.data.interactions import Interactions
from collab.models import infinite_ae as infinite_ae_module
from collab.models.infinite_ae import InfiniteAE, neural_tangent


def solved(data: Any, n_users: int, n_items: int, **options: Any) -> InfiniteAE:
    m = InfiniteAE(n_users, n_items, **options)
    m.sweep(m.prepare(*data))
    return m


def naive_kernel(x: np.ndarray, depth: int, item_power: float) -> np.ndarray:
    """K of the rows of x, (n, n), by loops; 0 where a row is empty."""
    scaled = x * (x.sum(0) + 1) ** -item_power
    k = np.zeros((len(x), len(x)))
    for u, v in np.ndindex(*k.shape):
        if x[u].any() and x[v].any():
            t = min(1.0, scaled[u] @ scaled[v] / np.linalg.norm(scaled[u]) / np.linalg.norm(scaled[v]))
            theta = sigma = t
            for _ in range(depth):
                k0 = (math.pi - math.acos(sigma)) / math.pi
                sigma = min(1.0, (math.sqrt(1 - sigma ** 2) + sigma * (math.pi - math.acos(sigma))) / math.pi)
                theta = theta * k0 + sigma
            k[u, v] = theta
    return k


def test_the_kernel_by_hand():
    """Of orthogonal inputs, Theta_1 = 0 / 2 + 1 / pi; of equal ones it grows by 1 a layer; of opposite ones it is 0."""
    cosine = torch.tensor([0.0, 1.0, -1.0, 0.5], dtype=torch.float64)
    one, two = neural_tangent(cosine, 1), neural_tangent(cosine, 2)
    half = 1 / 3 + (math.sqrt(0.75) + 1 / 3 * math.pi) / math.pi        # k_0(1/2) = 2/3
    torch.testing.assert_close(one, torch.tensor([1 / math.pi, 2.0, 0.0, half], dtype=torch.float64), atol=1e-7, rtol=0)
    sigma = (math.sqrt(1 - math.pi ** -2) + (math.pi - math.acos(1 / math.pi)) / math.pi) / math.pi
    assert two[0].item() == pytest.approx((math.pi - math.acos(1 / math.pi)) / math.pi / math.pi + sigma)
    assert two[1].item() == pytest.approx(3.0)
    assert torch.equal(neural_tangent(cosine, 0), cosine)


def test_the_kernel_is_that_of_gradients_of_a_wide_network():
    """<df/dw(x), df/dw(y)> of a random network of 2 wide ReLU layers (Jacot et al. 2018)."""
    torch.manual_seed(0)
    n, width = 6, 3000
    x, y = nn.functional.normalize(torch.randn(2, n), dim=1)
    w = [torch.randn(width, n), torch.randn(width, width), torch.randn(1, width)]

    def gradients(z: torch.Tensor) -> list[torch.Tensor]:
        for p in w:
            p.requires_grad_(True)
        h = torch.relu(w[0] @ z) * math.sqrt(2 / width)
        h = torch.relu(w[1] @ h) * math.sqrt(2 / width)
        return list(torch.autograd.grad((w[2] @ h)[0], w))
    empirical = sum((a * b).sum() for a, b in zip(gradients(x), gradients(y))).item()
    assert empirical == pytest.approx(neural_tangent(x @ y, 2).item(), rel=0.1)


@settings(max_examples=30, deadline=None)
@given(n_users=st.integers(2, 12), n_items=st.integers(2, 14), n=st.integers(1, 70), seed=st.integers(0, 99),
       depth=st.integers(0, 3), item_power=st.sampled_from([0.0, 0.25, 1.0]), reg=st.sampled_from([0.3, 3.0]))
def test_weights_scores_and_loss_are_those_of_dense_numpy(n_users: int, n_items: int, n: int, seed: int, depth: int,
                                                          item_power: float, reg: float):
    data = rows(n_users, n_items, n, seed)
    x = dense(data, n_users, n_items)
    m = solved(data, n_users, n_items, reg=reg, depth=depth, item_power=item_power)
    k, known = naive_kernel(x, depth, item_power), x.any(1)
    dual = np.linalg.solve(k + reg * np.eye(len(k)), x)
    expected = k @ dual
    expected[~known] = expected[known].mean(0)
    rated = x.any(0)
    expected[:, ~rated] = expected[:, rated].mean(1, keepdims=True)         # as an unknown item
    users, items = torch.arange(n_users), torch.arange(n_items)
    scores = m.cross(users, items)
    np.testing.assert_allclose(scores[1:, 1:], expected, atol=2e-5)
    np.testing.assert_allclose(scores[0, 1:], expected[known].mean(0), atol=2e-5)
    np.testing.assert_allclose(scores[:, 0], scores[:, 1:][:, x.any(0)].mean(1), atol=2e-5)
    pairs = torch.cartesian_prod(users, items)
    torch.testing.assert_close(m(pairs[:, 0], pairs[:, 1]), scores.flatten(), atol=1e-5, rtol=1e-4)
    assert m.loss(m.prepare(*data)) == pytest.approx(
        ((x - k @ dual)[known] ** 2).sum() + reg * np.trace(dual.T @ k @ dual), rel=1e-4)


def test_no_other_dual_solution_has_a_lower_objective():
    data = rows()
    x = dense(data, 9, 12)
    k = naive_kernel(x, 3, 0.25)
    rng = np.random.default_rng(0)

    def objective(a: np.ndarray) -> float:
        return float(((x - k @ a) ** 2).sum() + 3 * np.trace(a.T @ k @ a))
    best = np.linalg.solve(k + 3 * np.eye(len(k)), x)
    m = solved(data, 9, 12)
    least = m.loss(m.prepare(*data))
    assert least == pytest.approx(objective(best), rel=1e-5)
    assert all(objective(best + 0.1 * rng.normal(size=best.shape)) > least for _ in range(20))


def test_somebody_new_is_scored_by_the_ridge_on_the_users_there_are():
    data = rows()
    x = dense(data, 9, 12)
    m = solved(data, 9, 12)
    new = np.zeros(11)
    new[[1, 4, 7]] = 1
    k = naive_kernel(x, 3, 0.25)
    with_new = np.vstack([x, new])
    scale = (x.sum(0) + 1) ** -0.25             # the items' counts stay what they were
    cosine = [(a * scale) @ (new * scale) / np.linalg.norm(a * scale) / np.linalg.norm(new * scale) if a.any() else 0
              for a in with_new[:-1]]
    row = neural_tangent(torch.tensor(cosine), 3).numpy() * x.any(1)
    expected = row @ np.linalg.solve(k + 3 * np.eye(len(k)), x)
    found = m.score_new(torch.tensor([2, 5, 8]), torch.tensor([5.0, 1.0, 3.0]))
    np.testing.assert_allclose(found[1:], expected, atol=1e-5)
    own = data[1][data[0] == 3]                 # and with a known user's history, as that user
    with torch.no_grad():
        as_known = m.cross(torch.tensor([3]), torch.arange(12))[0]
    torch.testing.assert_close(m.score_new(own, torch.ones(len(own))), as_known)
    with pytest.raises(ValueError, match="items must be rows from 1 to 11"):
        m.score_new(torch.tensor([12]), torch.ones(1))


def test_in_small_pieces_everything_is_the_same(monkeypatch: pytest.MonkeyPatch):
    data = rows(30, 40, 200)
    whole = solved(data, 30, 40)
    users, items = torch.arange(30), torch.randperm(40)[:11]
    expected = whole.cross(users, items), whole(users, torch.arange(30)), whole.loss(whole.prepare(*data))
    for module in (infinite_ae_module, ragged):
        monkeypatch.setattr(module, "MAX_NUMBERS", 7)
    small = solved(data, 30, 40)
    torch.testing.assert_close(small.weight, whole.weight)
    torch.testing.assert_close(small.cross(users, items), expected[0])
    torch.testing.assert_close(small(users, torch.arange(30)), expected[1])
    assert small.loss(small.prepare(*data)) == pytest.approx(expected[2])


def test_users_of_one_taste_recommend_to_each_other():
    """Two camps: whoever misses one item of their camp gets it first."""
    users, items = [], []
    for u in range(1, 21):
        for i in range(1, 13):
            if (u % 2 == i % 2) and (u + i) % 5:
                users.append(u)
                items.append(i)
    m = solved((torch.tensor(users), torch.tensor(items), torch.ones(len(users))), 21, 13)
    scores = m.cross(torch.arange(21), torch.arange(13))
    scores[torch.tensor(users), torch.tensor(items)] = -torch.inf
    best = scores[1:, 1:].argmax(1) + 1
    assert (best % 2 == torch.arange(1, 21) % 2).all()


def test_a_pair_that_comes_twice_counts_once_and_the_state_holds_the_weights_alone():
    users, items, ratings = rows()
    once = solved((users, items, ratings), 9, 12)
    twice = solved(tuple(torch.cat([t, t]) for t in (users, items, ratings)), 9, 12)
    assert torch.equal(once.weight, twice.weight) and [*once.state_dict()] == ["weight"]
    again = InfiniteAE(**once.config)
    again.load_state_dict(once.state_dict())
    again.set_interactions(Interactions(users, items, ratings, 9, 12))
    assert torch.equal(again.cross(torch.arange(9), torch.arange(12)), once.cross(torch.arange(9), torch.arange(12)))


@pytest.mark.parametrize("options, message", [
    ({"n_users": 50_001}, "n_users=50,001 is too many"), ({"reg": 0.0}, "reg must be a finite number above 0, got 0.0"),
    ({"depth": -1}, "depth must be a whole number, at least 0, got -1")])
def test_what_cannot_be_built_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        InfiniteAE(**{"n_users": 5, "n_items": 4, **options})

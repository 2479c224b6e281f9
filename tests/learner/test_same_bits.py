"""The same call with the same seed gives the same bits, with several threads too."""

import pytest
import torch

from collab import EmbeddingDotBias, HybridNet, SVDpp, observed_mse
from collab.numerics import entries_at, rows_at

RUNS = 5
N = 40_000      # rows; with 32,768 numbers and more, torch shares the sum of gradients among threads


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def one_result(gradients):
    """Whether the function of nothing gives the same bits, RUNS times."""
    first, *others = ([g.clone() for g in gradients()] for _ in range(RUNS))
    return all(torch.equal(a, b) for other in others for a, b in zip(first, other))


@pytest.fixture(scope="module")
def pairs():
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(1, 40, (N,), generator=drawn), torch.randint(1, 30, (N,), generator=drawn)


def test_gradients_of_rows_and_of_entries_add_up_in_one_order(pairs):
    table, weights = torch.randn(40, 30, requires_grad=True), torch.randn(N)
    rows, columns = pairs
    assert torch.equal(rows_at(table, rows), table[rows]) and torch.equal(entries_at(table, *pairs), table[pairs])
    for taken in (lambda: rows_at(table, rows)[:, 0], lambda: entries_at(table, rows, columns)):
        assert one_result(lambda taken=taken: torch.autograd.grad(taken(), table, weights))
    exact = torch.zeros(40, 30, dtype=torch.float64).index_put_(pairs, weights.double(), accumulate=True)
    found = torch.autograd.grad(entries_at(table, rows, columns), table, weights)[0]
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("make", [
    lambda pairs: EmbeddingDotBias(8, 40, 30), lambda pairs: SVDpp(8, 40, 30, pairs, drop=0.0, id_drop=0.0),
    lambda pairs: HybridNet(8, 40, 30, pairs, None, None, drop=0.0, id_drop=0.0)], ids=["dot_bias", "svdpp", "hybrid"])
def test_large_batches_have_the_same_gradients_each_time(make, pairs):
    model, ratings = make(pairs), torch.randn(N)

    def gradients():
        model.zero_grad()
        (model(*pairs) * ratings).mean().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]
    assert one_result(gradients)


@pytest.mark.parametrize("how", ["gather", "product"])
def test_the_error_over_a_sparse_table_has_the_same_gradients_each_time(how, pairs):
    ratings = torch.sparse_coo_tensor(torch.stack(pairs), torch.randn(N), (40, 30), check_invariants=True)
    u, v = torch.randn(40, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    assert one_result(lambda: torch.autograd.grad(observed_mse(ratings, u, v, how), (u, v)))

"""Gibbs sweeps by compiled kernels: the numbers that torch gives, from the same random ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from collab.compiled import not_compiled
from collab.models import bayesian, gibbs, gibbs_compiled
from collab.models.bayesian import BayesianFM
from collab.models.gibbs import SUREST, Design, Rated
from collab.models.gibbs_compiled import CompiledDesign, CompiledRated
from collab.ragged import Ragged

pytestmark = pytest.mark.skipif(not_compiled() is not None, reason=str(not_compiled()))
N_ROWS, N_OTHERS, N = 21, 9, 300        # rows: two groups of 8, and some
widths = pytest.mark.parametrize("width", [2, 3, 7, 8, 11, 33])


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts torch's number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def pairs() -> tuple[Tensor, Tensor]:
    """Row 0 and the last two have no ratings, row 3 has one, row 4 has 130, some twice."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(5, N_ROWS - 2, (N - 131,), generator=draw)
    rows = torch.cat([torch.tensor([3]), torch.full((130,), 4), rows])
    return rows[torch.randperm(N, generator=draw)], torch.randint(1, N_OTHERS, (N,), generator=draw)


def both_rated(width: int) -> tuple[Rated, CompiledRated]:
    return Rated(*pairs(), N_ROWS, width), CompiledRated(*pairs(), N_ROWS, width)


def full(middle: Tensor, width: int) -> Tensor:
    """The M of `marginals` as matrices, (n_rows, width, width)."""
    i, j = torch.triu_indices(width, width)
    found = torch.zeros(len(middle), 8, width, width)
    found[:, :, i, j] = found[:, :, j, i] = middle.transpose(1, 2)
    return found.flatten(0, 1)[:N_ROWS]


@widths
@pytest.mark.parametrize("weight", [1e-3, 1.0, SUREST])
def test_what_ratings_say_is_what_torch_sums_up(width: int, weight: float):
    draw = torch.Generator().manual_seed(1)
    targets, weights = torch.randn(N, generator=draw), weight * torch.rand(N, generator=draw).add(0.1).clamp(max=1)
    other = torch.randn(N_OTHERS, width, generator=draw)
    precision = torch.logspace(-1, 3, width, dtype=torch.float64)
    found = []
    for rated in both_rated(width):
        torch.manual_seed(2)
        found.append(rated.marginal(targets, weights, other, precision))
    expected, own = found
    for one, two in ((expected.alone, own.alone), (expected.pulled, own.pulled[:, :width]),
                     (expected.middle, full(own.middle, width))):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5 * one.abs().max().item())
    assert not own.pulled[:, width:].any()
    assert not own.middle.isnan().any()


@widths
def test_scores_weights_and_sums_are_those_of_torch(width: int):
    draw = torch.Generator().manual_seed(1)
    x, z = torch.randn(N_ROWS, width, generator=draw), torch.randn(N_OTHERS, width, generator=draw)
    own, theirs = (torch.rand(n, dtype=torch.float64, generator=draw) + 0.1 for n in (N_ROWS, N_OTHERS))
    errors = torch.rand(N, dtype=torch.float64, generator=draw)
    one, other = both_rated(width)
    torch.testing.assert_close(other.scores(x, z), one.scores(x, z))
    torch.testing.assert_close(other.sums(errors, theirs), one.sums(errors, theirs))
    torch.testing.assert_close(other.weights(own, theirs), one.weights(own, theirs))
    assert (other.weights(1e9 * own, theirs) == SUREST).all()


@widths
def test_products_of_features_are_those_of_torch(width: int):
    draw = torch.Generator().manual_seed(1)
    rows, columns = pairs()
    features = Ragged.unique(rows, columns, torch.randn(N, generator=draw), N_ROWS, N_OTHERS)
    group = torch.zeros(N_OTHERS, dtype=torch.int64)
    one, other = Design(features, group, 1), CompiledDesign(features, group, 1)
    middle = torch.randn(24 // 8, width * (width + 1) // 2, 8, generator=draw)
    wide = full(middle, width)
    beta, x = torch.randn(N_OTHERS, width, generator=draw), torch.randn(N_ROWS, width, generator=draw)
    torch.testing.assert_close(other.diagonal(middle), one.diagonal(wide), rtol=1e-5, atol=1e-5)
    for call, table, args in (("ahead", beta, ()), ("back", x, ()), ("through", x, (middle,))):
        found = getattr(other, call)(*args, other.wide(table))
        expected = getattr(one, call)(*(wide for _ in args), table)
        torch.testing.assert_close(found[:, :width], expected, rtol=1e-5, atol=1e-4)
        assert found.shape[1] % 8 == 0 and not found[:, width:].any()


@pytest.mark.parametrize("n_factors", [1, 4, 10])
def test_a_sweep_is_that_of_torch(n_factors: int, monkeypatch: pytest.MonkeyPatch):
    """With products taken to the end, so that both take as many steps."""
    monkeypatch.setattr(gibbs, "TOLERANCE", 1e-6)
    rows, others = pairs()
    ratings = torch.randn(N, generator=torch.Generator().manual_seed(1))
    found = []
    for compiled in (False, True):
        monkeypatch.setattr(bayesian, "suits", lambda table, compiled=compiled: compiled)
        torch.manual_seed(3)
        model = BayesianFM(n_factors, N_ROWS, N_OTHERS, n_draws=2, per_epoch=1)
        model.sweeps.fill_(100)
        prepared = model.prepare(rows, others, ratings)
        assert type(prepared.of_users) is (CompiledRated if compiled else Rated)
        assert type(prepared.designs[1]) is (CompiledDesign if compiled else Design)
        error = model.sweep(prepared)
        found.append({"error": torch.tensor(error), **model.state_dict()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_any_number_of_threads_gives_the_same_bits(threads: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gibbs_compiled, "PIECE", 0)
    rows, others = pairs()
    found = []
    for n in (1, 2, 5):
        torch.set_num_threads(n)
        torch.manual_seed(3)
        model = BayesianFM(4, N_ROWS, N_OTHERS, n_draws=4, per_epoch=8)
        prepared = model.prepare(rows, others, rows.float().sin())
        assert len(prepared.of_users.by_group.spans) == n
        model.sweep(prepared)
        found.append(model.state_dict())
    for other in found[1:]:
        for name, value in found[0].items():
            assert torch.equal(other[name], value), name

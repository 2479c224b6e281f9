"""ALS row by row in compiled kernels: against torch's batches, and against naive dense algebra in numpy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from als_naive import KINDS, joined, model, naive_loss, naive_side, rows
from torch import Tensor

from collab.data.databunch import CollabDataBunch
from collab.data.split import per_user_split
from collab.datasets.rating_set import RatingSet
from collab.evaluate.evaluation import evaluate
from collab.learner.factory import collab_learner
from collab.models import row_by_row
from collab.models.als import ALS
from collab.models.blocks import Blocks
from collab.models.row_by_row import RowByRow

kinds = pytest.mark.parametrize("kind", list(KINDS))
N_USERS, N_ITEMS, N_FACTORS = 60, 50, 5


def some_rows() -> tuple[Tensor, Tensor, Tensor]:
    """Ratings of 54 of 59 users and 45 of 49 items, of which the last of each has a single one."""
    users, items, ratings = rows(N_USERS, N_ITEMS, 1200)
    kept = (users < 54) & (items < 45)
    one = torch.tensor([54]), torch.tensor([45]), ratings[:1]
    return tuple(torch.cat([new, column[kept]]) for new, column in zip(one, (users, items, ratings)))


def compiled(kind: str, cg_steps: int, n_factors: int = N_FACTORS) -> ALS:
    return model(kind, N_USERS, N_ITEMS, n_factors, cg_steps=cg_steps, dtype="float32")


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts torch's number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_by_row, "not_compiled", lambda: "for a test")


# The same numbers -------------------------------------------------------------------------------------------------

@kinds
@pytest.mark.parametrize("cg_steps", [1, 3, 4])
def test_a_sweep_takes_the_steps_that_torch_takes(kind: str, cg_steps: int, monkeypatch: pytest.MonkeyPatch):
    data, tables, losses = some_rows(), [], []
    for way in (RowByRow, Blocks):
        m = compiled(kind, cg_steps, n_factors=19)      # wider than one register
        prepared = m.prepare(*data)
        assert type(prepared.by_user) is type(prepared.by_item) is way
        before = m.loss(prepared)
        m.sweep(prepared)
        losses.append([before, m.loss(prepared)])
        tables.append([joined(m, side) for side in "ui"])
        without_kernels(monkeypatch)
    for one, other in zip(*tables):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * np.abs(other).max())
    np.testing.assert_allclose(*losses, rtol=1e-5)


@kinds
def test_more_steps_than_factors_solve_as_dense_algebra_does(kind: str):
    m, data = compiled(kind, 12), some_rows()
    prepared = m.prepare(*data)
    expected = naive_side(m, "i", data)
    m.sweep(prepared)
    np.testing.assert_allclose(joined(m, "i")[1:], expected[1:], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(joined(m, "u")[1:], naive_side(m, "u", data)[1:], rtol=1e-3, atol=1e-4)
    for side, n, n_rated in (("u", N_USERS, 54), ("i", N_ITEMS, 45)):
        table = joined(m, side)
        assert (table[n_rated + 1:] == 0).all() and len(table) == n and (table[1:n_rated + 1] != 0).all()
        np.testing.assert_allclose(table[0], table[1:].mean(0), rtol=1e-4, atol=1e-6)


@kinds
def test_the_loss_is_the_naive_double_sum_before_and_after_a_sweep(kind: str):
    m, data = compiled(kind, 3), some_rows()
    m.mu = None if m.implicit else m.mu.fill_(data[2].mean())       # the one that a sweep sets
    prepared = m.prepare(*data)
    assert m.loss(prepared) == pytest.approx(naive_loss(m, data), rel=1e-5)
    m.sweep(prepared)
    assert m.loss(prepared) == pytest.approx(naive_loss(m, data), rel=1e-5)


@pytest.mark.parametrize("name", ["als", "als_explicit"])
def test_on_movielens_objective_and_ranking_are_those_of_torch(name: str, ml100k: RatingSet,
                                                               monkeypatch: pytest.MonkeyPatch):
    data = CollabDataBunch.from_df(ml100k.ratings, split=per_user_split(0.25, 0), device="cpu")
    found = []
    for _ in range(2):
        learn = collab_learner(data, name, n_factors=16, seed=0)
        with learn.no_logging():
            learn.fit(4)
        found.append((learn.recorder.rows[-1]["train_loss"], evaluate(learn, baseline=False).summary["ndcg"]))
        without_kernels(monkeypatch)
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4) and found[0][1] == pytest.approx(found[1][1], abs=5e-4)


# The same bits ----------------------------------------------------------------------------------------------------

@kinds
def test_rows_have_the_same_bits_with_any_number_of_threads_and_in_pieces(kind: str,
                                                                         monkeypatch: pytest.MonkeyPatch):
    m = compiled(kind, 3)
    prepared = m.prepare(*some_rows())
    problem = m._problem(prepared.by_user, m._table("i").clone())
    solved, errors = [], []
    for n, piece in ((1, row_by_row.PIECE), (2, 100_000), (3, 1000), (1, 1000)):
        prepared.by_user.threads = n
        monkeypatch.setattr(row_by_row, "PIECE", piece)
        solved.append(prepared.by_user.solve(problem, m._table("u"), 3))
        errors.append(prepared.by_user.error(problem, m._table("u")))
    assert all(torch.equal(table, solved[0]) for table in solved) and len(set(errors)) == 1


@kinds
def test_two_threads_give_the_same_bits_each_time(kind: str, threads: None, monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(row_by_row, "PIECE", 1000)
    made = [compiled(kind, 3) for _ in range(2)]
    for m in made:
        m.sweep(m.prepare(*some_rows()))
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in made)))


@kinds
def test_torch_has_one_thread_beside_those_of_kernels_and_its_own_back_afterwards(
        kind: str, threads: None, monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(2)
    m, seen = compiled(kind, 3), []
    prepared = m.prepare(*some_rows())
    assert prepared.by_user.threads == 2
    problem = m._problem
    monkeypatch.setattr(m, "_problem", lambda *args, **options: (seen.append(torch.get_num_threads()),
                                                                   problem(*args, **options))[1])
    m.sweep(prepared)
    m.loss(prepared)
    assert seen == [1, 1, 1] and torch.get_num_threads() == 2

    def fails(*args: object, **options: object) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr(m, "_problem", fails)
    for work in (m.sweep, m.loss):
        with pytest.raises(KeyboardInterrupt):
            work(prepared)
    assert torch.get_num_threads() == 2


def test_an_error_in_a_thread_is_raised(threads: None, monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(row_by_row, "PIECE", 1000)
    histories = compiled("implicit", 3).prepare(*some_rows()).by_user
    with pytest.raises(ZeroDivisionError):
        histories._in_pieces(lambda first, last: 1 // 0, 1, 0.0)


# Which way --------------------------------------------------------------------------------------------------------

def test_exact_solutions_and_double_precision_are_torchs():
    for m in (compiled("implicit", 0), model("implicit", N_USERS, N_ITEMS, cg_steps=3)):
        assert type(m.prepare(*some_rows()).by_user) is Blocks


def test_a_sweep_leaves_the_tables_that_it_starts_from_until_its_end():
    m = compiled("implicit", 3, n_factors=16)       # as wide as a register: nothing is padded
    prepared = m.prepare(*some_rows())
    before = m._table("u").clone()
    prepared.by_user.solve(m._problem(prepared.by_user, m._table("i")), m._table("u"), 3)
    assert torch.equal(m._table("u"), before)

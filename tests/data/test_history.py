"""Histories and the rows of varying length below them, against pandas and naive loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from collab import ragged as ragged_module
from collab.data.histories import Histories
from collab.ragged import Ragged

N_USERS, N_ITEMS = 40, 25


@pytest.fixture(scope="module")
def ratings() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    users = rng.choice([u for u in range(N_USERS) if u not in (0, 7, N_USERS - 1)], 300)    # three users rate nothing
    return pd.DataFrame({"user": users, "item": rng.integers(0, N_ITEMS - 3, 300),
                         "rating": rng.normal(size=300).astype(np.float32)})


def columns_of(ratings: pd.DataFrame) -> list[torch.Tensor]:
    return [torch.tensor(ratings[c].to_numpy()) for c in ratings]


@pytest.fixture(scope="module")
def histories(ratings) -> Histories:
    return Histories.of(*columns_of(ratings), N_USERS)


@pytest.fixture(scope="module")
def once(ratings) -> Ragged:
    return Ragged.unique(*columns_of(ratings), N_USERS, N_ITEMS)


def test_each_user_has_the_items_and_ratings_of_pandas_groupby_in_their_order(ratings, histories):
    groups = dict(list(ratings.groupby("user")))
    for user in range(N_USERS):
        items, given = histories[user]
        expected = groups.get(user, ratings.iloc[:0])
        assert items.tolist() == expected["item"].tolist() and given.tolist() == expected["rating"].tolist()
    assert len(histories) == N_USERS and len(histories.items) == 300
    assert histories.counts.tolist() == [len(groups.get(user, ())) for user in range(N_USERS)]


def test_users_stand_beside_their_ratings(ratings, histories):
    by_user = ratings.sort_values("user", kind="stable")
    assert histories.users.tolist() == by_user["user"].tolist() and histories.items.tolist() == by_user["item"].tolist()
    assert histories.ratings.tolist() == by_user["rating"].tolist()
    assert histories.within().tolist() == by_user.groupby("user").cumcount().tolist()
    assert histories.keys(N_ITEMS).tolist() == (by_user["user"] * N_ITEMS + by_user["item"]).tolist()


@pytest.mark.parametrize("users", [[3, 5, 8], [7, 3, 0, 39, 3], [0], [], list(range(N_USERS))])
def test_pairs_are_those_of_a_naive_loop(users, histories):
    naive = [(place, item) for place, user in enumerate(users) for item in histories[user][0].tolist()]
    position, items = histories.pairs(torch.tensor(users, dtype=torch.int64))
    assert list(zip(position.tolist(), items.tolist(), strict=True)) == naive
    assert position.dtype == items.dtype == torch.int64


@pytest.mark.parametrize("users", [[3], [7], [5, 0, 12, 5]])
@pytest.mark.parametrize("columns", [range(N_ITEMS), range(-2, N_ITEMS + 3), range(4, 15), range(40, 50)])
def test_cells_are_the_entries_in_a_flattened_table_of_some_columns(ratings, histories, users, columns):
    table = np.zeros((len(users), len(columns)), dtype=bool)
    for place, user in enumerate(users):
        for item in ratings["item"][ratings["user"] == user]:
            if item in columns:
                table[place, item - columns.start] = True
    found = histories.cells(torch.tensor(users), columns)
    assert sorted(set(found.tolist())) == np.flatnonzero(table).tolist()


def test_nobody_rated_anything():
    none = Histories.of(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0), 3)
    assert none.starts.tolist() == [0, 0, 0, 0] and none[1][0].tolist() == [] and len(none) == 3
    assert none.pairs(torch.tensor([0, 2]))[0].tolist() == []
    assert none.dense(torch.tensor([0, 2]), 4).tolist() == [[0.0] * 4] * 2
    assert none.averaged(4).counts.tolist() == [0, 0, 0]


def test_each_pair_once_with_the_sum_of_its_values(ratings, once):
    summed = ratings.groupby(["user", "item"])["rating"].sum().reset_index()
    assert once.rows.tolist() == summed["user"].tolist() and once.columns.tolist() == summed["item"].tolist()
    np.testing.assert_allclose(once.values.numpy(), summed["rating"].to_numpy(), rtol=1e-5, atol=1e-6)
    users, items, _ = columns_of(ratings)
    chosen = Ragged.unique(users, items, None, N_USERS, N_ITEMS)
    assert chosen.columns.tolist() == once.columns.tolist() and chosen.values.tolist() == [1.0] * len(summed)


def test_dense_and_csr_are_the_pivot_table(ratings, once):
    pivot = ratings.pivot_table(index="user", columns="item", values="rating", aggfunc="sum", fill_value=0.0)
    pivot = pivot.reindex(index=range(N_USERS), columns=range(N_ITEMS), fill_value=0.0).to_numpy()
    rows = torch.tensor([5, 0, 5, 38])
    np.testing.assert_allclose(once.dense(rows, N_ITEMS).numpy(), pivot[rows], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(once.csr(N_ITEMS, torch.float64).to_dense().numpy(), pivot, rtol=1e-5, atol=1e-6)
    turned = once.transposed(N_ITEMS)
    np.testing.assert_allclose(turned.dense(torch.arange(N_ITEMS), N_USERS).numpy(), pivot.T, rtol=1e-5, atol=1e-6)
    assert all(turned[item][0].diff().gt(0).all() for item in range(N_ITEMS))


def test_padded_rows_end_in_zeros(histories):
    rows, longest = torch.tensor([3, 0, 8]), int(histories.counts.max())
    items, values = histories.padded(rows, longest)
    for row, some, given in zip(rows.tolist(), items.tolist(), values.tolist(), strict=True):
        wanted, n = histories[row], len(histories[row][0])
        assert some == wanted[0].tolist() + [0] * (longest - n) and given == wanted[1].tolist() + [0.0] * (longest - n)


@pytest.mark.parametrize("at_a_time", [1, 1 << 22])
def test_dot_is_the_product_with_the_dense_row(at_a_time, once, monkeypatch):
    monkeypatch.setattr(ragged_module, "MAX_NUMBERS", at_a_time)
    table = torch.arange(6.0)[:, None] + torch.arange(N_ITEMS) / 7
    at, rows = torch.tensor([0, 5, 2, 2]), torch.tensor([3, 7, 3, 12])
    expected = (table[at].double() * once.dense(rows, N_ITEMS).double()).sum(1)
    torch.testing.assert_close(once.dot(table, at, rows).double(), expected, rtol=1e-5, atol=1e-5)
    assert once.dot(table, at[:0], rows[:0]).shape == (0,)


def test_the_first_entries_of_each_row_are_those_of_pandas_head(ratings, histories):
    few = histories.first(3)
    expected = ratings.sort_values("user", kind="stable").groupby("user").head(3)
    assert isinstance(few, Histories) and few.users.tolist() == expected["user"].tolist()
    assert few.items.tolist() == expected["item"].tolist() and few.ratings.tolist() == expected["rating"].tolist()
    assert len(few) == N_USERS and len(histories.where(histories.ratings > 100).items) == 0


@pytest.mark.parametrize("n", [1, 20, 1000])
def test_runs_have_all_rows_in_order_and_few_entries(histories, n):
    runs = list(histories.runs(n))
    assert [row for span, _, _ in runs for row in span] == list(range(N_USERS))
    assert torch.equal(torch.cat([rows for _, rows, _ in runs]), histories.users)
    assert torch.equal(torch.cat([columns for _, _, columns in runs]), histories.items)
    assert all(len(span) == 1 or len(rows) <= n for span, rows, _ in runs) and (n < 1000 or len(runs) == 1)


@pytest.mark.parametrize("most", [7, 1 << 22])
def test_pairs_with_an_entry_are_those_of_the_table(ratings, histories, most, monkeypatch):
    monkeypatch.setattr(ragged_module, "MAX_NUMBERS", most)
    rows, columns = (grid.flatten() for grid in torch.meshgrid(torch.arange(N_USERS), torch.arange(N_ITEMS),
                                                               indexing="ij"))
    found = histories.holds(rows, columns, N_ITEMS)
    pairs = set(zip(ratings["user"], ratings["item"]))
    assert found.tolist() == [pair in pairs for pair in zip(rows.tolist(), columns.tolist())]


def test_row_0_is_the_average_of_the_rows_with_entries(once):
    averaged = once.averaged(N_ITEMS)
    dense = once.dense(torch.arange(N_USERS), N_ITEMS)
    mean = dense.sum(0) / (once.counts > 0).sum()
    torch.testing.assert_close(averaged.dense(torch.tensor([0]), N_ITEMS)[0], mean)
    assert len(averaged[0][0]) == int((mean != 0).sum())
    torch.testing.assert_close(averaged.dense(torch.arange(1, N_USERS), N_ITEMS), dense[1:], rtol=0, atol=0)


def test_buffers_of_a_module_are_a_ragged_where_the_module_is_moved(once):
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            for name, tensor in once.tensors().items():
                self.register_buffer(name, tensor, persistent=False)

    module = Keeps().to("meta")
    kept = Ragged(module.starts, module.columns, module.values)
    assert not module.state_dict() and kept.values.is_meta and once.to("meta").starts.is_meta
    assert once.to("cpu").values is once.values

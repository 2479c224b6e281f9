"""Histories: what each user rated, against pandas and naive loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from collab.data.histories import Histories

N_USERS, N_ITEMS = 40, 25


@pytest.fixture(scope="module")
def ratings() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    users = rng.choice([u for u in range(N_USERS) if u not in (0, 7, N_USERS - 1)], 300)    # three users rate nothing
    return pd.DataFrame({"user": users, "item": rng.integers(0, N_ITEMS - 3, 300),
                         "rating": rng.normal(size=300).astype(np.float32)})


@pytest.fixture(scope="module")
def histories(ratings) -> Histories:
    return Histories.of(*(torch.tensor(ratings[c].to_numpy()) for c in ratings), N_USERS)


def test_each_user_has_the_items_and_ratings_of_pandas_groupby_in_their_order(ratings, histories):
    groups = dict(list(ratings.groupby("user")))
    for user in range(N_USERS):
        items, given = histories[user]
        expected = groups.get(user, ratings.iloc[:0])
        assert items.tolist() == expected["item"].tolist() and given.tolist() == expected["rating"].tolist()
    assert len(histories) == 300 and len(histories.starts) == N_USERS + 1


def test_users_stand_beside_their_ratings(ratings, histories):
    by_user = ratings.sort_values("user", kind="stable")
    assert histories.users.tolist() == by_user["user"].tolist() and histories.items.tolist() == by_user["item"].tolist()


@pytest.mark.parametrize("users", [[3, 5, 8], [7, 3, 0, 39, 3], [0], [], list(range(N_USERS))])
def test_pairs_are_those_of_a_naive_loop(users, histories):
    naive = [(place, item) for place, user in enumerate(users) for item in histories[user][0].tolist()]
    position, items = histories.pairs(torch.tensor(users, dtype=torch.int64))
    assert list(zip(position.tolist(), items.tolist(), strict=True)) == naive
    assert position.dtype == items.dtype == torch.int64


def test_nobody_rated_anything():
    none = Histories.of(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0), 3)
    assert none.starts.tolist() == [0, 0, 0, 0] and none[1][0].tolist() == [] and len(none) == 0
    assert none.pairs(torch.tensor([0, 2]))[0].tolist() == []

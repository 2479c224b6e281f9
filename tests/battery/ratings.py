"""Small ratings that are hard on a model: as many users as items, some of either without a training rating, people of a
single rating, a pair that comes twice, titles that are missing, shared or full of signs, strangers among the held out.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from collab import CollabDataBunch, rows_split

N = 40                                  # ids on each side: the vocabs have one row more, and are equally long
USERS = [f"u{k:02d}" for k in range(N)]
ITEMS = [100 + 3 * k for k in range(N)]
COLD_USERS = [USERS[k] for k in (0, 7, 15, 22, 30, 39)]         # in the tables alone, and in the validation part
COLD_ITEMS = [ITEMS[k] for k in (3, 10, 17, 24, 31, 38, 39)]
BARE_USER, BARE_ITEM = USERS[15], ITEMS[10]                     # cold, and nothing is known of them
ONCE = [USERS[1], USERS[38]]                                    # with one training rating each
USER = USERS[5]                                                 # somebody with many
STRANGER, NOVELTY = "zoe", 9_999                                # nowhere but in the validation part
TWIN = "Twin, The (1999)"                                       # the title of two items
NEW = {ITEMS[4]: 5.0, ITEMS[5]: 1.0, ITEMS[6]: 4.0, ITEMS[8]: 3.0}      # what somebody new rated


@cache
def ratings() -> tuple[pd.DataFrame, np.ndarray]:
    """(user, item, rating; which rows are held out)."""
    draw = np.random.default_rng(7)
    tastes, kinds = draw.normal(size=(N, 2)), draw.normal(size=(N, 2))
    appeal = draw.normal(scale=0.7, size=N)
    rated = draw.random((N, N)) < 0.4
    rated[[USERS.index(user) for user in (*COLD_USERS, *ONCE)]] = False
    rated[:, [ITEMS.index(item) for item in COLD_ITEMS]] = False
    rated[USERS.index(USER), [4, 5, 6, 8]] = True
    pairs = np.argwhere(rated)
    held_out = draw.random(len(pairs)) < 0.15
    held_out[[np.flatnonzero(pairs[:, k] == id)[0] for k in (0, 1) for id in np.unique(pairs[:, k])]] = False
    held_out[pairs[:, 0] == 5] = pairs[pairs[:, 0] == 5][:, 1] > 33         # of USER too, but none of NEW
    popular = int(rated.sum(0).argmax())
    once = [(USERS.index(ONCE[0]), popular), (USERS.index(ONCE[1]), 20)]
    rows = [*((u, i, out) for (u, i), out in zip(pairs.tolist(), held_out)), *((u, i, False) for u, i in once)]
    value = [np.clip(round(3 + appeal[i] + tastes[u] @ kinds[i]), 1, 5) for u, i, _ in rows]
    table = pd.DataFrame({"user": [USERS[u] for u, _, _ in rows], "item": [ITEMS[i] for _, i, _ in rows],
                          "rating": np.array(value, float)})
    train, valid = table[[not out for *_, out in rows]], table[[out for *_, out in rows]]
    again = train.iloc[[0]].assign(rating=6 - train["rating"].iloc[0])
    strange = pd.DataFrame({"user": [STRANGER, USERS[4], STRANGER, USERS[6], COLD_USERS[1], USERS[8]],
                            "item": [ITEMS[4], NOVELTY, NOVELTY, COLD_ITEMS[0], ITEMS[5], ITEMS[popular]],
                            "rating": [4.0, 2.0, 3.0, 5.0, 1.0, 4.0]})
    whole = pd.concat([train, again, valid, strange], ignore_index=True)
    return whole, np.arange(len(whole)) >= len(train) + 1


def films() -> pd.DataFrame:
    """item, title, genres, year."""
    draw = np.random.default_rng(8)
    titles: list[str | None] = [f"Film {k:02d}, The ({1950 + k})" for k in range(N)]
    titles[2] = '<b>Bold</b> & "signs" | $100 and $200'
    titles[9] = titles[28] = TWIN
    titles[13] = None
    titles[20] = "Éternité " + "very " * 30 + "long"
    genres = [draw.choice(["Drama|War", "Comedy", "Comedy|Drama", "<Noir>"]) for _ in range(N)]
    table = pd.DataFrame({"item": ITEMS, "title": titles, "genres": genres, "year": 1950.0 + np.arange(N)})
    table.loc[table["item"] == BARE_ITEM, ["genres", "year"]] = [None, np.nan]
    return table.sample(frac=1, random_state=1)


def people() -> pd.DataFrame:
    """user, group, age."""
    draw = np.random.default_rng(9)
    table = pd.DataFrame({"user": USERS, "group": draw.choice(["clerk", "cook", "none"], N),
                          "age": draw.integers(18, 80, N).astype(float)})
    table.loc[table["user"] == BARE_USER, ["group", "age"]] = [None, np.nan]
    return table


def bunch(implicit: bool) -> CollabDataBunch:
    """The data, as ratings or as choices that weigh as much."""
    table, held_out = ratings()
    return CollabDataBunch.from_df(table, split=rows_split(held_out), items=films(), users=people(), seed=0, bs=64,
                                   item_features=["genres", "year"], user_features=["group", "age"], implicit=implicit,
                                   device="cpu")


@cache
def valid_table() -> pd.DataFrame:
    """The held-out rows as a table."""
    table, out = ratings()
    return table[out].reset_index(drop=True)


@cache
def held_out() -> list[tuple[str, int, float]]:
    """The same as a list of (user, item, rating)."""
    return list(valid_table().itertuples(index=False, name=None))

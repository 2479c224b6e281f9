"""Three parts: trials are cut from the training ratings as the data were, and see nothing else."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from collab import (
    CollabDataBunch,
    CollabWarning,
    kfold,
    leave_last,
    per_user_split,
    rows_split,
    synthetic,
    time_split,
    user_split,
)
from collab.select.three_way import three_way

RATINGS = synthetic(40, 30, 600, seed=0).ratings.assign(time=np.random.default_rng(0).permutation(600))
TIMES = {(u, i): t for u, i, t in zip(RATINGS["user"], RATINGS["item"], RATINGS["time"])}


def bunch(**options):
    return CollabDataBunch.from_df(RATINGS, **{"seed": 0, "device": "cpu", "bs": 32, **options})


def table(data, name):
    users, items, _ = data.train.tensors if name == "train" else data.aside.parts[name]
    return pd.DataFrame({"user": data.aside.users.decode(users), "item": data.aside.items.decode(items)})


def pairs(data, name):
    return {*zip(table(data, name)["user"], table(data, name)["item"])}


@pytest.mark.parametrize("how", [
    {"valid_pct": 0.25}, {"split": time_split(0.25)}, {"split": per_user_split(0.25)}, {"split": user_split(0.25)},
    {"split": kfold(4)[1]}, {"split": leave_last(2)}, {"test": 0.2},
    {"test": time_split(0.2), "split": time_split(0.2)}, {"split": time_split(0.25), "implicit": True}])
def test_trials_have_the_training_ratings_and_no_others(how):
    data = bunch(**how)
    parts = three_way(data)
    train, valid = pairs(parts.trials, "train"), pairs(parts.trials, "valid")
    given = pairs(data, "train") | (pairs(data, "valid") if "test" in how else set())
    assert not train & valid and train | valid == given == pairs(parts.whole, "train")
    untouched = "test" if "test" in how else "valid"
    assert parts.name == untouched and not (train | valid) & pairs(data, untouched)
    assert parts.trials.train.bs == 32 and len(parts.users) == parts.untouched.n


def test_a_split_by_time_is_repeated_by_time():
    for how in ({"split": time_split(0.25)}, {"split": time_split(0.25), "test": time_split(0.1)}):
        data = bunch(**how)
        trials = three_way(data).trials
        if "test" in how:
            assert pairs(trials, "train") == pairs(data, "train") and pairs(trials, "valid") == pairs(data, "valid")
        times = {name: [TIMES[pair] for pair in pairs(trials, name)] for name in ("train", "valid")}
        later = [TIMES[pair] for pair in pairs(data, "test" if "test" in how else "valid")]
        assert max(times["train"]) < min(times["valid"]) and max(times["valid"]) < min(later)
        assert trials.valid.n == (data.valid.n if "test" in how else int(data.train.n * 0.25))


def test_a_split_per_user_or_of_users_is_repeated_as_such():
    per_user = three_way(bunch(split=per_user_split(0.25))).trials
    n = table(per_user, "train").groupby("user").size(), table(per_user, "valid").groupby("user").size()
    assert len(n[0]) == 40 and all(n[1][user] == -(-(n[0][user] + n[1][user]) // 4) for user in n[1].index)
    whole = three_way(bunch(split=user_split(0.25))).trials
    assert {*table(whole, "train")["user"]}.isdisjoint(table(whole, "valid")["user"])


def test_a_split_by_positions_cannot_be_repeated_and_that_is_said():
    data = bunch(split=rows_split(range(150)))
    with pytest.warns(CollabWarning, match="goes by positions in the table, and cannot be repeated .* 25% of these"):
        trials = three_way(data).trials
    assert trials.valid.n == 112 and pairs(trials, "train") | pairs(trials, "valid") == pairs(data, "train")


def test_unknown_people_of_the_untouched_part_are_told_apart():
    data = bunch(split=user_split(0.25))
    parts = three_way(data, split=per_user_split(0.2))
    assert len(set(parts.users.tolist())) == 10 and set(parts.untouched.tensors[0].tolist()) == {0}


def test_the_report_on_a_test_part_is_of_training_and_validation_ratings_as_one():
    ids = sorted(RATINGS["item"].unique())
    items = pd.DataFrame({"item": ids, "title": [f"film {id}" for id in ids]})
    data = bunch(test=user_split(0.2), implicit=True, threshold=2, items=items)
    parts = three_way(data)
    whole = parts.whole
    assert whole.valid is None and whole.test is parts.untouched and parts.trials.valid is data.valid
    assert rows(whole, "train") == rows(data, "train") + rows(data, "valid") - Counter()
    assert rows(whole, "test") == rows(data, "test") and rows(whole, "weak") == rows(data, "weak")
    assert len(set(parts.users.tolist())) == 8 and set(parts.untouched.tensors[0].tolist()) == {0}
    assert whole.item_table.equals(data.item_table)


def rows(data, name):
    users, items, ratings = data.train.tensors if name == "train" else data.aside.parts[name]
    return Counter(zip(data.aside.users.decode(users), data.aside.items.decode(items), ratings.tolist()))


def test_a_split_of_ones_own_cuts_the_training_ratings_beside_a_test_part_too():
    data = bunch(test=0.2)
    parts = three_way(data, split=per_user_split(0.5))
    assert pairs(parts.trials, "train") | pairs(parts.trials, "valid") == pairs(data, "train")
    assert pairs(parts.whole, "train") == pairs(data, "train") | pairs(data, "valid")


# A test part from the same table ------------------------------------------------------------------------------------

def test_a_test_part_is_cut_off_before_the_validation_part():
    data = bunch(test=0.2, valid_pct=0.25)
    assert (data.test.n, data.valid.n, data.train.n) == (120, 120, 360)
    every = pairs(data, "train") | pairs(data, "valid") | pairs(data, "test")
    assert len(every) == 600


def test_repeated_pairs_are_merged_before_a_test_part_is_cut_off():
    again = pd.concat([RATINGS, RATINGS.head(200)], ignore_index=True)
    data = CollabDataBunch.from_df(again, seed=0, device="cpu", implicit=True, test=0.2)
    parts = [pairs(data, name) for name in ("train", "valid", "test")]
    assert sum(map(len, parts)) == 600 == data.train.n + data.valid.n + data.test.n
    strengths = dict(RATINGS.groupby(["user", "item"])["rating"].sum() * 1.0)
    twice = {*zip(RATINGS["user"][:200], RATINGS["item"][:200])}
    users, items, found = data.aside.parts["test"]
    for pair, strength in zip(zip(data.aside.users.decode(users), data.aside.items.decode(items)), found.tolist()):
        assert strength == strengths[pair] * (2 if pair in twice else 1)


@pytest.mark.parametrize("test", [1.5, 0, -0.1, True])
def test_a_test_part_that_is_no_fraction_is_refused(test):
    with pytest.raises(ValueError, match="test ratings are a table, a split, or a fraction of the ratings"):
        bunch(test=test)


def test_positions_do_not_follow_a_test_part():
    with pytest.raises(ValueError, match="a split by positions counts all rows, and cannot follow one"):
        bunch(test=0.2, split=rows_split([1, 2]))

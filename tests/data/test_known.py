"""What is known of somebody is not recommended to them, held out or not; it stays what is to be found in evaluation."""

from __future__ import annotations

import io
import re
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from collab import (
    ALS,
    CollabDataBunch,
    CollabInterpretation,
    CollabLearner,
    SnapshotEnsemble,
    UnknownId,
    average_learners,
    cli,
    collab_learner,
    evaluate,
    load_learner,
    synthetic,
    time_split,
    user_split,
)
from collab.cli import demo
from collab.data.batches import TensorBatches
from collab.data.split import rows_split
from collab.interpret import report


def pairs(table: pd.DataFrame) -> set[tuple]:
    return set(zip(table["user"], table["item"]))


def command(*words: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["collab", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert not stop.value.code


# On random splits of MovieLens, for all users at once ---------------------------------------------------------------

@pytest.fixture(scope="module", params=["ml100k", "ml_small"])
def films(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path]:
    """(all ratings, a model that the command line trained on a random four fifths of them)."""
    folder, ml = tmp_path_factory.mktemp(request.param), request.getfixturevalue(request.param)
    ml.ratings.to_csv(folder / "ratings.csv", index=False)
    command("train", folder / "ratings.csv", "--model", "als", "--factors", 8, "--epochs", 2, "--out", folder / "m")
    return ml.ratings, folder / "m"


def test_nobody_gets_a_film_that_they_rated(films: tuple[pd.DataFrame, Path], tmp_path: Path):
    ratings, file = films
    users, rated = ratings["user"].unique(), pairs(ratings)
    data = CollabDataBunch.from_df(ratings, seed=0, device="cpu")
    learn = collab_learner(data, ALS(8, data.n_users, data.n_items))
    with learn.no_logging():
        learn.fit(2)
    loaded = load_learner(file)
    command("recommend", file, "--all", "-o", tmp_path / "recs.csv")
    lists = {"python": learn.recommend(users), "everybody": pd.concat(learn.recommend_all()),
             "a loaded learner": loaded.recommend(users), "the command line": pd.read_csv(tmp_path / "recs.csv")}
    for name, table in lists.items():
        assert len(table) == 10 * len(users), name
        assert not pairs(table) & rated, name
    for user in users[:3]:
        assert pairs(learn.recommend(user).assign(user=user)) <= pairs(lists["python"])
    trained = learn.recommend(users, exclude="train")         # what was held out is what it finds best
    assert len({user for user, _ in pairs(trained) & rated}) > 200


def test_nobody_gets_such_a_film_at_the_prompt_or_in_the_report(films: tuple[pd.DataFrame, Path], tmp_path: Path,
                                                                monkeypatch, capsys):
    ratings, file = films
    loaded, rated = load_learner(file), pairs(ratings)
    for user in ratings["user"].unique()[:5]:
        command("recommend", file, "--user", user, "--as", "csv")
        found = pd.read_csv(io.StringIO(capsys.readouterr().out)).assign(user=user)
        assert len(found) == 10 and not pairs(found) & rated
    pytest.importorskip("altair")
    for slow in ("map", "components", "training", "similar"):
        monkeypatch.setattr(report.Sections, slow, lambda self: "")
    page = CollabInterpretation(loaded).report(tmp_path / "r.html").read_text()
    parts = re.split(r"<h3>User (\d+), ([\d,]+) known ratings</h3>", page)
    assert len(parts) == 1 + 3 * 3
    for user, n, section in zip(map(int, parts[1::3]), parts[2::3], parts[3::3]):
        mine = ratings[ratings["user"] == user]
        assert int(n.replace(",", "")) == len(mine)
        best, found = ([re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table.split("<tr>")[1:]]
                       for table in re.findall(r"<tbody>.*?</tbody>", section, re.DOTALL))
        assert not {int(item) for _, item, _ in found} & {*mine["item"]} and len(found) == 8
        assert [float(rating) for _, rating in best] == sorted(mine["rating"], reverse=True)[:8]


def test_the_demos_films_that_somebody_has_not_rated_are_that(ml100k, monkeypatch, tmp_path: Path, capsys):
    monkeypatch.setattr(demo, "movielens", lambda size: ml100k)
    assert demo.tour(tmp_path, bs=8192, epochs=1)
    out = capsys.readouterr().out
    ten = out[out.index("Ten films that user 196 has not rated"):out.index("Wrote")]
    found = [int(item) for item in re.findall(r"^ +\d+ +(\d+)  ", ten, re.MULTILINE)]
    mine = ml100k.ratings[ml100k.ratings["user"] == 196]
    assert len(found) == 10 and not {*found} & {*mine["item"]}
    liked = re.findall(r"^  (.+?) +(\d)$", out[out.index("What user 196 liked"):out.index("Ten films")],
                       re.MULTILINE)
    assert [float(rating) for _, rating in liked] == sorted(mine["rating"], reverse=True)[:8]


# Whoever, and whatever model ---------------------------------------------------------------------------------------

RATINGS = synthetic(60, 40, 900, seed=1).ratings
BUNCH = CollabDataBunch.from_df(RATINGS, seed=0, bs=256, device="cpu")


def quick(data: CollabDataBunch, name: str, **options: Any) -> CollabLearner:
    learn = collab_learner(data, name, n_factors=3, **options)
    with learn.no_logging():
        learn.fit(1)
    return learn


def snapshots() -> CollabLearner:
    learn = collab_learner(BUNCH, "net", n_factors=3)
    with learn.no_logging():
        learn.fit_sgdr(2, cycle_len=1, cycle_mult=1, cbs=SnapshotEnsemble())
    return learn


@pytest.mark.parametrize("make", [
    *[lambda name=name: quick(BUNCH, name) for name in ("dot_bias", "classifier", "als", "ease", "infinite_ae", "bpr",
                                                        "softmax", "svdpp")],
    snapshots, lambda: average_learners([quick(BUNCH, "dot_bias", seed=seed) for seed in (0, 1)]),
    lambda: average_learners([quick(BUNCH, name) for name in ("als", "infinite_ae")])])
def test_no_model_recommends_what_is_known_also_after_a_file(make: Callable[[], CollabLearner], tmp_path: Path):
    learn = make()
    loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    users = list(BUNCH.users)
    for found in (learn.recommend(users, n=40), loaded.recommend(users, n=40)):
        left = {(user, item) for user in users for item in BUNCH.items} - pairs(RATINGS)
        assert pairs(found) == left                         # all the rest, and nothing else
    pd.testing.assert_frame_equal(loaded.rated(7), learn.rated(7))
    assert loaded.data.valid is None and loaded.data.train.n == BUNCH.train.n
    again = load_learner(loaded.export(tmp_path / "again"), device="cpu")
    pd.testing.assert_frame_equal(again.recommend(users, n=40), loaded.recommend(users, n=40))


ROWS = [("ann", "A", 5.0), ("ann", "B", 4.0), ("bob", "B", 3.0), ("bob", "C", 5.0), ("cem", "D", 2.0),
        ("cem", "A", 4.0), ("ann", "C", 2.0), ("dora", "A", 1.0), ("dora", "E", 5.0), ("bob", "E", 1.0)]
"""Of which the last four are held out: dora is nowhere else, and neither is E."""


def bunch(rows: list[tuple] = ROWS, n_train: int = 6, called: Callable[[str], Any] = str,
          **options: Any) -> CollabDataBunch:
    table = pd.DataFrame([(called(u), called(i), r) for u, i, r in rows], columns=["user", "item", "rating"])
    return CollabDataBunch.from_df(table, split=rows_split(range(n_train, len(rows))), seed=0, device="cpu", **options)


def coded(name: str) -> int:
    return sum(map(ord, name))


@pytest.mark.parametrize("called", [str, coded, lambda name: (name, 1), lambda name: uuid.UUID(int=coded(name))],
                         ids=["text", "int", "tuple", "uuid"])
def test_who_and_what_is_only_held_out_is_known_by_its_id(called: Callable[[str], Any], tmp_path: Path):
    data = bunch(called=called)
    learn = collab_learner(data, "dot", n_factors=2)
    dora, a, e = map(called, ("dora", "A", "E"))
    assert dora not in data.users and e not in data.items
    for known in (learn, load_learner(learn.export(tmp_path / "m"), device="cpu")):
        with pytest.warns(UserWarning, match="1 of 1 user ids were not trained on"):
            found = known.recommend(dora, n=9)
        assert {*found["item"]} == {*data.items} - {a}
        with pytest.warns(UserWarning, match="1 of 2 user ids were not trained on"):
            both = known.recommend([called("bob"), dora], n=9)
        assert pairs(both) == {(called("bob"), called(i)) for i in "AD"} | {(dora, called(i)) for i in "BCD"}
        table = known.rated(dora)
        assert table["item"].tolist() == [e, a] and table["rating"].tolist() == [5, 1]
        assert known.rated(called("ann"))["item"].tolist() == [called(i) for i in "ABC"]
        assert known.rated(called("ann"), part="train")["item"].tolist() == [called(i) for i in "AB"]
        with pytest.raises(UnknownId):
            known.rated(dora, part="train")
        with pytest.raises(UnknownId):
            known.rated(called("nobody"))
        with pytest.warns(UserWarning, match="not trained on"):
            assert {*known.recommend(dora, n=9, exclude="train")["item"]} == {*data.items}


def test_whole_users_that_were_held_out_get_nothing_they_rated():
    data = CollabDataBunch.from_df(RATINGS, split=user_split(0.3, seed=0), seed=0, device="cpu")
    users = [user for user in RATINGS["user"].unique() if user not in data.users]
    with pytest.warns(UserWarning, match=f"{len(users)} of {len(users)} user ids were not trained on"):
        table, = collab_learner(data, n_factors=2).recommend_all(n=40, users=users)
    assert len(users) > 10 and pairs(table) == {(u, i) for u in users for i in data.items} - pairs(RATINGS)


def test_the_test_part_is_known_too():
    test = pd.DataFrame([("ann", "D", 3.0), ("eve", "B", 3.0), ("eve", "F", 1.0)], columns=["user", "item", "rating"])
    with pytest.warns(UserWarning, match="2 of 3 test ratings are of a user or an item that was not trained on"):
        learn = collab_learner(bunch(test=test), "dot", n_factors=2)
    assert learn.recommend("ann", n=9).empty and learn.recommend("ann", n=9, exclude="train")["item"].nunique() == 2
    with pytest.warns(UserWarning, match="not trained on"):
        assert {*learn.recommend("eve", n=9)["item"]} == {*"ACD"}


def test_what_is_not_above_the_threshold_is_known_and_not_trained_on(tmp_path: Path):
    rows = [("ann", "A", 5.0), ("ann", "B", 1.0), ("bob", "B", 5.0), ("bob", "C", 4.0), ("cem", "C", 2.0),
            ("cem", "A", 4.0), ("dora", "A", 2.0)]
    test = pd.DataFrame([("cem", "B", 1.0)], columns=["user", "item", "rating"])
    data = CollabDataBunch.from_df(pd.DataFrame(rows, columns=["user", "item", "rating"]), implicit=True, threshold=3,
                                   valid_pct=0, seed=0, device="cpu", test=pd.concat([test, test.assign(rating=4.0)]))
    learn = collab_learner(data, "als", n_factors=2)
    assert data.train.n == 4 and data.test.n == 1
    for known in (learn, load_learner(learn.export(tmp_path / "m"), device="cpu")):
        assert known.recommend("ann", n=9)["item"].tolist() == ["C"] and known.recommend("cem", n=9).empty
        assert known.rated("ann").to_dict("list") == {"item": ["A", "B"], "rating": [5.0, 1.0]}
        assert known.rated("ann", part="train")["item"].tolist() == ["A"]
    more = learn.add_ratings(pd.DataFrame([("fay", "A", 5.0), ("fay", "B", 1.0)], columns=["user", "item", "rating"]))
    assert more.recommend("fay", n=9)["item"].tolist() == ["C"] and {*more.rated("fay")["item"]} == {"A", "B"}
    assert more.recommend("ann", n=9)["item"].tolist() == ["C"]


def test_a_pair_that_comes_again_is_known_once_with_all_its_ratings():
    played = pd.DataFrame({"user": [1, 1, 2, 2, 1, 1], "item": [1, 2, 1, 3, 2, 2], "plays": [1.0, 2, 3, 4, 5, 6],
                           "time": range(6)})
    data = CollabDataBunch.from_df(played, implicit=True, rating_name="plays", split=time_split(0.34), device="cpu")
    learn = collab_learner(data, "als", n_factors=2)
    assert learn.rated(1).to_dict("list") == {"item": [2, 1], "rating": [13.0, 1.0]}
    assert learn.rated(1, part="train").to_dict("list") == {"item": [2, 1], "rating": [2.0, 1.0]}
    assert learn.recommend(1)["item"].tolist() == [3]


def test_people_who_are_added_take_along_what_was_held_out():
    learn = collab_learner(bunch(), "dot_bias", n_factors=2)
    new = pd.DataFrame([("dora", "B", 4.0), ("aaron", "C", 5.0)], columns=["user", "item", "rating"])
    more = learn.add_ratings(new)
    assert {*more.recommend("dora", n=9)["item"]} == {"C", "D"}             # A was held out, B is new
    assert more.recommend("ann", n=9)["item"].tolist() == ["D"]
    assert more.rated("dora")["item"].tolist() == ["E", "B", "A"]
    users, items, _ = more.data.valid.tensors
    assert more.data.users.decode(users.numpy()).tolist() == ["ann", "dora", "dora", "bob"]
    assert [*more.data.items.decode(items.numpy())] == ["C", "A", None, None]
    assert learn.data.valid.tensors[0].tolist() == [1, 0, 0, 2]             # and the old one is what it was


def test_of_somebody_new_what_is_in_the_ratings_is_left_out():
    learn = quick(BUNCH, "dot_bias")
    for exclude in ("known", "train"):
        assert {*learn.recommend(ratings={3: 5.0, 8: 1.0}, n=99, exclude=exclude)["item"]} == {*BUNCH.items} - {3, 8}
    assert {*learn.recommend(ratings={3: 5.0, 8: 1.0}, n=99, exclude=None)["item"]} == {*BUNCH.items}


def test_data_that_are_made_of_batches_know_what_these_hold():
    def part(*rows: tuple[int, int, float]) -> TensorBatches:
        users, items, ratings = zip(*rows)
        return TensorBatches(torch.tensor(users), torch.tensor(items), torch.tensor(ratings))
    made = CollabDataBunch(part((1, 1, 4.0), (2, 2, 3.0)), part((1, 2, 5.0), (0, 1, 1.0)), part((2, 0, 2.0)),
                           bunch().users, bunch().items, device="cpu")
    assert made.known.starts.tolist() == [0, 0, 2, 3, 3] and made.known[1][0].tolist() == [1, 2]
    with pytest.warns(UserWarning, match="not trained on"):
        assert len(collab_learner(made, "dot", n_factors=2).recommend("who", n=9)) == 4


@pytest.mark.parametrize("exclude", [True, False, "seen", "valid", 0])
def test_what_names_no_ratings_to_leave_out_is_refused(exclude: Any):
    learn = collab_learner(BUNCH, "dot", n_factors=2)
    for ask in (learn.recommend, learn.recommend_all):
        with pytest.raises(ValueError, match=f"exclude={exclude!r} must be 'known' .*, 'train' .* or None"):
            ask(7, exclude=exclude)
    with pytest.raises(ValueError, match="part='valid' is neither 'known' nor 'train'"):
        learn.rated(7, part="valid")


# Evaluating is not recommending ------------------------------------------------------------------------------------

class Table(torch.nn.Module):
    """Of all items, higher rows have higher scores."""

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return items.float()


def test_what_was_held_out_is_still_what_is_to_be_found():
    rows = [("ann", "A", 3.0), ("ann", "B", 3.0), ("bob", "C", 3.0), ("bob", "D", 3.0), ("ann", "C", 5.0),
            ("bob", "A", 5.0)]
    learn = CollabLearner(bunch(rows, 4), Table())
    result = evaluate(learn, k=1, metrics=("recall", "precision"))      # ann: D before C; bob: B before A
    assert result.summary.tolist() == [0, 0] and evaluate(learn, k=2).summary["recall"] == 1
    assert evaluate(learn, k=2, exclude=None).summary["recall"] == 0.5  # ann: D and C; bob: D and C
    assert learn.recommend("ann")["item"].tolist() == ["D"]
    for exclude in ("known", True):
        with pytest.raises(ValueError, match=f"exclude={exclude!r}: {exclude!r} is not a part of the data"):
            evaluate(learn, exclude=exclude)
    with pytest.raises(ValueError, match="exclude='valid': what was held out is to be found"):
        evaluate(learn, exclude="valid")


def test_metrics_are_those_of_lists_without_the_training_rows_alone():
    learn = quick(BUNCH, "als")
    found = learn.recommend(list(BUNCH.users), n=5, exclude="train")
    users, items, _ = (t.numpy() for t in BUNCH.valid.tensors)
    held_out = set(zip(BUNCH.users.decode(users).tolist(), BUNCH.items.decode(items).tolist()))
    hits = pd.Series([pair in held_out for pair in zip(found["user"], found["item"])]).groupby(found["user"]).sum()
    asked = {user for user, _ in held_out}
    expected = np.mean([hits[user] / 5 for user in sorted(asked)])
    assert evaluate(learn, k=5, metrics="precision").summary["precision"] == pytest.approx(expected) and expected > 0.05

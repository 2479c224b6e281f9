"""Recommendations for many users at a time: the same as for each, in files that are whole or not there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collab import CollabDataBunch, CollabLearner, DataError, UnknownId, collab_learner, synthetic
from collab.data.histories import Histories
from collab.learner import batch_output
from collab.retrieval.topk import top_k


def fitted(n_users: int = 60) -> CollabLearner:
    ml = synthetic(n_users, 40, n_users * 15, seed=1)
    learn = collab_learner(CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0, device="cpu"), n_factors=4)
    with learn.no_logging():
        learn.fit_one_cycle(2)
    return learn


@pytest.fixture(scope="module")
def learn() -> CollabLearner:
    return fitted()


# Top-k over many columns -------------------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3000), st.integers(1, 40), st.sampled_from([2, 50, 10**6]), st.booleans(),
       st.integers(0, 2**31))
def test_top_k_of_many_columns_is_a_sort(m: int, n: int, k: int, levels: int, seen: bool, seed: int):
    draw = np.random.default_rng(seed)
    table = draw.integers(0, levels, (m, n)).astype(np.float32)         # with few levels nearly all are ties
    out = draw.random((m, n)) < (0.3 if seen else 0.0)
    users, items = map(torch.from_numpy, np.nonzero(out))
    rows, scores = top_k(lambda u, i: torch.from_numpy(table)[u][:, i], torch.arange(m), torch.arange(n), k,
                         Histories.of(users, items, torch.ones(len(users)), m))
    left = np.where(out, -np.inf, table)
    expected = np.argsort(-left, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(left, expected, 1)
    expected = np.pad(np.where(best == -np.inf, -1, expected), ((0, 0), (0, k - expected.shape[1])), constant_values=-1)
    assert np.array_equal(rows, expected)
    assert np.array_equal(scores[:, :best.shape[1]], best)


def test_a_score_that_is_no_number_is_found_among_many():
    scores = torch.zeros(2, 5000)
    scores[1, 4321] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        top_k(lambda u, i: scores[u][:, i], torch.arange(2), torch.arange(5000), 5)


# One user and all of them -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{}, {"why": True}, {"exclude": None}, {"among": [3, 4, 5, 30], "without": [4]},
                                     {"without": [1, 2, 99]}])
def test_all_of_them_get_what_each_gets_whatever_the_blocks(learn: CollabLearner, monkeypatch, options: dict[str, Any]):
    monkeypatch.setattr(batch_output, "MAX_ROWS", 70)
    tables = list(learn.recommend_all(n=5, **options))
    assert len(tables) > 2 and max(map(len, tables)) <= 70
    whole = pd.concat(tables, ignore_index=True)
    each = pd.concat([learn.recommend(user, n=5, **options).assign(user=user) for user in learn.data.users])
    assert whole["item"].tolist() == each["item"].tolist() and whole["user"].tolist() == each["user"].tolist()
    np.testing.assert_allclose(whole["score"], each["score"], rtol=1e-5)
    if "why" in options:
        assert whole["why"].tolist() == each["why"].tolist() and whole["why"].notna().any()


def test_some_users_come_in_the_order_they_were_asked_for(learn: CollabLearner):
    table, = learn.recommend_all(n=2, users=[9, 7, 9])
    assert table["user"].tolist() == [9, 9, 7, 7, 9, 9]
    pd.testing.assert_frame_equal(table, learn.recommend([9, 7, 9], n=2))


def named(ids: Any) -> CollabLearner:
    """A learner whose 12 users and 6 items are called ids(k)."""
    frame = pd.DataFrame({"user": [k % 12 for k in range(48)], "item": [k % 6 for k in range(48)], "rating": 4.0})
    called = frame.assign(**{side: [ids(k) for k in frame[side]] for side in ("user", "item")}, rating=[3.0, 4] * 24)
    data = CollabDataBunch.from_df(called, duplicates="mean", valid_pct=0.0, seed=0, device="cpu")
    return collab_learner(data, n_factors=2)


@pytest.mark.filterwarnings("ignore:.*rate a pair again")
@pytest.mark.parametrize("ids", [lambda k: f"i{k}", lambda k: k, lambda k: (k, k + 1)], ids=["text", "int", "tuple"])
def test_a_single_id_stands_for_a_list_of_one(ids: Any):
    learn, one = named(ids), ids(3)
    for several, single in (([one], one), ([ids(9)], ids(9))):
        table, = learn.recommend_all(n=2, users=single)
        pd.testing.assert_frame_equal(table, next(learn.recommend_all(n=2, users=several)))
    seen = {"exclude": None}
    assert learn.recommend(one, among=one, **seen)["item"].tolist() == [one]
    assert learn.recommend(one, without=one, n=9, **seen)["item"].tolist() == \
        learn.recommend(one, without=[one], n=9, **seen)["item"].tolist()
    index = learn.index()
    assert one not in index.recommend(one, 9, exclude=one)["item"].tolist() and len(index.recommend(one, 9)) == 6
    assert len(index.search(index.users[1], 9, exclude=[one])) == 5
    both = {ids(1), ids(2)}
    for some in (both, tuple(both), iter(both), dict.fromkeys(both)):
        assert {*learn.recommend(one, among=some, **seen)["item"]} == both


def test_what_may_not_be_recommended_is_not(learn: CollabLearner):
    best = learn.recommend(7, n=3)["item"].tolist()
    assert learn.recommend(7, n=1, without=best[:2])["item"].tolist() == best[2:]
    assert learn.recommend(7, n=9, among=best, without=best).empty
    assert learn.recommend(7, n=3, without=[12345])["item"].tolist() == best        # there is nothing to leave out
    with pytest.raises(DataError, match="different ids"):
        learn.recommend(7, without=["3"])
    with pytest.raises(UnknownId):
        learn.recommend(7, among=[12345])


@pytest.mark.parametrize("n", [0, -3, 2.5, True, "3", None])
def test_a_number_of_recommendations_is_a_whole_one(learn: CollabLearner, n: Any):
    says = re.escape(f"the number of recommendations must be a whole number, at least 1, got {n!r}")
    index = learn.index()
    for ask in (lambda: learn.recommend(7, n=n), lambda: learn.recommend(ratings={1: 5}, n=n),
                lambda: learn.recommend_all(n=n), lambda: learn.similar_items(3, n=n), lambda: learn.recommend([], n=n),
                lambda: index.recommend(7, n), lambda: index.search(index.users, n)):
        with pytest.raises(ValueError, match=says):
            ask()
    assert len(learn.recommend(7, n=np.int64(3))) == 3


def test_wrong_arguments_are_refused_before_the_first_table(learn: CollabLearner, tmp_path: Path):
    with pytest.raises(UnknownId):
        learn.recommend_all(among=[12345])
    with pytest.raises(DataError, match=r"written as \.parquet or \.csv"):
        learn.recommend_all(path=tmp_path / "recs.xlsx")


# Files ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_file_holds_what_the_tables_hold(learn: CollabLearner, monkeypatch, tmp_path: Path, ending: str):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(batch_output, "MAX_ROWS", 70)
    path = learn.recommend_all(n=5, path=tmp_path / "new" / f"recs.{ending}")
    written = (pd.read_parquet if ending == "parquet" else pd.read_csv)(path)
    expected = pd.concat(learn.recommend_all(n=5), ignore_index=True)
    pd.testing.assert_frame_equal(expected, written, check_exact=ending == "parquet", check_dtype=ending == "parquet")
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    empty = learn.recommend_all(users=[], path=tmp_path / f"none.{ending}")
    assert [*(pd.read_parquet if ending == "parquet" else pd.read_csv)(empty)] == [*expected]


@pytest.mark.parametrize("style", [{"sep": ";", "decimal": ",", "encoding": "utf-8-sig"}, {"sep": "\t"},
                                   {"encoding": "utf-16"}])
def test_a_csv_is_written_as_a_spreadsheet_reads_it(learn: CollabLearner, monkeypatch, tmp_path: Path, style):
    monkeypatch.setattr(batch_output, "MAX_ROWS", 70)           # in several pieces, of which the first alone has a mark
    path = learn.recommend_all(n=5, path=tmp_path / "recs.csv", **style)
    expected = pd.concat(learn.recommend_all(n=5), ignore_index=True)
    pd.testing.assert_frame_equal(expected, pd.read_csv(path, **style), check_exact=False, check_dtype=False)
    text = path.read_bytes().decode(style.get("encoding", "utf-8"))
    sep = style.get("sep", ",")
    first = f"{expected['score'][0]:.4f}"[:5].replace(".", style.get("decimal", "."))
    assert text.startswith(f"user{sep}rank{sep}item{sep}") and "\ufeff" not in text
    assert text.splitlines()[1].rpartition(sep)[2].startswith(first)


@pytest.mark.parametrize(("name", "style", "says"), [
    ("a.csv", {"sep": ";;"}, "sep=';;' is not one character"), ("a.csv", {"sep": "\n"}, "is not one character"),
    ("a.csv", {"decimal": ","}, "decimal=',' stands between the columns too; give another separator, such as sep="),
    ("a.csv", {"decimal": "x"}, "decimal='x' is neither"), ("a.csv", {"encoding": "utf-9"}, "encoding='utf-9'"),
    ("a.parquet", {"sep": ";"}, "sep=';' says how a .csv is written, and .*a.parquet is not one"),
    (None, {"decimal": ",", "sep": ";"}, "sep=';' says how a .csv is written, which only path= writes")])
def test_a_style_that_no_csv_has_is_refused_before_anything_is_written(learn, tmp_path, name, style, says):
    with pytest.raises(DataError, match=says):
        learn.recommend_all(n=2, path=name and tmp_path / name, **style)
    assert not [*tmp_path.iterdir()]


@pytest.mark.filterwarnings("ignore:.*rate a pair again")
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_reasons_are_text_in_a_file_also_where_the_first_users_have_none(monkeypatch, tmp_path: Path, ending: str):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    learn = named(lambda k: k)
    reasons = iter([0, 1, 2])
    monkeypatch.setattr("collab.learner.recommendations.reasons",
                        lambda _, found, __: torch.full_like(found, next(reasons) if len(found) else 0))
    monkeypatch.setattr(batch_output, "MAX_ROWS", 12)
    path = learn.recommend_all(2, exclude=None, path=tmp_path / f"recs.{ending}", why=True)
    read = pd.read_parquet(path) if ending == "parquet" else pd.read_csv(path, dtype={"why": str})
    assert read["why"].isna().tolist() == [True] * 12 + [False] * 12 and read["why"].tolist()[12:] == ["0"] * 12


@pytest.mark.filterwarnings("ignore:.*rate a pair again")
@pytest.mark.parametrize("ids", [lambda k: (k, k + 1), lambda k: k + 2**70], ids=["tuple", "long"])
def test_ids_that_parquet_would_change_are_refused(monkeypatch, tmp_path: Path, ids: Any):
    pytest.importorskip("pyarrow")
    learn = named(ids)
    with pytest.raises(DataError, match=r"recs\.parquet: these ids cannot be written as Parquet .*; write a \.csv"):
        learn.recommend_all(n=2, path=tmp_path / "recs.parquet")
    assert not [*tmp_path.iterdir()]
    assert len(pd.read_csv(learn.recommend_all(n=2, path=tmp_path / "recs.csv"))) == 24


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_an_interrupted_write_leaves_the_old_file(learn: CollabLearner, monkeypatch, tmp_path: Path, ending: str):
    path = tmp_path / f"recs.{ending}"
    path.write_text("old")
    calls, recommended = [], batch_output.ranked_rows

    def cut_off(self: Any, rows: torch.Tensor, *args: Any, **options: Any) -> pd.DataFrame:
        calls.append(len(rows))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return recommended(self, rows, *args, **options)
    monkeypatch.setattr(batch_output, "MAX_ROWS", 70)
    monkeypatch.setattr(batch_output, "ranked_rows", cut_off)
    with pytest.raises(KeyboardInterrupt):
        learn.recommend_all(n=5, path=path)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_bar_is_drawn_where_somebody_watches(learn: CollabLearner, monkeypatch, tmp_path: Path, capsys):
    monkeypatch.setattr(batch_output, "MAX_ROWS", 70)
    learn.recommend_all(n=2, path=tmp_path / "a.csv")
    assert not capsys.readouterr().out
    monkeypatch.setattr(batch_output, "bars_wanted", lambda: True)
    learn.recommend_all(n=2, path=tmp_path / "b.csv")
    assert "%" in capsys.readouterr().out
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_unknown_users_among_all_are_the_average_one_or_refused(learn: CollabLearner):
    with pytest.warns(UserWarning, match=r"1 of 2 user ids were not trained on \(such as 999\)"):
        table, = learn.recommend_all(2, [7, 999])
    assert {*table["user"]} == {7, 999}
    with pytest.raises(UnknownId, match="user 999 is not among"):
        learn.recommend_all(2, [7, 999], unknown="error")
    with pytest.raises(UnknownId, match="item 12345 is not among"):
        learn.recommend_all(2, among=[3, 12345], unknown="error")
    with pytest.raises(ValueError, match="neither 'average' nor 'error'"):
        learn.recommend_all(2, unknown="drop")


def test_asking_for_nobody_says_what_to_give(learn: CollabLearner):
    for ask in (lambda: learn.recommend(), lambda: learn.predict(), lambda: learn.predict(item=3)):
        with pytest.raises(DataError, match="give a user, or the ratings= of a new one"):
            ask()
    for ask in (lambda: learn.predict(7), lambda: learn.predict(ratings={1: 4.0})):
        with pytest.raises(DataError, match="give an item"):
            ask()

"""The benchmark suite's own logic: which ratios fell, what the record keeps, the page, NDCG. Nothing is measured."""

import dataclasses
import json

import pandas as pd
import pytest

from benchmarks.suite import contest, page, rankers
from benchmarks.suite.children import Failed
from benchmarks.suite.record import Record
from benchmarks.suite.row import Row, fallen
from benchmarks.suite.sets import Sets
from collab import CollabDataBunch, collab_learner, evaluate, synthetic


def row(ours=(2.0,), peer=(6.0,), **other):
    return Row("training", "epoch", "ML-100K", "CPU s", ours, "fastai" if peer else "", peer, **other)


def test_the_ratio_is_the_peers_median_over_ours():
    assert row(ours=(1.0, 2.0, 9.0), peer=(8.0, 5.0, 6.0)).ratio == 3.0
    assert row(peer=()).ratio is None


@pytest.mark.parametrize(("now", "fell"), [(6.0, False), (4.01, False), (4.0, True), (0.1, True), (60.0, False)])
def test_a_ratio_that_lost_a_third_is_reported(now, fell):
    found = fallen([row(peer=(6.0,))], [row(peer=(now,))])
    assert [(then, after) for _, then, after in found] == ([(3.0, now / 2)] if fell else [])


def test_rows_of_one_side_alone_and_rows_without_a_peer_are_not_compared():
    other = dataclasses.replace(row(peer=(0.1,)), size="1 million")
    assert fallen([row()], [other]) == [] == fallen([row(peer=())], [row(peer=())]) == fallen([], [row()])


def test_a_row_survives_its_file(tmp_path):
    rows = [row(ours=(1.23456, 2.0), error="RMSE", our_error=0.9, note="5 epochs"),
            dataclasses.replace(row(peer=()), size="")]
    made = Record({"cores": "1"}, {"torch": "2"}, 0, rows)
    back = Record.load(made.save(tmp_path / "new" / "record.json"))
    assert back.rows == [dataclasses.replace(rows[0], ours=(1.235, 2.0)), rows[1]]
    assert (back.machine, back.versions, back.seed) == (made.machine, made.versions, 0)
    plain = json.loads((tmp_path / "new" / "record.json").read_text())["rows"][0]
    assert (plain["ours"], plain["peer"], plain["ratio"]) == (1.617, 6.0, 3.71)
    assert Record.load(tmp_path / "none.json") is None


def test_a_part_of_a_run_replaces_its_rows_on_the_same_machine_alone():
    older = Record({"cores": "1"}, {"torch": "2"}, 0, [row(), dataclasses.replace(row(), size="1 million")])
    part = Record({"cores": "1"}, {"torch": "2"}, 0, [row(peer=(9.0,)), dataclasses.replace(row(), size="5 million")])
    merged = part.over(older).rows
    assert [(one.size, one.peer) for one in merged] == [("ML-100K", (9.0,)), ("1 million", (6.0,)),
                                                        ("5 million", (6.0,))]
    with pytest.raises(ValueError, match="another versions"):
        dataclasses.replace(part, versions={"torch": "3"}).over(older)


def test_the_page_has_a_table_for_each_subject_and_no_empty_column():
    now = {"commit": "abc", "date": "2030-01-02"}
    rows = [row(ours=(1.0, 0.02, 3.0), peer=(2.5, 2.5), error="RMSE", our_error=0.91234, **now),
            row(ours=(1234.5,), peer=(), **now)]
    made = page.page(Record({"cores": "1"}, {"torch": "2"}, 0, rows),
                     {"training": "On ratings.\n\nNine tenths.", "serving": "Nothing was measured.\n"})
    assert "## On ratings\n\nNine tenths.\n\n| size |" in made and "Nothing was measured" not in made
    table = [line.strip("| ").split(" | ") for line in made.splitlines() if line.startswith(("| size", "| ML"))]
    assert table == [
        ["size", "what", "unit", "collab", "beside", "theirs", "ratio", "error", "collab's", "runs"],
        ["ML-100K", "epoch", "CPU s", "1.00", "fastai", "2.50", "2.50", "RMSE", "0.9123", "3, 2"],
        ["ML-100K", "epoch", "CPU s", "1,230", "", "", "", "", "", "1"]]
    assert "| cores | 1 |" in made and "| commit, date | abc, 2030-01-02 |" in made


@pytest.mark.parametrize(("value", "text"), [(0.012345, "0.0123"), (0.5, "0.500"), (12.34, "12.3"), (99.96, "100"),
                                             (1234567.0, "1,230,000"), (0.0, "0")])
def test_figures_have_three_digits(value, text):
    assert page.figure(value) == text


def test_sides_take_turns_and_a_peer_that_fails_is_named(tmp_path):
    called = []

    def side(name, figure):
        def run():
            called.append(name)
            if figure is None:
                raise Failed("no such library")
            return contest.Run(figure, 0.5, f"{name}'s")
        return run
    choices = contest.Choices(Sets(tmp_path), ("100k",), (50,), rounds=2, limit=60)
    rows = contest.contest("training", "epoch", "100k", "s", side("ours", 1.0),
                           {"one": side("one", 4.0), "two": side("two", None)}, choices, "RMSE")
    first, second = rows
    assert called == ["ours", "one", "two"] * 2
    assert (first.size, first.ratio, first.our_error, first.note) == ("ML-100K", 4.0, 0.5, "collab: ours's; one: one's")
    assert (second.ours, second.peer, second.ratio) == ((1.0, 1.0), (), None)
    assert choices.failures == ["training, epoch, ML-100K: no such library"] * 2


def test_ndcg_of_lists_by_hand():
    lists = pd.DataFrame({"user": [1, 1, 2, 2], "item": [7, 8, 7, 9], "rank": [1, 2, 1, 2]})
    relevant = pd.DataFrame({"user": [1, 2, 2, 3], "item": [8, 7, 9, 7]})
    # user 1 finds the only one at rank 2: 1 / log2(3); user 2 both; user 3 has no list
    assert rankers.ndcg(lists, relevant) == pytest.approx((0.6309297535714574 + 1 + 0) / 3)


def test_ndcg_of_lists_is_that_of_evaluate():
    ratings = synthetic(60, 40, 900, seed=0).ratings[["user", "item"]]
    train, test = ratings.iloc[:700], ratings.iloc[700:]
    data = CollabDataBunch.from_df(train, implicit=True, valid_pct=0, seed=0, device="cpu")
    learn = collab_learner(data, "als", n_factors=4, seed=0)
    with learn.no_logging():
        learn.fit()
    asked = rankers.to_find(train, test)
    assert rankers.judged(learn, asked) == pytest.approx(float(evaluate(learn, asked).summary["ndcg"]))

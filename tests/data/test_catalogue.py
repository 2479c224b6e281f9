"""One rule for ids and titles wherever an item is named, and for what is unknown or blank in what people give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from collab import (
    CollabDataBunch,
    CollabInterpretation,
    CollabLearner,
    CollabWarning,
    DataError,
    UnknownId,
    Vocab,
    collab_learner,
    synthetic,
)
from collab.data.catalogue import Catalogue
from collab.data.new_user import rated_file

A, B = "Film A (1990)", "Film B, The (2001)"        # the titles of items 3 and 8


def films() -> pd.DataFrame:
    titles = [f"Number {k}" for k in range(1, 41)]
    titles[2], titles[7], titles[10], titles[11] = A, B, "Twice", "Twice"
    return pd.DataFrame({"item": range(1, 41), "title": titles})


def fitted(name: str = "dot_bias", kind: type = int, **options: Any) -> CollabLearner:
    ml = synthetic(60, 40, 900, seed=1)
    ratings, items = (t.astype({"item": kind}) for t in (ml.ratings, films()))
    data = CollabDataBunch.from_df(ratings, items=items, seed=0, device="cpu", **options)
    learn = collab_learner(data, name, n_factors=4)
    with learn.no_logging():
        learn.fit() if name == "ease" else learn.fit_one_cycle(1)
    return learn


@pytest.fixture(scope="module")
def learn() -> CollabLearner:
    return fitted()


def asked(ask: Callable[[], Any], warns: str) -> Any:
    """What it gives, with exactly one warning, at the line of the caller."""
    with pytest.warns(CollabWarning, match=warns) as said:
        found = ask()
    assert len(said) == 1 and said[0].filename == __file__
    return found


def same(one: Any, other: Any) -> None:
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    else:
        np.testing.assert_array_equal(one, other)


# The rule ---------------------------------------------------------------------------------------------------------

def catalogue(titles: dict[Any, str]) -> Catalogue:
    return Catalogue(Vocab(titles, "item"), [titles[id] for id in sorted(titles)])


def test_an_item_is_meant_by_its_id_or_else_by_its_whole_title_in_upper_or_lower_case():
    items = catalogue({10: "Alien", 20: "Up", 30: "", 40: "Straße"})
    assert items.encode([20, "up", "ALIEN", 99, "STRASSE", 30]).tolist() == [2, 2, 1, 0, 4, 3]
    assert items["Up"] == 2 and items[40] == 4
    assert items.encode(np.array(["up", "Alien"])).tolist() == [2, 1]
    assert items.encode(pd.Series([10, 5], dtype="Int64")).tolist() == [1, 0] and items.encode([]).tolist() == []


def test_text_that_is_both_an_id_and_a_title_means_the_id():
    items = catalogue({"a": "b", "b": "c", "c": "a", "d": "B"})
    assert items.encode(["a", "b", "c", "d"]).tolist() == [1, 2, 3, 4]
    assert catalogue({"a": "x", "b": "y"}).encode(["X", "z"]).tolist() == [1, 0]


def test_ids_of_any_kind_stand_beside_titles():
    items = catalogue({(1, "a"): "One", (2, "b"): "Two"})
    assert items.encode([(2, "b"), "One", (3, "c")]).tolist() == [2, 1, 0]
    times = pd.date_range("2020", periods=2)
    assert catalogue(dict(zip(times, ["One", "Two"]))).encode([times[1], "One"]).tolist() == [2, 1]


def test_a_title_of_several_items_is_refused_with_their_ids_unless_upper_and_lower_case_tell_them_apart():
    items = catalogue({1: "Up", 2: "Twice", 3: "TWICE", 4: "Twice", 5: "UP"})
    with pytest.raises(DataError, match="3 items have the title 'twice': 2, 3, 4; say by its id which is meant"):
        items.encode(["twice"])
    with pytest.raises(DataError, match="2 items have the title 'Twice': 2, 4"):
        items.encode(["Twice"])
    assert items.encode(["TWICE", "Up", "UP"]).tolist() == [3, 1, 5]


def test_text_that_is_no_title_is_refused_with_near_titles_and_5_is_not_text():
    items = catalogue({5: "Matrix, The (1999)", 6: "Alien", 7: "7 (1995)"})
    for text in ("The Matrx", "matrix"):                # misspelt, and a part of one
        with pytest.raises(UnknownId, match=r"'Matrix, The \(1999\)'"):
            items.encode([text])
    for text in ("5", "7"):
        with pytest.raises(DataError, match="5 and '5' are different ids"):
            items.encode([6, text])
    with pytest.raises(UnknownId, match="item '8' is not among the 3 items"):
        items.encode(["8"])
    with pytest.raises(UnknownId, match="item '' is not among the 3 items"):
        Catalogue(Vocab([1, 2, 3], "item"), ["", "", "a"]).encode([""])
    with pytest.raises(UnknownId, match="near it are 'aliens', 'Alien'"):
        _ = catalogue({"aliens": "", "b": "Alien"})["alienss"]      # near ids, and near titles


PLACES: dict[str, Callable[[CollabLearner, Any, Any], Any]] = {      # a, b: two items, however they are named
    "predict": lambda learn, a, b: learn.predict(1, a),
    "predict for a list": lambda learn, a, b: learn.predict(1, [a, 5, b]),
    "predict for somebody new": lambda learn, a, b: learn.predict(ratings={a: 5.0, 4: 1.0}, item=[b, 5]),
    "among": lambda learn, a, b: learn.recommend(1, exclude=None, among=[a, 5, b]),
    "among a single one": lambda learn, a, b: learn.recommend(1, exclude=None, among=a),
    "without": lambda learn, a, b: learn.recommend(1, n=99, exclude=None, without=[a, b]),
    "recommend_all": lambda learn, a, b: pd.concat(learn.recommend_all(n=99, among=[a, b, 5, 6], without=a)),
    "ratings": lambda learn, a, b: learn.recommend(ratings={a: 5.0, 4: 3, b: 1.0}),
    "a Series of ratings": lambda learn, a, b: learn.recommend(ratings=pd.Series({a: 5.0, b: 1.0})),
    "a table of ratings": lambda learn, a, b: learn.recommend(ratings=pd.DataFrame({"item": [a, b], "rating": [5, 1]})),
    "similar_items": lambda learn, a, b: learn.similar_items(a),
    "bias": lambda learn, a, b: learn.bias([a, b]).numpy(), "bias of one": lambda learn, a, b: learn.bias(a).numpy(),
    "weight": lambda learn, a, b: learn.weight([a, 7, b]).numpy(),
    "neighbors": lambda learn, a, b: CollabInterpretation(learn).neighbors(a),
    "explain": lambda learn, a, b: str(CollabInterpretation(learn).explain(1, a)),
    "add_ratings": lambda learn, a, b: learn.add_ratings(pd.DataFrame(
        {"user": 999, "item": [a, b], "rating": [5, 1]})).recommend(999),
    "search": lambda learn, a, b: learn.index().search(learn.index().users[1], 99, exclude=[[a, b]]),
    "an index": lambda learn, a, b: learn.index().recommend(1, 99, exclude=a),
    "an index for several": lambda learn, a, b: learn.index().recommend([1, 2], 99, exclude={1: [a], 2: [b, 5]}),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_titles_are_taken_wherever_ids_are(learn: CollabLearner, place: Callable[..., Any]):
    found = place(learn, 3, 8)
    same(place(learn, A, 8), found)
    same(place(learn, A.upper(), B.lower()), found)


NAMED_ALONE = {name: place for name, place in PLACES.items() if name in (
    "predict", "predict for a list", "among a single one", "similar_items", "bias", "weight", "neighbors", "explain")}


@pytest.mark.parametrize("place", NAMED_ALONE.values(), ids=NAMED_ALONE.keys())
def test_a_part_of_a_title_is_an_error_that_names_the_title(learn: CollabLearner, place: Callable[..., Any]):
    with pytest.raises(UnknownId, match=r"'Film A' is not among the 40 items .* near it are 'Film A \(1990\)'"):
        place(learn, "Film A", 8)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_title_of_two_items_and_an_id_of_another_kind_are_refused_everywhere(learn: CollabLearner,
                                                                              place: Callable[..., Any]):
    with pytest.raises(DataError, match="2 items have the title 'Twice': 11, 12"):
        place(learn, "Twice", 8)
    with pytest.raises(DataError, match="are different ids"):
        place(learn, "3", 8)


def test_probabilities_name_what_was_asked_for_by_its_id():
    learn = fitted("classifier")
    expected = learn.probabilities(1, [3, 8, 5])
    pd.testing.assert_frame_equal(learn.probabilities(1, [A, B, 5]), expected)
    assert expected["item"].tolist() == [3, 8, 5] and expected["item"].dtype == np.int64
    assert learn.probabilities([1, 2], A)["item"].tolist() == [3, 3]
    with pytest.warns(CollabWarning, match="1 of 2 item ids"):
        assert learn.probabilities(1, [999, A])["item"].tolist() == [999, 3]


def test_where_ids_are_text_an_unknown_one_is_the_average_and_a_title_is_still_found():
    learn = fitted(kind=str)
    assert learn.predict(1, A) == learn.predict(1, "3")
    average = asked(lambda: learn.predict(1, "no film"), r"1 of 1 item ids were not trained on \(such as 'no film'\)")
    assert average == pytest.approx(asked(lambda: learn.predict(1, ["x", "y"]), "2 of 2 item ids")[0])


# What is unknown in a list ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("among", [[3, 999, 5, 1000], pd.Series([999, 3, 1000, 5]), (3, 999, 5, 1000),
                                   [A, 999, 5, "Film C"]])
def test_items_of_a_catalogue_that_were_not_trained_on_are_left_out_and_counted(learn: CollabLearner,
                                                                                among: Iterable[Any]):
    expected = learn.recommend([1, 2], exclude=None, among=[3, 5])
    says = r"^2 of 4 items in among= were not trained on \(such as 999\) and are left out; correct them, or train"
    pd.testing.assert_frame_equal(asked(lambda: learn.recommend([1, 2], exclude=None, among=among), says),
                                  expected)
    rated = {20: 4.0}
    pd.testing.assert_frame_equal(asked(lambda: learn.recommend(ratings=rated, among=among), says),
                                  learn.recommend(ratings=rated, among=[3, 5]))
    with pytest.raises(UnknownId, match="item 999 is not among the 40 items that were trained on$"):
        learn.recommend(1, among=among, unknown="error")


def test_recommend_all_leaves_unknown_items_of_a_catalogue_out_too(learn: CollabLearner):
    tables = asked(lambda: learn.recommend_all(among=[3, 5, 999], exclude=None), "1 of 3 items in among=")
    assert {*pd.concat(tables)["item"]} == {3, 5}


def test_a_misspelt_title_among_others_is_named_with_what_is_near(learn: CollabLearner):
    says = r"1 of 2 items in among= .*\(such as 'Fim A'\) .*near it are 'Film A \(1990\)'"
    assert asked(lambda: learn.recommend(1, exclude=None, among=["Fim A", 5]), says)["item"].tolist() == [5]


def test_a_catalogue_without_any_known_item_is_an_error(learn: CollabLearner):
    with pytest.raises(UnknownId, match="none of the 2 items in among= is known: item 999 is not among the 40 items"):
        learn.recommend(1, among=[999, 1000])
    with pytest.raises(UnknownId, match="^item 999 is not among the 40 items"):
        learn.recommend_all(among=999)
    assert learn.recommend(1, among=[]).empty


def test_an_unknown_id_is_not_recommended_anyway_and_a_misspelt_title_that_may_not_be_is_said(learn: CollabLearner):
    every = learn.recommend(1, n=99)
    pd.testing.assert_frame_equal(learn.recommend(1, n=99, without=[999, 1000]), every)
    says = r"2 of 3 items that are not to be recommended \(such as 'Fim A'\) are neither .* and leave out nothing"
    pd.testing.assert_frame_equal(asked(lambda: learn.recommend(1, n=99, without=["Fim A", 999, "Fim B"]), says), every)
    index = learn.index()
    asked(lambda: index.search(index.users[:2], exclude=[["Fim A"], ["Fim B", 3]]), says)      # one for all queries
    asked(lambda: index.recommend(1, exclude=["Fim A", 999, "x"]), says)


# What one person rated --------------------------------------------------------------------------------------------

BLANKS = [None, np.nan, pd.NA, "", "  "]


@pytest.mark.parametrize("blank", BLANKS, ids=map(repr, BLANKS))
def test_a_sheet_of_all_titles_counts_where_a_rating_stands(learn: CollabLearner, blank: Any):
    expected, score = learn.recommend(ratings={3: 5.0, 8: 2.0}), learn.predict(ratings={3: 5.0, 8: 2.0}, item=5)
    sheet: dict[Any, Any] = {**dict.fromkeys(films()["title"], blank), A: 5, B: 2}
    table = pd.DataFrame({"item": sheet.keys(), "rating": pd.Series(sheet.values(), dtype=object)})
    for given in (sheet, pd.Series(sheet, dtype=object), table, table.rename(columns={"item": "title"}),
                  table.assign(user=7)):
        pd.testing.assert_frame_equal(learn.recommend(ratings=given), expected)
        assert learn.predict(ratings=given, item=5) == score
    with pytest.raises(DataError, match="no ratings to fold in"):
        learn.recommend(ratings={A: blank})


def test_unknown_items_among_ratings_are_left_out_and_counted_or_refused(learn: CollabLearner):
    expected, score = learn.recommend(ratings={3: 5.0, 8: 2.0}), learn.predict(ratings={3: 5.0, 8: 2.0}, item=5)
    given = {3: 5.0, 999: 1.0, B: 2.0, "Film C": 4.0, 1000: None}
    says = r"2 of 4 items that are rated were not trained on \(such as 999\) and are left out"
    pd.testing.assert_frame_equal(asked(lambda: learn.recommend(ratings=given), says), expected)
    assert asked(lambda: learn.predict(ratings=given, item=5), says) == score
    for ask in (lambda: learn.recommend(ratings=given, unknown="error"),
                lambda: learn.predict(ratings=given, item=5, unknown="error")):
        with pytest.raises(UnknownId, match="item 999 is not among"):
            ask()
    with pytest.raises(UnknownId, match="none of the 2 items that are rated is known: item 'Film C' is not among"):
        learn.recommend(ratings={"Film C": 4.0, 999: 1.0})
    with pytest.raises(DataError, match=r"item 'Film A \(1990\)' is rated more than once"):
        learn.recommend(ratings={3: 5.0, A: 4.0})


def test_of_implicit_data_a_list_of_what_was_chosen_holds_titles_and_unknown_ones_too():
    learn = fitted("ease", implicit=True)
    expected = learn.recommend(ratings=[3, 8])
    assert expected["item"].tolist() and not {3, 8} & {*expected["item"]}
    pd.testing.assert_frame_equal(learn.recommend(ratings=[A, B]), expected)
    pd.testing.assert_frame_equal(asked(lambda: learn.recommend(ratings=[A, 8, 999]), "1 of 3 items that are rated"),
                                  expected)


def test_text_with_half_a_character_among_rated_items_is_unknown(learn: CollabLearner):
    for given in ({"\ud800": 5.0, 3: 4.0}, pd.Series([5.0, 4.0], index=pd.Index(["\ud800", A], dtype=object))):
        with pytest.raises(UnknownId, match="item '.ud800' is not among"):
            learn.recommend(ratings=given, unknown="error")


@pytest.mark.parametrize("text", [
    f"item,rating\n{A},5\nNumber 5,\n\"{B}\",2\nNumber 9,\n", "item,rating\n3,5\n5,\n8,2\n",
    f"title,rating\n{A},5\n8,2\nNumber 5,\n", f"rating,film\n5,{A}\n2,8\n,Number 5\n",
    f"item,title,rating\n3,{A},5\n5,Number 5,\n8,x,2\n", "user,title,rating\n7,3,5\n7,5,\n7,8,2\n"])
def test_a_file_of_ones_own_ratings_may_have_blanks(learn: CollabLearner, tmp_path: Path, text: str):
    (tmp_path / "rated.csv").write_text(text)
    rated = rated_file(learn.data, tmp_path / "rated.csv")
    assert rated["item"].tolist() == [3, 8] and rated["rating"].tolist() == [5, 2]
    pd.testing.assert_frame_equal(learn.recommend(ratings=rated), learn.recommend(ratings={3: 5.0, 8: 2.0}))


def test_unknown_items_of_a_file_are_left_out_and_counted_and_no_title_is_guessed(learn: CollabLearner, tmp_path: Path):
    file = tmp_path / "rated.csv"
    file.write_text(f"item,rating\n{A},5\nFilm B,4\n999,3\n")
    says = r"2 of 3 items in .*rated.csv were not .* \(such as 'Film B'\) .*near it are .*'Film B, The \(2001\)'"
    assert asked(lambda: rated_file(learn.data, file), says)["item"].tolist() == [3]
    with pytest.raises(UnknownId, match="'Film B' is not among"):
        rated_file(learn.data, file, unknown="error")
    for rows, error in (("Twice,5\n3,4\n", "rated.csv: column 'item': 1 of 2 titles is of several items .first at row "
                         "0.: 2 items have the title 'Twice': 11, 12; say by its id which is meant"),
                        ("3,4\n4,\nTwice,5\ntwice,5\n", "2 of 4 titles are of several items .first at row 2.: 2 items"),
                        ("3,\n8,\n", "rated.csv holds no ratings: all 2 are blank"), (",5\n3,4\n", "ids are missing")):
        file.write_text(f"item,rating\n{rows}")
        with pytest.raises(DataError, match=error):
            rated_file(learn.data, file)


def test_an_unknown_number_in_a_file_is_left_out_where_items_have_no_titles(tmp_path: Path):
    data = CollabDataBunch.from_df(synthetic(12, 10, 80, seed=1).ratings, seed=0)
    file, known = tmp_path / "rated.csv", next(iter(data.items))
    for unknown in (77777, 10 ** 30):
        for rows in (f"{known},5\n{unknown},3\n", f"{unknown},3\n{known},5\n"):
            file.write_text(f"item,rating\n{rows}")
            says = rf"1 of 2 items in .*rated.csv were not trained on \(such as {unknown}\)"
            assert asked(lambda: rated_file(data, file), says)["item"].tolist() == [known]


# What many rated --------------------------------------------------------------------------------------------------

NEW = pd.DataFrame({"user": [900, 900, 900, 901, 7], "item": [3, 8, 5, 10, 4], "rating": [5.0, 2, 4, 3, 1]})


def test_unknown_items_of_people_who_are_added_are_left_out_and_counted_or_refused(learn: CollabLearner):
    expected = learn.add_ratings(NEW)
    table = pd.concat([NEW.astype({"item": object}), pd.DataFrame({"user": [900, 902], "item": [999, "Film C"],
                                                                   "rating": [1.0, 4.0]})])
    says = r"2 of 7 items in column 'item' were not trained on \(such as 999\) and are left out"
    more = asked(lambda: learn.add_ratings(table), says)
    assert [*more.data.users] == [*expected.data.users] and 902 not in more.data.users
    pd.testing.assert_frame_equal(more.recommend([900, 901, 7]), expected.recommend([900, 901, 7]))
    with pytest.raises(UnknownId, match="item 999 is not among"):
        learn.add_ratings(table, unknown="error")
    with pytest.raises(UnknownId, match="none of the 5 items in column 'item' is known"):
        learn.add_ratings(NEW.assign(item=range(990, 995)))


def test_rows_without_a_rating_of_people_who_are_added_are_left_out_and_counted(learn: CollabLearner):
    expected = learn.add_ratings(NEW)
    for blank in (np.nan, ""):
        table = pd.concat([NEW.astype({"rating": object}), pd.DataFrame({"user": [900, 903], "item": [20, 21],
                                                                         "rating": [blank, blank]})])
        more = asked(partial(learn.add_ratings, table), "2 of 7 rows have no rating in column 'rating'")
        assert [*more.data.users] == [*expected.data.users]
        pd.testing.assert_frame_equal(more.recommend([900, 7]), expected.recommend([900, 7]))
    with pytest.raises(DataError, match="5 of 5 ratings are missing"):
        learn.add_ratings(NEW.assign(rating=np.nan))
    for wrong in (NEW.drop(columns="item"), NEW[["user", "item", "item"]], NEW[:0], None):
        with pytest.raises(DataError, match="no column|2 times|three columns|is empty|NoneType"):
            learn.add_ratings(wrong)


# An index ---------------------------------------------------------------------------------------------------------

def test_an_index_recommends_to_several_users_as_the_learner_does(learn: CollabLearner):
    index, users = learn.index(), [42, 43, 42]
    expected = learn.recommend(users, n=5, exclude=None)
    for several in (users, np.array(users), pd.Series(users)):
        found = index.recommend(several, 5)
        assert [*found] == ["user", "rank", "item", "title", "score"]
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4, check_frame_type=False)
    pd.testing.assert_frame_equal(expected[:5].drop(columns="user"), index.recommend(42, 5), rtol=1e-4)
    assert index.recommend([], 5).empty and [*index.recommend([], 5)] == [*expected]
    with pytest.warns(CollabWarning, match="2 of 3 user ids were not trained on .*such as 999"):
        average = index.recommend([999, 42, 1000], 5)
    assert average["user"].tolist() == [999] * 5 + [42] * 5 + [1000] * 5
    assert average["item"].tolist()[:5] == average["item"].tolist()[10:]
    with pytest.raises(UnknownId, match="user 999 is not among"):
        index.recommend([42, 999], unknown="error")


def test_what_is_excluded_from_an_index_holds_for_all_users_or_for_each_by_name(learn: CollabLearner):
    index = learn.index()
    seen = {user: learn.rated(user)["item"].tolist() for user in (42, 43)}
    pd.testing.assert_frame_equal(learn.recommend([42, 43], n=5), index.recommend([42, 43], 5, exclude=seen), rtol=1e-4)
    pd.testing.assert_frame_equal(learn.recommend(43, n=5), index.recommend(43, 5, exclude=seen), rtol=1e-4)
    best = index.recommend([42, 43, 44], 40)
    both = index.recommend([42, 43, 44], 40, exclude=[3, B])
    assert {*both["item"]} == {*range(1, 41)} - {3, 8} and len(both) == 3 * 38
    mine = index.recommend([42, 43, 44], 40, exclude={43: [3, 8]})
    assert mine.groupby("user").size().to_dict() == {42: 40, 43: 38, 44: 40} and len(best) == 120
    with pytest.raises(DataError, match="different ids"):
        index.recommend([42, 43], exclude={"43": [3]})
    with pytest.raises(DataError, match="holds a list of items for each user, got 5.0"):
        index.recommend([42, 43], exclude={3: 5.0})


def test_titles_that_hold_what_was_typed_are_named_before_those_that_look_like_it():
    titles = ["Star Wars (1977)", "Star Maps (1997)", "Style Wars (1983)", "Return to Star Wars (1999)"]
    catalogue = Catalogue(Vocab([1, 2, 3, 4], "item"), titles)
    said = str(catalogue.unknown("Star Wars"))
    assert "Star Wars (1977)" in said and "Return to Star Wars (1999)" in said and "Star Maps" not in said


def test_what_is_left_out_by_an_id_without_its_zeros_is_said_with_them():
    catalogue = Catalogue(Vocab(["0035", "0351"], "item"), ["Der Baum", "Die Welle"])
    with pytest.warns(CollabWarning, match=r"and leave out nothing; did you mean '0035'\?$"):
        assert catalogue.excluded(["35"]).tolist() == [0]
    with pytest.warns(CollabWarning, match="and leave out nothing$"):
        catalogue.excluded(["36"])

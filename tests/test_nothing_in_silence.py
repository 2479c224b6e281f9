"""Nothing is lost in silence: every place in `collab/` that drops, ignores, averages or guesses something says so with a
`CollabWarning`, once, at the caller's line. The register below lists all of them; one that is missing here fails."""

import ast
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import collab
from collab import CollabDataBunch, CollabWarning, RatingSet, leave_last, rows_split

SOURCE = Path(collab.__file__).parent

# (place, pattern of the message, what a caller does): place is "file.py:Class.function" of the call of `warn`. ---------
REGISTER = []


def says(place, message):
    """Enter a function of `tmp_path` into the register: calling it must warn with `message`, exactly once."""
    def enter(function):
        REGISTER.append((place, message, function))
        return function
    return enter


# Data in ----------------------------------------------------------------------------------------------------------

FEW = pd.DataFrame({"user": [1, 2, 1, 2], "item": [10, 10, 20, 20], "rating": [1.0, 2, 3, 4], "time": [1, 2, 3, 4]})
AGAIN = pd.concat([FEW, FEW.iloc[:1]], ignore_index=True)
FILMS = pd.DataFrame({"item": [10, 20], "title": ["A", "B"], "year": [1990.0, 1999.0]})


def made(table=FEW, **options):
    return CollabDataBunch.from_df(table, **{"valid_pct": 0, "seed": 0, "device": "cpu", **options})


@says("data/schema.py:merge_duplicates", "1 of 5 rows rate a pair again .* all rows are kept")
def repeated_pairs_that_are_kept(_):
    made(AGAIN)


@says("data/schema.py:merge_duplicates", "1 of 5 rows rate a pair again .* its average rating")
def repeated_pairs_that_are_averaged(_):
    made(AGAIN, duplicates="mean")


@says("data/outliers.py:warn_of_outliers", "1 of 100 training ratings, such as 1000, is far .*y_range=")
def a_rating_far_from_all_others(_):
    made(pd.DataFrame({"user": np.arange(100) % 10, "item": np.arange(100) // 10, "rating": [1000.0, *[1, 2, 3] * 33]}))


@says("data/implicit.py:interaction_schema", "column 'x' is not used.*rating_name='x'")
def a_third_column_that_may_be_a_strength(_):
    made(FEW[["user", "item"]].assign(x=[5, 5, 1, 1]), implicit=True)


@says("data/implicit.py:interactions_of", "2 of 4 interactions have a strength of 0 and are left out")
def interactions_of_no_strength(_):
    made(FEW.assign(rating=[1, 0, 0, 1]), implicit=True)


@says("data/databunch.py:CollabDataBunch.from_df", "valid_pct=0.5 is not used")
def a_fraction_beside_a_split(_):
    made(split=rows_split([0]), valid_pct=0.5)


@says("data/databunch.py:CollabDataBunch.from_df", r"valid_pct=0\.01 holds out none of 4 ratings")
def a_fraction_of_less_than_a_rating(_):
    made(valid_pct=0.01)


@says("data/databunch.py:_warn_of_unseen", "1 of 4 test ratings are of a user or an item that was not trained on")
def ratings_to_test_of_somebody_unknown(_):
    made(test=FEW.assign(user=[1, 2, 1, 3]))


@says("data/split.py:leave_last.split", "the order of the table is taken")
def the_last_ratings_without_times(_):
    made(pd.DataFrame({"user": [1, 1, 1, 2, 2, 2], "item": [1, 2, 3] * 2, "rating": 1.0}), split=leave_last())


@says("data/split.py:_warn_of_few", r"leave_last\(2\) holds out none of 4 ratings: no user has more than 2")
def the_last_two_ratings_of_users_with_two(_):
    made(split=leave_last(2))


@says("data/split.py:apply_split", "puts 1 of 4 ratings into neither part")
def ratings_that_a_split_leaves_out(_):
    made(split=lambda table: ([0, 3], [1]))


@says("data/metadata.py:title_column", "no titles are shown; its columns are .*title_name=")
def items_without_titles(_):
    made(items=FILMS[["item", "year"]])


@says("data/metadata.py:warn_of_lacking", "lacks 1 of the 2 rated items .*no title")
def rated_items_that_the_metadata_lack(_):
    made(items=FILMS.iloc[:1])


@says("data/features.py:_number", "column 'year': 1 of 2 values are infinite")
def infinite_features(_):
    made(items=FILMS.assign(year=[np.inf, 1]), item_features=["year"])


@says("data/explore.py:_with_counts", "1 of 2 rated items are not in the table of items")
def rated_items_that_a_table_leaves_out(_):
    RatingSet(FEW, FILMS.iloc[:1], FEW[["user"]].drop_duplicates(), "few", "").top_items()


# Models and recipes -----------------------------------------------------------------------------------------------


# Training and its callbacks ---------------------------------------------------------------------------------------


# Files ------------------------------------------------------------------------------------------------------------


# Out again: recommending, evaluating, interpreting, the command line ----------------------------------------------


# The rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place, message, call", REGISTER,
                         ids=[f"{place.split(':')[-1]}-{call.__name__}" for place, _, call in REGISTER])
def test_what_is_lost_is_said_once_at_the_line_of_the_caller(place, message, call, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(tmp_path)
    said = [w for w in caught if issubclass(w.category, CollabWarning)]
    assert len(said) == 1, [str(w.message) for w in said]
    assert said[0].filename == __file__
    with pytest.warns(CollabWarning, match=message):
        warnings.warn_explicit(said[0].message, said[0].category, said[0].filename, said[0].lineno)


def calls_of_warn():
    """How often each function of `collab/` calls `warn`: {"file.py:Class.function": n}."""
    found = {}

    def visit(node, file, inside):
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", None) if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else None
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "warn":
                place = f"{file}:{'.'.join(inside)}"
                found[place] = found.get(place, 0) + 1
            visit(child, file, [*inside, name] if name else inside)

    for path in sorted(SOURCE.rglob("*.py")):
        visit(ast.parse(path.read_text()), path.relative_to(SOURCE).as_posix(), [])
    return found


def test_the_register_holds_every_place_that_warns():
    registered = [place for place, _, _ in REGISTER]
    missing = {place: n for place, n in calls_of_warn().items() if registered.count(place) < n}
    assert not missing, f"no case above shows these warnings: {missing}"
    assert not (gone := set(registered) - set(calls_of_warn())), f"nothing warns here any more: {gone}"


def test_all_warnings_are_collab_warnings():
    by_hand = [f"{path.relative_to(SOURCE)}:{node.lineno}" for path in sorted(SOURCE.rglob("*.py"))
               for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.Attribute) and node.attr == "warn" and ast.unparse(node.value) == "warnings"]
    assert [place.partition(":")[0] for place in by_hand] == ["errors.py"]

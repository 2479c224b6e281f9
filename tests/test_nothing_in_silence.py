"""Nothing is lost in silence: every place in `collab/` that drops, ignores, averages or guesses something says so with a
`CollabWarning`, once, at the caller's line. The register below lists all of them; one that is missing here fails."""

import ast
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch

import collab
from collab import CollabWarning
from collab.data.split import rows_split

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


# Models and recipes -----------------------------------------------------------------------------------------------


# Training and its callbacks ---------------------------------------------------------------------------------------


# Files ------------------------------------------------------------------------------------------------------------


# Out again: recommending, evaluating, interpreting, the command line ----------------------------------------------

RATED = pd.DataFrame([("ann", "A", 5.0), ("ann", "B", 4.0), ("bob", "B", 3.0), ("bob", "C", 5.0), ("bob", "new", 2.0),
                      ("bob", "newer", 1.0), ("cem", "A", 4.0)], columns=["user", "item", "rating"])


def two_known_people(**options):
    """Of whom bob has two items that were not trained on, held out with all that cem rated."""
    return collab.CollabDataBunch.from_df(RATED, split=rows_split(range(4, 7)), seed=0, device="cpu", **options)


def without_ids():
    data = two_known_people()
    return collab.CollabDataBunch(data.train, data.valid, None, data.users, data.items, device="cpu")


@says("evaluate/validation.py:cross_validate", "^interrupted in fold 1 of 3: the table has the 1 before it")
def cross_validation_interrupted(tmp_path):
    fits = iter(range(3))

    def fit(learn):
        learn.interrupted = next(fits) == 1
    assert len(collab.cross_validate(collab.collab_learner, collab.synthetic(20, 15, 200).ratings, 3, fit)) == 1


@says("evaluate/validation.py:_unsplit", "^3 of 7 ratings are left out: the data did not keep their ids")
def cross_validation_over_data_without_ids(tmp_path):
    collab.cross_validate(collab.collab_learner, without_ids(), [rows_split([3])], lambda learn: None)


@says("evaluate/held_out.py:HeldOut.of", "^1 further held-out ratings are of unknown items whose ids these batches")
def missed_items_without_ids(tmp_path):
    data = two_known_people()
    batches = [(data.users.encode(["bob"] * 3), [0, 0, 1], [2.0, 1, 5])]
    batches = [tuple(map(torch.as_tensor, batch)) for batch in batches]
    collab.evaluate(collab.Popularity(data), batches, unknown_items="miss")


@says("evaluate/held_out.py:say_unknown", "^3 of 4 held-out ratings are of users or items that were not trained on")
def ranking_metrics_of_few(tmp_path):
    rated = pd.concat([RATED, pd.DataFrame([("ann", "C", 1.0)], columns=[*RATED])], ignore_index=True)
    data = collab.CollabDataBunch.from_df(rated, split=rows_split(range(4, 8)), seed=0, device="cpu")
    learn = collab.collab_learner(data, n_factors=2, cbs=collab.RankingMetrics())
    with learn.no_logging():
        learn.fit(1)


@says("evaluate/result.py:compare", "^not compared, since a or b alone has them: users 1, metrics hit; evaluate both")
def a_comparison_of_different_results(tmp_path):
    learn = collab.Popularity(two_known_people())
    rows = pd.DataFrame([("ann", "C", 1.0), ("bob", "A", 1.0)], columns=[*RATED])
    both = collab.evaluate(learn, rows, metrics=("ndcg", "hit"))
    collab.compare(both, collab.evaluate(learn, rows[:1], metrics="ndcg"))


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

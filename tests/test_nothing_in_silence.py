"""Nothing is lost in silence: every place in `collab/` that drops, ignores, averages or guesses something says so with a
`CollabWarning`, once, at the caller's line. The register below lists all of them; one that is missing here fails."""

import ast
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

import collab
from collab import CollabWarning, synthetic
from collab.cli.app import Model, train
from collab.cli.reading import read_all

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

# the command line
@says("cli/reading.py:_known", "f.csv has no names of columns: the first is taken for the ids, the second for the t")
def films_without_names_of_columns(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\n1,1,5\n2,2,3\n")
    (tmp_path / "f.csv").write_text("1,Heat (1995)\n2,Up (2009)\n")
    read_all(str(tmp_path / "r.csv"), tmp_path / "f.csv", None, None)


@says("cli/app.py:train", "u.csv is not used: it says nothing that several users have in common")
def users_of_whom_nothing_is_known(tmp_path):
    ml = synthetic(20, 20, 200, seed=0)
    ml.ratings.to_csv(tmp_path / "r.csv", index=False)
    pd.DataFrame({"user": range(1, 21), "name": map(str, range(20))}).to_csv(tmp_path / "u.csv", index=False)
    with redirect_stdout(StringIO()):
        train(str(tmp_path / "r.csv"), model=Model.TWO_TOWER, users=tmp_path / "u.csv", epochs=1, factors=2,
              out=tmp_path / "m.safetensors")


@says("cli/app.py:train", "--threshold 0 leaves out none of the 200 ratings: the lowest is 1; take a higher one, or")
def a_threshold_below_all_ratings(tmp_path):
    synthetic(20, 20, 200, seed=0).ratings.to_csv(tmp_path / "r.csv", index=False)
    with redirect_stdout(StringIO()):
        train(str(tmp_path / "r.csv"), model=Model.EASE, threshold=0, out=tmp_path / "m.safetensors")


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

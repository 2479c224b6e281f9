"""Nothing is lost in silence: every place in `collab/` that drops, ignores, averages or guesses something says so with a
`CollabWarning`, once, at the caller's line. The register below lists all of them; one that is missing here fails."""

import ast
import warnings
from pathlib import Path

import pytest
import torch

import collab
from collab import (
    L2,
    CollabDataBunch,
    CollabWarning,
    EarlyStopping,
    average_learners,
    collab_learner,
    load_learner,
    synthetic,
)

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

def spread(model):
    """A term of one's own."""
    return model.u_weight.weight.var()


def small_learner(model="dot", seed=0, valid_pct=0.2, **options):
    data = CollabDataBunch.from_df(synthetic(12, 10, 80, seed=1).ratings, seed=seed, valid_pct=valid_pct, device="cpu")
    return collab_learner(data, model, n_factors=2, **options)


@says("fold_in/terms.py:pull_of", r"folded in without 'spread', .*user_form\(V\)")
def a_term_that_folding_in_knows_nothing_of(tmp_path):
    small_learner(terms=[L2(0.1), spread]).recommend(ratings={1: 5.0, 2: 4.0})


@says("models/als.py:ALS.prepare", "1 of 80 pairs have a strength of 0, and count as not chosen")
def a_pair_that_was_chosen_with_a_strength_of_zero(tmp_path):
    ratings = synthetic(12, 10, 80, seed=1).ratings.assign(rating=[0.0] + [1.0] * 79)
    data = CollabDataBunch.from_df(ratings, valid_pct=0, seed=0, device="cpu")
    learn = collab_learner(data, "als", n_factors=2)
    with learn.no_logging():
        learn.fit(1)


@says("ensembles.py:average_learners", "trained on different rows: what one of them has seen is no test")
def an_average_over_other_training_rows(tmp_path):
    average_learners([small_learner(), small_learner(seed=5)])


@says("ensembles.py:average_learners", "without the loss mae, the term L2\\(0.1\\), the callback EarlyStopping; set")
def an_average_of_learners_with_settings_of_their_own(tmp_path):
    first, other = small_learner(), small_learner(loss_func="mae", terms=[L2(0.1)], cbs=EarlyStopping())
    other.data = first.data
    average_learners([first, other])



# Training and its callbacks ---------------------------------------------------------------------------------------


# Files ------------------------------------------------------------------------------------------------------------

@says("build.py:load_learner", "does not hold the loss l1_loss, opt_func SGD, the term 'spread', the callback Early")
def a_file_that_cannot_hold_all_of_the_learner(tmp_path):
    load_learner(small_learner(loss_func=torch.nn.functional.l1_loss, opt_func=torch.optim.SGD, terms=[L2(0.1), spread],
                               cbs=EarlyStopping()).export(tmp_path / "m"))



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

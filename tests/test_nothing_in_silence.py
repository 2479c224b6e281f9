"""Nothing is lost in silence: every place in `collab/` that drops, ignores, averages or guesses something says so with a
`CollabWarning`, once, at the caller's line. The register below lists all of them; one that is missing here fails."""

import ast
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import collab
from collab import (
    CollabDataBunch,
    CollabWarning,
    DataBunch,
    Learner,
    MixedPrecision,
    TensorBatches,
    collab_learner,
    synthetic,
)
from collab.losses import mse

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


@says("build.py:collab_learner", r"SVDpp multiplies the matrix of all 1,080 training ratings in each")
def small_batches_for_a_model_that_multiplies_all_ratings(tmp_path):
    ratings = synthetic(n_users=60, n_items=40, n_ratings=1200).ratings
    collab_learner(CollabDataBunch.from_df(ratings, valid_pct=0.1, seed=0, bs=1), "svdpp", 4)


# Training and its callbacks ---------------------------------------------------------------------------------------


# rates and optimizers
@says("train/lr_find.py:lr_find", r"suggests no learning rate: at none of those tried does the loss fall")
def a_curve_that_does_not_fall(tmp_path):
    line_learner(nn.Linear(1, 1), lambda pred, target: (pred * 0).sum()).lr_find(num_it=3)


@says("train/optim.py:_name", r"shares of the weight decay, \{'biases': 0.0\}, are lost, and wd goes to all alike")
def groups_of_ones_own(tmp_path):
    def flat(groups):
        return torch.optim.SGD([p for group in groups for p in group["params"]])
    data = CollabDataBunch.from_df(synthetic(n_users=10, n_items=10, n_ratings=50).ratings, seed=0)
    collab_learner(data, "dot_bias", 4, opt_func=flat)


@says("train/steps.py:MixedPrecision.predict", r"changes nothing in EmbeddingDot on batches of 40")
def mixed_precision_without_a_matrix_product(tmp_path):
    data = CollabDataBunch.from_df(synthetic(n_users=10, n_items=10, n_ratings=50).ratings, seed=0)
    learn = collab_learner(data, "dot", 4, cbs=MixedPrecision())
    with learn.no_logging():
        learn.fit(1)


def line_learner(model, loss_func=mse, **options):
    """Two batches of a line, for any model of one input."""
    x = torch.arange(8.0).unsqueeze(1)
    return Learner(DataBunch(TensorBatches(x, 2 * x, bs=4), device="cpu"), model, loss_func, **options)


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

"""Nothing is lost in silence: every place in `collab/` that drops, ignores, averages or guesses something says so with a
`CollabWarning`, once, at the caller's line. The register below lists all of them; one that is missing here fails."""

import ast
import warnings
from pathlib import Path

import pytest

import collab
from collab import CollabWarning

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

def tiny_data(**options):
    ratings = collab.synthetic(n_users=30, n_items=20, n_ratings=200, seed=1).ratings
    return collab.CollabDataBunch.from_df(ratings, seed=0, device="cpu", **options)


def tiny_learner(model="dot_bias", **options):
    """A learner of 160 training ratings, which prints nothing."""
    learn = collab.collab_learner(tiny_data(), model, n_factors=2, **options)
    learn.cbs.remove(learn.progress)
    return learn


@says("train/recorder.py:Recorder.after_epoch", "the training loss of epoch 1 is nan: .* a lower learning rate")
def a_loss_becomes_nan(tmp_path):
    learn = tiny_learner()
    learn.loss_func = lambda pred, target: (pred - target).square().mean() * (float("nan") if learn.epoch else 1.0)
    learn.fit(4)


@says("train/yardstick.py:MeanYardstick.after_epoch", "and predicting the mean for all rows has .* learn.lr_find")
def a_model_learns_less_than_the_mean(tmp_path):
    data = tiny_data(bs=8)
    learn = collab.collab_learner(data, collab.EmbeddingDot(2, data.n_users, data.n_items), lr=1e-6)
    learn.cbs.remove(learn.progress)
    learn.fit(10)


@says("train/trackers.py:Tracker.after_fit", "SaveBest watches 'rmse', which no epoch of this fit has measured")
def nothing_that_is_watched_is_measured(tmp_path):
    tiny_learner().fit(2, cbs=[collab.RecordEvery(100), collab.SaveBest("rmse")])


@says("train/every.py:RecordEvery.before_fit", r"RankingMetrics work after a validation, and RecordEvery\(100\)")
def ranking_metrics_beside_record_every(tmp_path):
    tiny_learner("bpr").fit(1, cbs=collab.RecordEvery(100))


@says("train/resume.py:Checkpoint.after_fit", "no checkpoint was written to .*c: every 100 batches did not come in")
def no_batch_is_one_to_write_at(tmp_path):
    tiny_learner().fit(1, cbs=collab.Checkpoint(tmp_path / "c", every=100))


@says("train/state.py:restore_state", "c holds the state of EMA, which this learner does not have: it is left out")
def a_state_of_a_callback_that_is_gone(tmp_path):
    tiny_learner().fit(1, cbs=[collab.EMA(), collab.Checkpoint(tmp_path / "c")])
    tiny_learner().load(tmp_path / "c")


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

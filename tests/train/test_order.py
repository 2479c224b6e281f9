"""The order of callbacks: one table, which every callback that ships and docs/callbacks.md refer to."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch
from helpers import fit_quietly, line_learner

import collab
from collab import (
    EMA,
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    GradientAccumulation,
    GradientClip,
    LossTerms,
    MixedPrecision,
    RecordEvery,
    ShortEpoch,
    Threads,
)
from collab.learner.objectives import Objective
from collab.train.callback import in_order
from collab.train.callbacks.order import Order
from collab.train.learner import Verbs

PAGE = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text()
ROWS = re.findall(r"^\| (-?\d+) \| (`\w+`(?:, `\w+`)*)(.*?) \|", PAGE, re.MULTILINE)      # order, classes


def shipped():
    """Every class of callback in collab, whether or not it is exported."""
    for module in pkgutil.walk_packages(collab.__path__, "collab."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, waiting = set(), [Callback]
    while waiting:
        waiting += (kids := waiting.pop().__subclasses__())
        found |= {cls for cls in kids if cls.__module__.startswith("collab.")}
    return sorted(found, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", shipped(), ids=lambda cls: cls.__name__)
def test_every_callback_that_ships_takes_its_order_from_the_table(cls):
    assert isinstance(cls.order, Order)


def test_every_order_is_taken_and_no_two_are_equal():
    assert {cls.order for cls in shipped()} == set(Order)
    assert len(Order.__members__) == len(set(Order))            # an alias would hide that two are called together


def test_the_page_lists_the_table_from_first_to_last():
    assert [int(order) for order, *_ in ROWS] == sorted(Order)
    classes = {cls.__name__: cls for cls in shipped()}
    for order, names, _ in ROWS:
        for name in re.findall(r"\w+", names):
            assert name == "Callback" or classes[name].order == int(order), name


def test_every_exported_callback_is_on_the_page():
    exported = {cls.__name__ for cls in shipped() if cls.__name__ in collab.__all__}
    objectives = {cls.__name__ for cls in shipped() if issubclass(cls, Objective)}
    assert exported - objectives <= set(re.findall(r"`(\w+)`", PAGE))


def test_a_callback_of_your_own_may_stand_between_two():
    between = type("Between", (Callback,), {"order": Order.CLIP + 0.5})()
    learn = line_learner([CSVLogger(), GradientClip(1.0), between, GradientAccumulation(4)])
    order = in_order(learn.cbs)
    assert order.index(between) == order.index(next(cb for cb in order if isinstance(cb, GradientClip))) + 1


def test_the_phases_of_an_epoch_come_one_after_another(tmp_path):
    """Random streams, what is left out, weights, numbers, steps, records, what may end the fit, the file."""
    cbs = [Checkpoint(tmp_path / "c"), EarlyStopping(), CSVLogger(tmp_path / "log"), GradientClip(1.0),
           MixedPrecision(), GradientAccumulation(4), LossTerms(lambda model: torch.zeros(())), EMA(), ShortEpoch(2),
           RecordEvery(9), Threads(1), type("Mine", (Callback,), {})()]
    learn = line_learner(cbs, seed=0)
    assert [type(cb).__name__ for cb in in_order(learn.cbs)] == [
        "Seeded", "Threads", "EpochStart", "RecordEvery", "ShortEpoch", "EMA", "Scores", "LossTerms", "Recorder",
        "Mine", "GradientAccumulation", "MixedPrecision", "GradientClip", "CSVLogger", "Progress", "EarlyStopping",
        "Checkpoint"]
    assert Verbs.order == Order.DEFAULT


# The old name of `in_eval` ----------------------------------------------------------------------------------------

def counted(**attributes):
    """A class that counts the batches that it sees."""
    return type("Counts", (Callback,), {
        "n": 0, "after_pred": lambda self: setattr(self, "n", self.n + 1), **attributes})


def test_a_class_that_says_looks_is_warned_of_once_and_called_in_evaluation():
    with pytest.warns(DeprecationWarning, match=r"Counts\.looks is now called in_eval") as said:
        cls = counted(looks=True)
        learn = line_learner(counts := cls())
        learn.validate()
    assert counts.n == 2 and cls.in_eval is True
    assert [w.filename for w in said] == [__file__]


def test_an_object_that_says_looks_is_warned_of_and_called_in_evaluation():
    learn = line_learner(counts := counted()())
    with pytest.warns(DeprecationWarning, match="looks is now called in_eval"):
        counts.looks = True
    learn.validate()
    with pytest.warns(DeprecationWarning, match="looks is now called in_eval"):
        assert counts.looks is True
    assert counts.n == 2


def test_a_class_that_says_looks_is_false_is_called_in_fits_alone():
    with pytest.warns(DeprecationWarning):
        counts = counted(looks=False)()
    learn = line_learner(counts, valid=True)
    learn.validate()
    assert counts.n == 0
    fit_quietly(learn)
    assert counts.n == 5

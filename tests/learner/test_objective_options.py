"""The options of objectives: how they are checked, and where they belong."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from collab import BPR, CollabDataBunch, Logistic, SampledSoftmax, collab_learner, synthetic
from collab.learner.objectives import Objective


@pytest.fixture(scope="module")
def planted() -> CollabDataBunch:
    return CollabDataBunch.from_df(synthetic(30, 20, 300, seed=0).ratings, implicit=True, seed=0, device="cpu")


@pytest.mark.parametrize("cls", [BPR, Logistic, SampledSoftmax])
@pytest.mark.parametrize("name, given, must", [
    *(("n_negatives", given, "a whole number, at least 1") for given in (0, 1.5, "3", True, None, math.inf)),
    *(("beta", given, "a finite number (0 draws") for given in ("1", True, None, math.nan))])
def test_numbers_of_an_objective_are_checked_when_it_is_made(cls: type[Objective], name: str, given: object, must: str):
    with pytest.raises(ValueError, match=re.escape(f"{name} must be {must}") + f".*, got {given!r}$"):
        cls(**{name: given})


@pytest.mark.parametrize("given", ["1", True, 0, math.inf])
def test_a_temperature_is_a_number_above_0(given: Any):
    with pytest.raises(ValueError, match=f"temperature must be a finite number above 0, got {given!r}"):
        SampledSoftmax(temperature=given)


@pytest.mark.parametrize("model, options, meant", [
    ("bpr", {"n_negatives": 4}, "BPR(n_negatives=4)"), ("dot", {"beta": 0.5}, "BPR(beta=0.5)"),
    ("softmax", {"temperature": 2.0}, "FullSoftmax(temperature=2.0)"),
    ("two_tower", {"log_q": False}, "InBatchSoftmax(log_q=False)")])
def test_an_option_of_the_objective_is_shown_where_it_belongs(planted: CollabDataBunch, model: str,
                                                              options: dict[str, Any], meant: str):
    with pytest.raises(TypeError, match=re.escape(f"it is one of the objective: loss_func={meant}. The options are")):
        collab_learner(planted, model, **options)


def test_a_solved_model_has_no_objective_to_give_options_to(planted: CollabDataBunch):
    with pytest.raises(TypeError, match="no such option. The options are"):
        collab_learner(planted, "als", n_negatives=4)

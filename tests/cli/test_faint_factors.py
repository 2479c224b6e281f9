"""Where factors hardly stand out from noise, what is made of them is shown with a sentence that says so."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from collab import CollabDataBunch, CollabInterpretation, collab_learner, load_learner, synthetic
from collab.learner.evidence import faint

FAINT = re.compile(r"factors are lost in noise \(contrast 0\.\d\d, clear from 0\.68\): similar items, reasons, "
                   r"parts of a score and components may be chance; more ratings would make them clearer\.")


def noise(n_users: int = 60, n_items: int = 40, n: int = 900) -> pd.DataFrame:
    """Ratings of users and items that have biases, and no tastes."""
    rng = np.random.default_rng(4)
    pairs = rng.permutation(n_users * n_items)[:n]
    users, items = pairs // n_items, pairs % n_items
    stars = 3 + 0.7 * rng.normal(size=n_users)[users] + 0.5 * rng.normal(size=n_items)[items] + rng.normal(size=n)
    return pd.DataFrame({"user": users, "item": items, "rating": stars.round().clip(1, 5)})


@pytest.fixture
def model(collab, tmp_path):
    """A model of noise, trained on the command line."""
    noise().to_csv(tmp_path / "noise.csv", index=False)
    code, out, err = collab("train", tmp_path / "noise.csv", "--epochs", 1, "-o", tmp_path / "m")
    assert code == 0 and len(FAINT.findall(err)) == 1 and not FAINT.search(out)
    return tmp_path / "m"


def test_commands_that_show_factors_say_so_on_standard_error(collab, model, tmp_path):
    shown = [("similar", model, 3), ("explain", model, "--user", 7, "--item", 3),
             ("recommend", model, "--user", 7, "--why"), ("report", model, "-o", tmp_path / "r.html")]
    for words in shown:
        code, out, err = collab(*words)
        said = [line for line in err.splitlines() if line.startswith("Note: ")]
        assert code == 0 and len(said) == 1 and FAINT.fullmatch(said[0].removeprefix("Note: ")), words
        assert not FAINT.search(out) and not FAINT.search(collab(*words, "--quiet")[2])
    assert not FAINT.search(collab("recommend", model, "--user", 7)[2])


def test_sections_of_a_report_say_so(model, tmp_path):
    page = CollabInterpretation(load_learner(model)).report(tmp_path / "r.html").read_text()
    said = re.findall(r"Factors are lost in noise [^<]*clearer\.</p>", page)
    assert len(said) == 3                                   # similar items, the map, the components


def test_factors_that_stand_out_are_shown_without(collab, tmp_path):
    synthetic(60, 40, 900, seed=5).ratings.to_csv(tmp_path / "r.csv", index=False)
    code, _, err = collab("train", tmp_path / "r.csv", "--epochs", 1, "-o", tmp_path / "m", "--valid-pct", 0)
    assert code == 0 and "noise" not in err
    assert collab("similar", tmp_path / "m", 3)[::2] == (0, "")
    page = CollabInterpretation(load_learner(tmp_path / "m")).report(tmp_path / "r.html").read_text()
    assert faint("") == "" and "may be chance; more ratings" not in page


def test_what_the_recipe_says_is_understood():
    learn = collab_learner(CollabDataBunch.from_df(noise(), seed=0))
    assert FAINT.fullmatch(faint(learn.recipe) + ".")

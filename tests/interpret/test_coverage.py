"""Coverage of intervals: the table, the picture, and what the report says of it."""

import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import fit_quietly

from collab import (
    CollabDataBunch,
    CollabInterpretation,
    CollabLearner,
    CollabModel,
    DataError,
    Unsupported,
    collab_learner,
    synthetic,
)
from collab.evaluate import errors
from collab.models.mixture import Mixture

RATINGS = synthetic(n_users=60, n_items=40, n_ratings=1_200, seed=4).ratings


class Standard(CollabModel):
    """Normal ratings around 0, with a deviation of 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, users, items):
        return self.weight + torch.zeros(len(users))

    def predictive(self, users, items):
        return Mixture(torch.zeros(len(users), 1).double(), torch.ones(len(users), 1).double())


@pytest.fixture(scope="module")
def interp():
    learn = collab_learner(CollabDataBunch.from_df(RATINGS, seed=0, bs=256, device="cpu"), "bayes", 3, n_draws=16)
    fit_quietly(learn, 3)
    return CollabInterpretation(learn)


def test_the_table_has_the_share_of_ratings_inside_each_interval():
    """Half of a normal distribution lies within 0.6745 deviations, 80 % within 1.2816 and 95 % within 1.96."""
    ratings = pd.DataFrame({"user": [1, 2] * 4, "item": np.arange(1, 9),
                            "rating": [-3, -1.9, -1.3, -1.2, 0, 0.6, 0.7, 2.0]})
    data = CollabDataBunch.from_df(ratings, valid_pct=0, seed=0, bs=4, device="cpu")
    learn = CollabLearner(data, Standard())
    learn.scale = None                  # which would cut the intervals to the ratings that there are
    table = CollabInterpretation(learn).coverage((0.5, 0.8, 0.95), ratings)
    assert table["probability"].tolist() == [0.5, 0.8, 0.95] and table.attrs["n"] == 8
    assert table["observed"].tolist() == [2 / 8, 4 / 8, 6 / 8]


def test_it_is_the_metric_of_errors(interp):
    table = interp.coverage()
    assert table["probability"].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    own = errors(interp.learn, metrics=("coverage(0.5)", "coverage(0.95)")).iloc[2]
    assert table["observed"][4] == own["coverage(0.5)"] and table["observed"][9] == own["coverage(0.95)"]
    assert table["observed"].is_monotonic_increasing


def test_the_picture_has_the_table_and_the_diagonal(interp):
    with mpl.rc_context():
        diagonal, line = interp.plot_coverage().get_lines()
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert line.get_xydata() == pytest.approx(interp.coverage().to_numpy())


def test_the_report_tells_it_and_shows_intervals(interp, tmp_path):
    pytest.importorskip("altair")
    page = interp.report(tmp_path / "a.html").read_text()
    held = [f"{share:.1%}".removesuffix("%") for share in interp.coverage((0.5, 0.8, 0.95))["observed"]]
    assert f"Intervals of 50, 80 and 95 % hold {held[0]}, {held[1]} and {held[2]} % of the 240 ratings." in page
    section = re.search(r'<section id="calibration">.*?</section>', page, re.DOTALL)[0]
    assert section.count("<svg") == 2 and "Ratings inside intervals" in section
    listed = re.search(r'<section id="recommendations">.*?</section>', page, re.DOTALL)[0]
    assert len(re.findall(r">low</th>", listed)) == len(re.findall(r">high</th>", listed)) == 3
    first = interp.learn.recommend(int(re.search(r"User (\d+),", listed)[1]), 1, interval=0.8)
    assert f">{first['low'][0]:.3f}</td>" in listed and "with a probability of 80%" in listed


def test_of_ratings_without_levels_there_are_intervals_alone(tmp_path):
    pytest.importorskip("altair")
    wide = RATINGS.assign(rating=RATINGS["rating"] + np.random.default_rng(0).uniform(-0.5, 0.5, len(RATINGS)))
    learn = collab_learner(CollabDataBunch.from_df(wide, seed=0, bs=256, device="cpu"), "bayes", 3, n_draws=16)
    fit_quietly(learn, 2)
    page = CollabInterpretation(learn).report(tmp_path / "a.html").read_text()
    section = re.search(r'<section id="calibration">.*?</section>', page, re.DOTALL)[0]
    assert section.count("<svg") == 1 and "calibration error" not in section


def test_other_models_have_no_intervals(interp, tmp_path):
    with pytest.raises(Unsupported, match="EmbeddingDotBias gives scores without their uncertainty"):
        CollabInterpretation(collab_learner(interp.data)).coverage()
    with pytest.raises(DataError, match="between 0 and 1, got 95"):
        interp.coverage((0.5, 95))

"""Tables print whole rows in a pipe too, where pandas would leave out the titles."""

import pickle

import pandas as pd

from collab import CollabDataBunch, CollabInterpretation, collab_learner, synthetic
from collab.data.frames import Table

LONG = "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb (1963)"


def test_tables_with_titles_print_whole_rows_in_a_pipe(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")         # the width that pandas assumes for a pipe
    ml = synthetic(30, 20, 300, seed=0)
    data = CollabDataBunch.from_df(ml.ratings, items=ml.items.assign(title=f"{LONG} again"), seed=0)
    learn = collab_learner(data, n_factors=2)
    interp, user, item = CollabInterpretation(learn), ml.ratings["user"][0], ml.ratings["item"][0]
    for made in (learn.recommend(user, n=3), learn.recommend([user, user], n=2), learn.similar_items(item, n=3),
                 learn.rated(user), learn.show_results(3), data.show_batch(3), interp.biases(n=3),
                 interp.neighbors(item, k=3), interp.similar_pairs(0.0, n=3), interp.pca(2).table(0),
                 learn.recommend(user).head(2).assign(more=1.0)):
        lines = repr(made).splitlines()
        assert len(lines) == 1 + len(made) and "..." not in lines[0]
        assert all(f"{LONG} again" in line for line in lines[1:])


def test_a_table_is_otherwise_an_ordinary_frame(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    plain = pd.DataFrame({"item": [1], "title": [LONG], "score": [0.5]})
    made = Table(plain)
    pd.testing.assert_frame_equal(made, plain)
    pd.testing.assert_frame_equal(plain, made, check_frame_type=False)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(made)), plain)
    assert LONG in repr(made) and LONG not in repr(plain)
    with pd.option_context("display.max_columns", 2):
        assert repr(made) == repr(plain)        # the user's own setting is obeyed

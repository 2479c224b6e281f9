"""A model of films with titles that could do harm, and its service in this process."""

import pandas as pd
import pytest
from serving import Client

from collab import CollabDataBunch, collab_learner, service, synthetic

HARM = "<img src=x onerror=document.title='harmed'> & \"quoted\", (1999)"
TITLES = {0: HARM, 1: "Amélie (2001)", 2: "Matrix, The (1999)", 3: "The Matrix Reloaded (2003)", 4: "=1+1 (1980)",
          5: "Ärger im Büro (1971)"}


@pytest.fixture(scope="session")
def rated_films():
    """(ratings, films): with planted factors, by ids from 10 on."""
    ml = synthetic(n_users=60, n_items=40, n_ratings=1200, seed=3)
    ids = {id: 10 + k for k, id in enumerate(ml.items["item"])}
    films = pd.DataFrame({"item": list(ids.values()), "title": [TITLES.get(k, f"Film {k} ({1950 + k})")
                                                               for k in range(len(ids))]})
    return ml.ratings.assign(item=ml.ratings["item"].map(ids)), films


@pytest.fixture(scope="session")
def films(rated_films):
    """A learner of ratings of films with titles."""
    ratings, items = rated_films
    data = CollabDataBunch.from_df(ratings, items=items, seed=0, bs=64, device="cpu")
    learn = collab_learner(data, n_factors=4)
    with learn.no_logging():
        learn.fit_one_cycle(5)
    return learn


@pytest.fixture(scope="session")
def liked_films(rated_films):
    """A learner of choices: films rated above 3."""
    ratings, items = rated_films
    data = CollabDataBunch.from_df(ratings, items=items, seed=0, bs=64, device="cpu", implicit=True, threshold=3)
    learn = collab_learner(data, "als", n_factors=4)
    with learn.no_logging():
        learn.fit()
    return learn


@pytest.fixture(scope="session")
def asks(films):
    """A client of its service."""
    return Client(service(films, threads=2))


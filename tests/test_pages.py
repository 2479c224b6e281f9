"""The guides of the site run as they stand, and say of models what is true."""

import re
from pathlib import Path

import pytest
from helpers import run_blocks

from collab import CollabDataBunch, Unsupported, collab_learner, synthetic, time_split

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "index.md", *sorted((DOCS / "guides").glob("*.md"))]


@pytest.fixture(scope="module")
def made():
    """Ratings with planted factors, and films with genres and years."""
    ml = synthetic(n_users=120, n_items=90, n_ratings=4_000, seed=0)
    genres = ["Drama", "Drama|War", "Comedy"]
    films = ml.items.assign(title=[f"Film {k}" for k in range(len(ml.items))], year=1990,
                            genres=[genres[k % 3] for k in range(len(ml.items))])
    return ml.ratings.rename(columns={ml.ratings.columns[0]: "user"}), films


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_python_block_of_a_page_runs_from_top_to_bottom(path, made, ml100k_home, tmp_path, monkeypatch, capsys):
    ratings, films = made
    ratings.to_csv(tmp_path / "ratings.csv", index=False)
    films.to_csv(tmp_path / "films.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLAB_HOME", str(ml100k_home))
    assert run_blocks(path)


def rows_of_abilities():
    """{model: {what: whether the table says that it can}} of the guide to models."""
    text = (DOCS / "guides" / "choosing.md").read_text()
    head, _, *rows = re.search(r"^\| \| new users.*?\n\n", text, re.M | re.S).group().strip().splitlines()
    columns = [cell.strip() for cell in head.split("|")[2:-1]]
    found = {}
    for row in rows:
        names, *cells = row.split("|")[1:-1]
        for name in re.findall(r"`(\w+)`", names):
            found[name] = {column: cell.strip() for column, cell in zip(columns, cells)}
    return found


def test_the_readme_names_the_models_without_an_index():
    text = (DOCS.parent / "README.md").read_text()
    said = re.search(r"All models but (.*?) have an index", text, re.S)[1]
    assert {*re.findall(r"`(\w+)`", said)} == {name for name, can in rows_of_abilities().items()
                                               if can["an index to serve"] != "yes"}


def test_the_guide_to_models_says_what_each_can_do(made):
    from collab.learner.recipes import RECIPES
    ratings, films = made
    table = rows_of_abilities()
    assert {*table} == {*RECIPES}
    solved = ("als", "als_explicit", "bayes", "ease", "infinite_ae")
    for name, said in table.items():
        ranks = RECIPES[name].ranks
        data = CollabDataBunch.from_df(ratings, items=films, item_features=["genres"], bs=512, seed=0,
                                       split=time_split(0.2), **({"implicit": True, "threshold": 3} if ranks else {}))
        learn = collab_learner(data, name)
        with learn.no_logging():
            learn.fit() if name in solved else learn.fit_one_cycle(1)
        first, second = films.iloc[:2, 0]
        new = ratings.nlargest(3, "rating").assign(user=[9_999, 9_998, 9_997])
        known = [first, second] if ranks else {first: 5, second: 3}
        assert can(learn.recommend, ratings=known) == (said["new users without training"] == "yes"), name
        assert can(learn.add_ratings, new) == (said["`add_ratings`"] == "yes"), name
        assert can(learn.index) == (said["an index to serve"] == "yes"), name
        assert can(learn.probabilities, 1, first) == (said["probabilities"] == "yes"), name
        assert can(learn.predict, 1, first, interval=0.9) == (said["intervals"] == "yes"), name


def can(method, *args, **keywords):
    """Whether it does what it is asked for; it may say that its model cannot."""
    try:
        method(*args, **keywords)
    except Unsupported:
        return False
    return True

"""One vocabulary on the command line: models have the names that --model takes, not those of classes."""

import json
import re

import pandas as pd
import pytest

from collab import CollabDataBunch, EmbeddingDotBias, collab_learner, load_learner, synthetic
from collab.learner.recipes import RECIPES


class Mine(EmbeddingDotBias):
    """A class without a recipe."""

    def __init__(self, n_factors: int, n_users: int, n_items: int, y_range: tuple[float, float]):
        super().__init__(n_factors, n_users, n_items, y_range=y_range)


CLASSES = sorted({recipe.model.__name__ for recipe in RECIPES.values()})


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Ratings by chance, of which no model makes anything."""
    made = synthetic(60, 40, 1200, seed=3)
    folder = tmp_path_factory.mktemp("chance")
    made.ratings.sample(frac=1, random_state=0).assign(
        rating=made.ratings["rating"].to_numpy()).to_csv(folder / "r.csv", index=False)
    made.items.assign(kind=lambda t: t["item"] % 3).to_csv(folder / "items.csv", index=False)
    return folder


@pytest.mark.filterwarnings("ignore::collab.CollabWarning")
@pytest.mark.parametrize("name", RECIPES)
def test_a_model_goes_by_its_name_wherever_it_is_spoken_of(collab, table, tmp_path, name):
    model, recipe = tmp_path / "m.safetensors", RECIPES[name]
    words = [] if recipe.at_once else ["--epochs", 1]
    words += ["--items", table / "items.csv"] if recipe.needs_features else []
    code, out, err = collab("train", table / "r.csv", "--model", name, *words, "--no-card", "--out", model)
    assert code == 0, err
    said = out + err
    for asked in (["evaluate", model, "--as", "json"], ["evaluate", model, "--k", 5], ["index", model, "-o",
                  tmp_path / "i"], ["recommend", model, "--ratings", table / "mine.csv"]):
        (table / "mine.csv").write_text("item,rating\n3,5\n8,2\n")
        _, out, err = collab(*asked)
        said += out + err
        if asked[0] == "evaluate":
            assert re.search(rf"\b{name}\b", out)
    assert re.search(rf"^ .*\b{name}\b", said, re.MULTILINE)           # in a table
    wrong = re.findall(rf"(?<!\w)(?:{'|'.join(CLASSES)})(?!\w)", said)
    assert not wrong, said


def test_a_sentence_that_begins_with_a_name_keeps_it(collab, table, tmp_path):
    code, out, _ = collab("train", table / "r.csv", "--model", "als", "--epochs", 1, "--no-card", "--out",
                          tmp_path / "m.safetensors", "--as", "json")
    assert code == 0 and json.loads(out)["remark"].startswith("als does not rank better than the most popular items")
    out = collab("evaluate", tmp_path / "m.safetensors")[1]
    assert "\nals does not rank better than the most popular items" in out


def test_a_class_of_ones_own_keeps_its_name(collab, table, tmp_path):
    data = CollabDataBunch.from_df(pd.read_csv(table / "r.csv"), bs=256)
    learn = collab_learner(data, Mine(4, data.n_users, data.n_items, y_range=(1, 5)))
    with learn.no_logging():
        learn.fit(1)
    learn.export(tmp_path / "m", card=False)
    code, out, err = collab("evaluate", tmp_path / "m", "--data", table / "r.csv", "--as", "json")
    assert code == 0 and json.loads(out)["errors"][-1]["model"] == "Mine", err


def test_the_card_names_the_class_as_python_has_it(collab, table, tmp_path):
    assert collab("train", table / "r.csv", "--epochs", 1, "--out", tmp_path / "m.safetensors")[0] == 0
    assert "`EmbeddingDotBias`" in (tmp_path / "m.md").read_text()
    assert type(load_learner(tmp_path / "m.safetensors").model) is EmbeddingDotBias


def test_what_has_no_index_is_told_which_commands_take_its_model_file(collab, table, tmp_path):
    collab("train", table / "r.csv", "--model", "ease", "--no-card", "--out", tmp_path / "m.safetensors")
    code, _, err = collab("index", tmp_path / "m.safetensors", "-o", tmp_path / "i")
    assert code == 2 and err == ("Error: ease has no index: its score is not a product of a user and an item; collab "
                                 "recommend and collab serve take its model file\n")


@pytest.mark.parametrize("name", ["als", "als_explicit", "dot_bias"])
def test_ratings_of_unknown_users_and_items_are_told_of_in_one_wording(collab, table, tmp_path, name):
    said = "of users or items that were not trained on: errors take the average one for these, and rankings leave them"
    code, out, _ = collab("train", table / "r.csv", "--model", name, "--epochs", 1, "--split", "users", "--no-card",
                          "--out", tmp_path / "m.safetensors")
    assert code == 0 and re.search(rf"(\d+) of the \1 ratings held out are {said} out\.\n", out)
    (tmp_path / "new.csv").write_text("user,item,rating\n1001,1,4\n1002,1,2\n1,2,3\n2,900,3\n")
    code, out, _ = collab("evaluate", tmp_path / "m.safetensors", "--data", tmp_path / "new.csv")
    assert code == 0 and out.startswith(f"3 of these 4 ratings are {said} out.\n")
    assert said not in collab("evaluate", tmp_path / "m.safetensors")[1]        # as training said


def test_items_that_are_known_by_their_metadata_alone_are_told_apart(collab, table, tmp_path):
    rows = pd.read_csv(table / "r.csv")
    rows = rows[rows["item"] > 3]
    late = pd.concat([rows, pd.DataFrame({"user": [5, 6, 7], "item": [1, 2, 3], "rating": 4, "time": 10 ** 10})])
    late.to_csv(tmp_path / "late.csv", index=False)
    code, out, err = collab("train", tmp_path / "late.csv", "--model", "hybrid", "--epochs", 1, "--split", "time",
                            "--items", table / "items.csv", "--no-card", "--out", tmp_path / "m.safetensors")
    assert code == 0, err
    assert re.search(r"^3 (more )?of the \d+ ratings held out are of users or items that were not trained on, but are "
                     r"known by --items or --users: these are scored by what is known of them\.$", out, re.MULTILINE)

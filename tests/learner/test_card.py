"""The model card: what is known of a model and nothing else, in a form that parsers of YAML read, and never in place of
somebody's own page."""

import json
import math
import re

import pandas as pd
import pytest
from helpers import cut_at, small_data
from torch import nn

from collab import (
    Callback,
    CollabDataBunch,
    CollabInterpretation,
    CollabWarning,
    SaveBest,
    SnapshotEnsemble,
    average_learners,
    collab_learner,
    evaluate,
    load_learner,
    synthetic,
)
from collab.cli.figures import finish
from collab.evaluate.advice import errors_and_advice
from collab.learner.card import card_path
from collab.learner.front_matter import front_matter

yaml = pytest.importorskip("yaml")
ML = synthetic(40, 30, 600, seed=0)
SOURCE = 'C:\\data\\my "films" | <b>: #1, é.csv'


def parts_of(text):
    """The front matter as a parser of YAML reads it, and the page."""
    _, top, page = text.split("---\n", 2)
    return yaml.safe_load(top), page


def fitted(model="dot_bias", epochs=1, **options):
    learn = collab_learner(CollabDataBunch.from_df(ML.ratings, seed=0, **options), model)
    with learn.no_logging():
        learn.fit(epochs)
    return learn


class Scripted(Callback):
    """Makes the recorded error what a script says."""

    order = 66

    def __init__(self, values):
        self.values = values

    def after_epoch(self):
        self.learn.recorder.rows[-1]["mae"] = self.values[self.learn.epoch]


@pytest.fixture(scope="module")
def rater():
    return fitted()


@pytest.mark.parametrize("text", ["", "plain", "yes", "1e3", "- a: b", 'a "b" \\ c', "# no", "two\nlines\ttab",
                                  "é 映画 🎬", "\x00\x07\x85\u2028\ufeff\ud800", "{x}", "null", "2024-01-01", "%",
                                  "@a"])
def test_front_matter_is_read_back_as_it_was(text):
    values = {"text": text, "list": [text, {"a": text, "b": [1, [], {}]}, [text, 2.5]], "none": None, "yes": True,
              "numbers": [1, -2.5, 1e-7, 1e22, 0.1, 3.0], text or "empty": {"x": 1}, "on": False}
    written = front_matter(values)
    assert written.startswith("---\n") and written.endswith("\n---\n")
    assert yaml.safe_load(written.removeprefix("---\n").removesuffix("---\n")) == values


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, b"x"])
def test_front_matter_refuses_what_yaml_would_read_otherwise(value):
    with pytest.raises(TypeError, match="has no place in front matter"):
        front_matter({"x": value})


def test_the_card_of_ratings_has_the_figures_that_were_measured(rater):
    errors = CollabInterpretation(rater).errors()
    text = rater.card(errors, notes={"source": SOURCE, "split": "random", "valid_pct": 0.2, "seed": 7})
    index, page = parts_of(text)
    result, = index["model-index"][0]["results"]
    assert index["library_name"] == "collab" and "rating-prediction" in index["tags"]
    assert result["task"]["name"] == "Rating prediction" and result["dataset"]["name"] == 'my "films" | <b>: #1, é.csv'
    own = errors.set_index("model").loc["EmbeddingDotBias"]
    assert {m["type"]: m["value"] for m in result["metrics"]} == {name: round(own[name], 4) for name in ("rmse", "mae")}
    for row in errors.to_dict("records"):
        assert f"| `{row['model']}` | {row['rmse']:.4f} | {row['mae']:.4f} |" in page
    assert "Error on 120 held-out ratings" in page
    assert "120 ratings were held out by `random`, 0.2 of all, seed 7." in page and "test part" not in page
    assert "| training ratings | 480 |" in page and "| users | 40 |" in page and "| ratings | 1 to 5, mean" in page
    assert r"\<b\>" in page and "C:" not in text and "| `n_factors` | `50` |" in page


def test_the_card_of_a_ranker_has_its_ranking_beside_the_most_popular_items():
    learn = fitted("als", implicit=True, threshold=3)
    result = evaluate(learn, k=5, metrics=("ndcg", "recall", "coverage"))
    index, page = parts_of(learn.card(result))
    found = index["model-index"][0]["results"][0]
    assert "ranking" in index["tags"] and found["dataset"]["name"] == "not recorded"
    assert {m["type"]: m["value"] for m in found["metrics"]} == {
        "ndcg@5": round(result.summary["ndcg"], 4), "recall@5": round(result.summary["recall"], 4),
        "coverage": round(result.summary["coverage"], 4)}
    row = f"| ndcg@5 | {result.summary['ndcg']:.4f} | {result.baseline.summary['ndcg']:.4f} |"
    assert row in page and "| what counts | rows rated above 3 |" in page and "solved in 1 sweep" in page
    assert "RMSE" not in page and "units of the rating" not in page


def test_without_results_the_card_has_what_the_last_epoch_recorded_or_nothing(rater):
    index, page = parts_of(rater.card())
    row = rater.recorder.rows[-1]
    assert {m["type"]: m["value"] for m in index["model-index"][0]["results"][0]["metrics"]} == {
        name: round(row[name], 4) for name in ("rmse", "mae")}
    assert "baselines were not measured" in page and "| source | not recorded |" in page
    bare = collab_learner(small_data(valid_pct=0))
    index, page = parts_of(bare.card())
    assert "model-index" not in index and "None were measured." in page
    assert "No training of it is recorded." in page and "`lr`" not in page
    assert "Nothing was held out." in page


def test_the_code_of_the_card_runs_and_the_card_of_the_loaded_learner_says_the_same(rater, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rater.export("films.safetensors", source="films.csv")
    text = (tmp_path / "films.md").read_text()
    code, = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    names = {}
    exec(code, names)
    pd.testing.assert_frame_equal(names["learn"].recommend(names["user"]), rater.recommend(names["user"]))
    assert "films.safetensors" in code and parts_of(text)[0]["model-index"][0]["name"] == "films"
    again = load_learner("films.safetensors").card(file="films.safetensors")
    assert re.sub("sha256 .*", "", again) == re.sub("sha256 .*", "", text)


def test_a_card_is_replaced_and_a_page_of_ones_own_is_not(rater, tmp_path):
    path = tmp_path / "m.safetensors"
    rater.export(path, source="first")
    rater.export(path, source="second")
    page = card_path(path)
    assert page == tmp_path / "m.md" and "on second" in page.read_text()
    for own in (page.read_text().replace("## Limits", "## Limits\n\nNot for horror."), "# My notes\n"):
        page.write_text(own)
        with pytest.warns(CollabWarning, match=r"m\.md was not written by collab, or was changed since.*card=False"):
            rater.export(path, source="third")
        assert page.read_text() == own and load_learner(path).notes["source"] == "third"
    page.unlink()
    rater.export(path, card=False)
    assert not page.exists()
    rater.export(path, card="# As I like it\n")
    assert page.read_text() == "# As I like it\n"
    assert card_path("model.v2") .name == "model.v2.md" and card_path("a.md").name == "a.md.md"


def test_no_card_of_the_model_before_stays_beside_a_new_one(rater, tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    rater.export(path)
    rater.export(path, card=False)
    assert path.exists() and not card_path(path).exists()
    card_path(path).write_text("# Mine\n")
    rater.export(path, card=False)
    assert card_path(path).read_text() == "# Mine\n"
    card_path(path).unlink()
    rater.export(path)

    def fails(*_):
        raise ZeroDivisionError
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("collab.cli.figures.measure", fails)
        finish(rater, rater.data, path, {}, say=len)
    assert path.exists() and not card_path(path).exists()
    rater.export(path)
    before = path.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("collab.learner.card._data", fails)
        rater.export(path, source="new")
    assert path.read_bytes() == before and card_path(path).exists()


def test_the_name_of_a_file_that_is_no_text_is_written_as_far_as_it_is(rater, tmp_path):
    rater.export(tmp_path / "m.safetensors", source="caf\udce9.csv", split="u\udce9")
    assert "| source | `caf?.csv` |" in (tmp_path / "m.md").read_text()
    rater.export(tmp_path / "m.safetensors")
    assert "not recorded" in (tmp_path / "m.md").read_text()        # the card was known for ours
    rater.export(tmp_path / "own", card="# caf\udce9")
    assert (tmp_path / "own.md").read_text() == "# caf?"


def test_the_card_of_an_ensemble_names_its_members_and_invents_no_training():
    both = average_learners([fitted("als", implicit=True, threshold=3), fitted("ease", implicit=True, threshold=3)])
    _, page = parts_of(both.card())
    assert "`RankEnsemble` of `ALS`, `EASE` ranks items" in page and "No training of it is recorded." in page
    assert not re.search("`(lr|wd|optimizer|bs|loss)`", page)


def test_a_model_that_the_file_cannot_name_says_so(tmp_path):
    class Own(nn.Module):
        def __init__(self, data):
            super().__init__()
            self.u, self.i = nn.Embedding(data.n_users, 2), nn.Embedding(data.n_items, 2)

        def forward(self, users, items):
            return (self.u(users) * self.i(items)).sum(1)
    data = small_data()
    learn = collab_learner(data, Own(data), loss_func=lambda pred, target: (pred - target).square().mean())
    _, page = parts_of(learn.card(file=tmp_path / "deep" / "m.safetensors"))
    assert "load_learner('m.safetensors', model=...)" in page and "build the model with the same arguments" in page
    assert "The file does not hold the loss" in page


def settled(text):
    """The sections of a page by their names."""
    return dict(zip(*[iter(re.split(r"^## (.*)\n", text, flags=re.M)[1:])] * 2))


@pytest.mark.parametrize(("test", "said"), [
    (0.1, "60 further ratings, 0.1 of all, were held out before as a test part."),
    ("C:\\mine\\later.csv", "60 further ratings, those of `later.csv`, are a test part."),
    (None, "60 further ratings are a test part; how they were chosen is not recorded."),
])
def test_the_split_tells_of_the_test_part_and_results_say_which_part_is_theirs(test, said, tmp_path):
    learn = fitted(test=0.1)                    # 60 of 600, then a fifth of the 540 that are left
    notes = {"split": "random", "valid_pct": 0.2, "seed": 7, "test": test}
    errors = errors_and_advice(learn, learn.data.test)[0]
    text = learn.card(errors, notes=notes, part="test")
    assert parts_of(text)[0]["model-index"][0]["results"][0]["dataset"]["split"] == "test"
    page = settled(text)
    rest = "all" if isinstance(test, str) else "what the test part left"
    assert page["Split"].strip() == f"108 ratings were held out by `random`, 0.2 of {rest}, seed 7. {said}"
    assert "Error on the 60 held-out ratings of the test part," in page["Results"]
    assert ("What was held out comes from the same table" in page["Limits"]) == (not isinstance(test, str))
    assert "Error on the 108 held-out ratings of the validation part," in learn.card(
        CollabInterpretation(learn).errors(), part="valid")
    learn.export(tmp_path / "m", card=False, **notes)
    assert "168 ratings were held out, in a validation part" in load_learner(tmp_path / "m").card() or test is None
    with pytest.raises(ValueError, match="'tests' is neither 'valid' nor 'test'"):
        learn.card(errors, part="tests")


def test_a_test_part_alone_is_no_nothing():
    learn = fitted(valid_pct=0, test=0.1)
    page = settled(learn.card(notes={"split": "random", "valid_pct": 0, "test": 0.1}))
    assert page["Split"].strip() == "60 ratings, 0.1 of all, were held out as a test part, and none for validation."
    ranker = fitted("als", implicit=True, threshold=3, test=0.1)
    page = settled(ranker.card(evaluate(ranker, ranker.data.test), part="test"))
    assert "by what was held out in the test part, beside" in page["Results"]


@pytest.mark.parametrize(("test", "part"), [(None, "validation"), (0.1, "test")])
def test_a_tuned_model_says_what_chose_its_settings(rater, test, part):
    notes = {"tuned": {"settings": {"n_factors": 8}, "trials": 12, "metric": "rmse"}, "test": test}
    limits = settled(rater.card(notes=notes))["Limits"]
    assert "12 trials of other settings were compared by `rmse` on a part of the training ratings" in limits
    assert f"was decided on the {part} part" in limits and "chosen by it is not recorded" not in limits


def test_weights_that_were_restored_have_the_figures_of_their_epoch_and_of_no_other(tmp_path):
    learn = fitted(epochs=0)
    with learn.no_logging():
        learn.fit(3, cbs=[Scripted([0.5, 0.3, 0.7]), SaveBest("mae")])
    index, page = parts_of(learn.card())
    assert {m["type"]: m["value"] for m in index["model-index"][0]["results"][0]["metrics"]}["mae"] == 0.3
    assert "On the validation part after epoch 2 of 3, whose weights were put back" in page
    learn.export(tmp_path / "m.safetensors")
    again = load_learner(tmp_path / "m.safetensors")
    assert "| `mae` | 0.3000 |" in again.card()
    with learn.no_logging():
        learn.fit(1, cbs=Scripted([0.4]))
    assert "| `mae` | 0.4000 |" in learn.card() and "after the last epoch" in learn.card()


def test_weights_that_changed_after_the_last_epoch_have_no_figure():
    several = fitted(epochs=0)
    with several.no_logging():
        several.fit(2, cbs=SnapshotEnsemble(every=1))
    assert "model-index" not in parts_of(several.card())[0]
    learn = fitted(bs=64)
    with learn.no_logging():
        learn.fit(1, cbs=cut_at(learn.recorder.n_batches + 3))
    index, page = parts_of(learn.card())
    assert "model-index" not in index and "None were measured: the weights changed after the last epoch" in page


def test_train_writes_the_card_with_the_figures_that_it_prints(collab, trained, tmp_path):
    out, log = tmp_path / "m.safetensors", tmp_path / "run.jsonl"
    words = ("train", trained / "ratings.csv", "--epochs", 2, "--factors", 4, "--out", out)
    code, printed, _ = collab(*words, "--log", log)
    index, page = parts_of((tmp_path / "m.md").read_text())
    figures = {m["type"]: m["value"] for m in index["model-index"][0]["results"][0]["metrics"]}
    assert code == 0 and f"Wrote {tmp_path / 'm.md'}" in printed
    assert re.search(rf"dot_bias +{figures['rmse']:.4f} +{figures['mae']:.4f}", printed)
    for name in ("mean rating", "mean and biases"):
        cells = re.search(rf"{name} +(\S+) +(\S+)", printed).groups()
        assert f"| `{name}` | {cells[0]} | {cells[1]} |" in page
    assert "held out by `random`" in page and "| source | `ratings.csv` |" in page
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["begin", "epoch", "epoch", "end"] and lines[0]["n_users"] == 60
    (tmp_path / "m.md").unlink()
    code, printed, _ = collab(*words, "--no-card")
    assert code == 0 and "model's card" not in printed and not (tmp_path / "m.md").exists()


def test_one_item_of_few_ratings_is_one_and_several_are_several():
    rows = [(user, item, 1 + (user * item) % 5) for user in range(8) for item in range(6)]
    for rare, says in (([90], "- 1 item has fewer than 5 training ratings: little is known of it."),
                       ([90, 91], "- 2 items have fewer than 5 training ratings: little is known of them.")):
        table = pd.DataFrame([*rows, *((1, item, 3) for item in rare)], columns=["user", "item", "rating"])
        data = CollabDataBunch.from_df(table, valid_pct=0)
        assert f"{says}\n" in collab_learner(data, "dot_bias").card()

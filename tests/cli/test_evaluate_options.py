"""collab evaluate on ratings that come from elsewhere, as they are."""

import json
from io import StringIO

import pandas as pd
import pytest


@pytest.fixture
def messy(trained, tmp_path):
    """Ratings of training in columns of other names, some of them twice, with a line and a rating that are none."""
    rows = pd.read_csv(trained / "ratings.csv").iloc[:60]
    rows = pd.concat([rows, rows.iloc[:10].assign(rating=1.0)])
    rows = rows.rename(columns={"user": "kunde", "item": "film", "rating": "note", "time": "am"})
    text = rows[["am", "kunde", "film", "note"]].to_csv(index=False)
    (tmp_path / "messy.csv").write_text(text + "5,1,2,good\n5,1,2,3,4,5\n")
    clean = pd.concat([rows.iloc[10:60], rows.iloc[:10].assign(note=(rows.iloc[:10]["note"] + 1) / 2)])
    clean.set_axis(["user", "item", "rating", "time"], axis=1).to_csv(tmp_path / "clean.csv", index=False)
    return tmp_path


COLUMNS = ["--user-col", "kunde", "--item-col", "film", "--rating-col", "note"]


@pytest.mark.filterwarnings("ignore::collab.CollabWarning")
def test_messy_data_are_measured_as_clean_ones(collab, trained, messy):
    evaluate = ["evaluate", trained / "model.safetensors", "--as", "json", "--data"]
    code, out, err = collab(*evaluate, messy / "messy.csv", *COLUMNS, "--time-col", "am", "--bad-rows", "drop",
                            "--duplicates", "mean")
    assert code == 0, err
    found, wanted = json.loads(out), json.loads(collab(*evaluate, messy / "clean.csv")[1])
    assert found["held_out"] == wanted["held_out"] == 60 and found["part"] is None
    for one, other in zip(found["errors"], wanted["errors"]):
        assert one["rmse"] == pytest.approx(other["rmse"], abs=1e-5)


@pytest.mark.parametrize(("words", "says"), [
    (["--user-col", "kunde"], "without --data this takes no --user-col"),
    (["--bad-rows", "drop", "--duplicates", "mean"], "without --data this takes no --duplicates and no --bad-rows"),
    (["--data", "{dir}/messy.csv", "--user-col", "kunden", "--bad-rows", "drop"], "--user-col kunden: "),
    (["--data", "{dir}/messy.csv", *COLUMNS], "--bad-rows 'drop'")])
@pytest.mark.filterwarnings("ignore::collab.CollabWarning")
def test_what_messy_data_need_is_said(collab, trained, messy, words, says):
    code, _, err = collab("evaluate", trained / "model.safetensors", *(word.format(dir=messy) for word in words))
    assert code == 2 and says in err and err.count("Error") == 1


def test_what_diversity_costs_is_shown_beside_the_lists_without_it(collab, trained):
    code, out, err = collab("evaluate", trained / "model.safetensors", "--k", 5, "--diversity", 0.7, "--as", "json")
    assert code == 0, err
    plain, made = json.loads(out)["ranking"]
    without = json.loads(collab("evaluate", trained / "model.safetensors", "--k", 5, "--as", "json")[1])["ranking"][1]
    assert plain["model"] == "dot_bias" and made["model"] == "dot_bias, diversity 0.7"
    assert plain["ndcg"] == without["ndcg"] and made["diversity"] > plain["diversity"] and made["ndcg"] != plain["ndcg"]
    assert json.loads(out)["k"] == 5 and json.loads(out)["remark"] is None
    out = collab("evaluate", trained / "model.safetensors", "--diversity", 0.7)[1]
    assert out.count("dot_bias") >= 2 and "dot_bias, diversity 0.7" in out and "EmbeddingDotBias" not in out


def test_what_was_trained_on_and_the_error_are_one_line_apart(collab, trained):
    code, out, _ = collab("evaluate", trained / "model.safetensors", "--data", trained / "ratings.csv", "--split",
                          "none")
    assert code == 0 and "says little.\n\nError on 900 ratings" in out


def test_metrics_of_how_sure_a_model_is(collab, trained, tmp_path):
    model = tmp_path / "bayes.safetensors"
    assert collab("train", trained / "ratings.csv", "--model", "bayes", "--factors", 3, "--epochs", 2, "--no-card",
                  "--out", model)[0] == 0
    code, out, _ = collab("evaluate", model, "--metrics", "log_loss", "coverage(0.9)", "--as", "csv")
    assert code == 0
    table = pd.read_csv(StringIO(out)).set_index("model")
    assert [*table] == ["log_loss", "coverage(0.9)"] and 0.7 < table.loc["bayes", "coverage(0.9)"] < 1
    assert table["coverage(0.9)"].isna().sum() == 2 and table["log_loss"].isna().sum() == 1
    _, shown, _ = collab("evaluate", model, "--metrics", "log_loss,coverage(0.9)")
    assert f"{table.loc['bayes', 'log_loss']:.4f}" in shown and "nan" not in shown
    ranked = collab("evaluate", model, "--metrics", "hit", "coverage", "--k", 5)[1]
    assert "Top 5" in ranked and "hit" in ranked and "coverage" in ranked and "ndcg" not in ranked
    assert "coverage" in collab("evaluate", model, "--metrics", "coverage")[1]


def test_metrics_that_a_model_does_not_have(collab, trained):
    model = trained / "model.safetensors"
    code, out, err = collab("evaluate", model, "--metrics", "log_loss")
    assert code == 2 and not out and "dot_bias" in err and "--model bayes" in err
    assert "coverage(0.9)" in collab("evaluate", model, "--metrics", "coverage(9)")[2]
    code, _, err = collab("evaluate", model, "--metrics", "ndcg", "rmse")
    assert code == 2 and "--metrics rmse is no metric of rankings" in err

"""collab recommend --risk, --interval: by what a model is sure of, by a draw, and with intervals."""

import re
from io import StringIO

import pandas as pd
import pytest
import torch

from collab import CollabDataBunch, collab_learner, load_learner


@pytest.fixture(scope="module")
def bayes(trained, tmp_path_factory):
    model = tmp_path_factory.mktemp("bayes") / "bayes.safetensors"
    data = CollabDataBunch.from_df(pd.read_csv(trained / "ratings.csv"), seed=0, device="cpu")
    learn = collab_learner(data, "bayes", 3)
    with learn.no_logging():
        learn.fit(2)
    learn.export(model, card=False)
    return model


def listed(collab, *words):
    code, out, err = collab("recommend", *words, "--as", "csv")
    assert code == 0, err
    return pd.read_csv(StringIO(out))


def test_lists_by_risk_and_with_intervals(collab, bayes, tmp_path):
    learn = load_learner(bayes, device="cpu")
    found = listed(collab, bayes, "--user", 1, "-n", 5, "--risk", 0.1, "--interval", 0.9)
    pd.testing.assert_frame_equal(found, learn.recommend(1, 5, risk=0.1, interval=0.9), check_dtype=False, rtol=1e-5)
    shown = collab("recommend", bayes, "--user", 1, "--interval", 0.9)[1]
    assert re.search(r"rank +item +score +low +high\n", shown)
    (tmp_path / "mine.csv").write_text("item,rating\n1,5\n2,1\n")
    new = listed(collab, bayes, "--ratings", tmp_path / "mine.csv", "-n", 5, "--risk", 0.2)
    assert new["item"].tolist() == learn.recommend(ratings={1: 5, 2: 1}, n=5, risk=0.2)["item"].tolist()
    assert collab("recommend", bayes, "--all", "-o", tmp_path / "all.csv", "-n", 2, "--interval", 0.5)[0] == 0
    assert [*pd.read_csv(tmp_path / "all.csv")][-2:] == ["low", "high"]


def test_a_draw_is_another_one_each_time_unless_it_has_a_seed(collab, bayes):
    """Of 14 draws that are kept, eight processes do not all take the same, though torch begins alike in each."""
    draw, found = [bayes, "--user", 1, "-n", 20, "--risk", "draw"], set()
    for _ in range(8):
        torch.manual_seed(0)
        found.add(tuple(listed(collab, *draw)["score"]))
    assert len(found) > 1
    again = [listed(collab, *draw, "--seed", 3) for _ in range(2)]
    pd.testing.assert_frame_equal(*again)


@pytest.mark.parametrize(("words", "says"), [
    (["--risk", "safe"], "--risk safe is neither mean nor draw nor a number between 0 and 1"),
    (["--risk", "1"], "--risk 1 is neither mean nor draw"),
    (["--interval", "90"], "--interval 90 is not a probability between 0 and 1, such as 0.9"),
    (["--seed", "3"], "without --risk draw nothing is drawn"),
    (["--risk", "0.1"], "dot_bias gives scores without their uncertainty; train a model of draws: collab train DATA "
                        "--model bayes"),
    (["--interval", "0.9"], "dot_bias gives scores without their uncertainty")])
def test_risks_that_cannot_be_taken_are_refused(collab, trained, words, says):
    code, out, err = collab("recommend", trained / "model.safetensors", "--user", 1, *words)
    assert code == 2 and says in err and "Recommended" not in out


def test_an_index_takes_no_risk(collab, bayes, tmp_path):
    assert collab("index", bayes, "-o", tmp_path / "i.index")[0] == 0
    for words in (["--risk", "0.1"], ["--interval", "0.9"]):
        code, _, err = collab("recommend", tmp_path / "i.index", "--user", 1, *words)
        assert code == 2 and f"It takes no {words[0]}; the model file does" in err

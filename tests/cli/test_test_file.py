"""collab train --test FILE: what is said of that file names it."""

import pytest

TRAIN = ["--model", "als_explicit", "--epochs", 1, "--factors", 2, "--no-card"]


@pytest.fixture
def files(tmp_path):
    """Ratings, and a file for the end: its rating many is none, a pair of it comes again, and two are trained on."""
    rows = [f"{k % 7},{k % 11},{k % 5 + 1}" for k in range(70)]
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
    end = ["0,4,3", "2,0,many", "0,4,4", "0,0,2", "1,1,2", "1,5,5"]     # r.csv has no 0,4 and no 1,5
    (tmp_path / "end.csv").write_text("\n".join(["user,item,rating", *end]) + "\n")
    return tmp_path / "r.csv", tmp_path / "end.csv", tmp_path / "m.safetensors"


@pytest.mark.filterwarnings("default::collab.CollabWarning")
def test_rows_left_out_of_a_test_file_are_said_to_be_of_it(collab, files):
    ratings, end, model = files
    train = ["train", ratings, "--test", end, *TRAIN, "--valid-pct", 0, "--out", model]
    code, _, err = collab(*train, "--bad-rows", "drop")
    assert code == 0 and f"Warning: {end}: 1 of 6 rows is left out, as asked\n" in err
    code, _, err = collab(*train, "--bad-rows", "drop", "--quiet")
    assert code == 0 and "left out" not in err
    code, _, err = collab(*train)
    assert code == 2 and f"Error: {end}: column 'rating': ratings must be numbers" in err and "'many' at line 3)" in err


@pytest.mark.filterwarnings("default::collab.CollabWarning")
def test_training_says_which_pairs_of_a_test_file_come_again_or_are_trained_on(collab, files):
    ratings, end, model = files
    train = ["train", ratings, *TRAIN, "--bad-rows", "drop", "--valid-pct", 0, "--out", model]
    code, out, _ = collab(*train, "--test", end)
    assert code == 0 and (f"{end}: of 5 ratings, 1 rates a pair again and 2 are of pairs that are trained on too: the "
                          "error on them looks smaller than it is.\n") in out
    end.write_text("user,item,rating\n0,4,3\n1,5,5\n")
    code, out, _ = collab(*train, "--test", end)
    assert code == 0 and "of 2 ratings" not in out

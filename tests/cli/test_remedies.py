"""What an error on the command line tells to do is an option or a change to the file, and no Python."""

import re

import pytest

from collab.cli.command import as_options

PYTHON = re.compile(r"df\.|pd\.|dropna|astype|Index\.load|load_learner|add_ratings|items=|_features=|bad_\w+=")


@pytest.mark.parametrize("rows, options, remedy", [
    ("a,1,3\n,1,4\nb,2,5\n", (), "leave them out with --bad-rows 'drop'"),
    ("a,1,3\nb,1,\nb,2,5\n", (), "leave them out with --bad-rows 'drop'"),
    ("a,1,3\nb,1,inf\nb,2,5\n", (), "leave them out with --bad-rows 'drop'"),
    ("a,1,3\nb,1,k.A.\nb,2,5\n", (), "leave them out with --bad-rows 'drop', or say which column holds the ratings"),
    ('a,1,"3,5"\nb,1,k.A.\nb,2,"4,0"\n', (), "read the file with --decimal ',', and leave out what is no number with"),
    ("a,1,007\nb,1,008\nb,2,009\n", (), "say which column holds the ratings with --rating-col ..."),
    ("a,1,3\nb,1,4\nb,2,5\n", ("--model", "hybrid"), "pass --items or --users"),
])
def test_remedies_are_options_and_no_python(collab, tmp_path, rows, options, remedy):
    (tmp_path / "r.csv").write_text("user,item,rating\n" + rows)
    code, _, err = collab("train", tmp_path / "r.csv", *options, "--out", tmp_path / "m")
    assert code == 2 and remedy in err and not PYTHON.search(err)


def test_remedies_for_other_files_than_ratings_are_options_too(collab, trained, tmp_path):
    (tmp_path / "items.csv").write_text("item,title\n" + "".join(f"{k // 2},Film {k}\n" for k in range(20)))
    code, _, err = collab("train", trained / "ratings.csv", "--items", tmp_path / "items.csv", "--out", tmp_path / "m")
    assert code == 2 and "leave one row per id in the file" in err and not PYTHON.search(err)
    said = as_options("an index; read it with Index.load(path)")
    assert said == "an index; collab recommend and collab serve take index files"
    said = as_options("where= needs more: train with a table of them (items=)")
    assert said == "--where needs more: train with a table of them (--items)"
    told = "correct or drop these rows, or parse the column first, with pd.to_datetime(df[column]); a file"
    assert as_options(told) == "correct or drop these rows; a file"


@pytest.mark.filterwarnings("default:.*left out")
def test_rows_of_a_file_are_named_by_their_lines(collab, tmp_path):
    rows = [f"{k % 7},{k % 11},{k % 5}" for k in range(60)]
    rows[4], rows[9] = "", "2,9,many"               # the row of a blank line is none
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
    code, _, err = collab("train", tmp_path / "r.csv")
    assert code == 2 and "(such as 'many' at line 11)" in err
    code, _, err = collab("train", tmp_path / "r.csv", "--bad-rows", "drop", "--epochs", 1, "--out", tmp_path / "m")
    assert code == 0 and "1 of 59 rows is left out" in err and "(such as 'many' at line 11)" in err
    code, _, err = collab("compare", tmp_path / "r.csv", "--models", "als_explicit")
    assert code == 2 and "(such as 'many' at line 11)" in err
    for split in (["--folds", 2], ["--split", "random"]):
        code, _, err = collab("compare", tmp_path / "r.csv", "--models", "als_explicit", "--bad-rows", "drop", *split)
        assert code == 0 and "1 of 59 rows is left out" in err and "(such as 'many' at line 11)" in err


@pytest.fixture
def nightly(tmp_path):
    """A file with a rating that is not a number, a line of too many cells, and a pair that is rated again."""
    rows = [f"{k % 7},{k % 11},{k % 5 + 1}" for k in range(70)]
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating", *rows, "2,9,many", "3,1,2,5", "0,0,4"]) + "\n")
    return tmp_path / "r.csv"


DROP = ["--bad-rows", "drop"]
LOST = ["1 of 72 rows is left out", "1 line has more fields than the first"]


@pytest.mark.filterwarnings("default::collab.CollabWarning")
def test_quiet_says_nothing_of_what_options_ask_for_and_all_else(collab, nightly):
    model = nightly.parent / "m.safetensors"
    train = ["train", nightly, "--epochs", 1, "--factors", 2, "--out", model, "--no-card"]
    others = [["tune", nightly, "--trials", 1, "--epochs", 1, "--factors", 2, "--out", nightly.parent / "t"],
              ["compare", nightly, "--models", "als_explicit", "--epochs", 1]]
    for command in (train, *others):
        _, loud, err = collab(*command, *DROP, "--duplicates", "mean")
        assert all(lost in err for lost in [*LOST, "1 of 71 rows rate a pair again"])
        code, quiet, err = collab(*command, *DROP, "--duplicates", "mean", "-q")
        assert code == 0 and not err and quiet.splitlines()[0] == loud.splitlines()[0]
    for command in (["evaluate", model, "-q"], ["report", model, "-q", "--out", nightly.parent / "page.html"]):
        assert all(lost in collab(*command[:2], *command[3:])[2] for lost in LOST)
        assert collab(*command)[::2] == (0, "")
    code, _, err = collab(*train, *DROP, "-q")          # nobody has said what to do with pairs that come again
    assert code == 0 and err.startswith("Warning: 1 of 71 rows rate a pair again") and err.count("\n") == 1
    code, out, err = collab(*train, "-q")
    assert code == 2 and err.startswith("Error: ") and not out


def test_a_quiet_check_says_nothing_of_what_options_ask_for(collab, nightly):
    code, out, _ = collab("check", nightly, *DROP, "--duplicates", "keep")
    assert code == 0 and "are left out" in out and "more fields" in out and "rate a pair again" in out
    code, out, _ = collab("check", nightly, *DROP, "--duplicates", "keep", "-q")
    assert code == 0 and "Nothing stops training.\n" in out
    code, out, _ = collab("check", nightly, *DROP, "-q")
    assert code == 0 and "Nothing stops training; 1 thing to know:" in out and "rate a pair again" in out
    code, out, _ = collab("check", nightly, "-q")
    assert code == 1 and "stop training" in out.replace("stops", "stop")

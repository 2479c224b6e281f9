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
    assert code == 0 and "1 of 59 rows are left out" in err and "(such as 'many' at line 11)" in err

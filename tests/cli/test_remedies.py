"""What an error on the command line tells to do is an option or a change to the file, and no Python."""

import re

import pytest

from collab.cli.command import as_options
from collab.cli.remedies import possible

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
    asked = "Warning: 1 of 59 rows is left out, as asked (collab check shows them)\n"
    assert code == 0 and asked in err and "many" not in err
    code, _, err = collab("compare", tmp_path / "r.csv", "--models", "als_explicit")
    assert code == 2 and "(such as 'many' at line 11)" in err
    for split in (["--folds", 2], ["--split", "random"]):
        code, _, err = collab("compare", tmp_path / "r.csv", "--models", "als_explicit", "--bad-rows", "drop", *split)
        assert code == 0 and err.count(asked) == 1 and "many" not in err
    for command in (["evaluate", tmp_path / "m"], ["report", tmp_path / "m", "--out", tmp_path / "page.html"]):
        code, _, err = collab(*command)
        assert code == 0 and asked in err and "many" not in err
    code, out, _ = collab("check", tmp_path / "r.csv", "--bad-rows", "drop")
    assert code == 0 and "(such as 'many'; line 11)" in " ".join(out.split())
    code, _, err = collab("evaluate", tmp_path / "m", "--data", tmp_path / "r.csv", "--bad-rows", "error")
    assert code == 2 and "'many' at line 11)" in err


@pytest.fixture
def nightly(tmp_path):
    """A file with a rating that is not a number, a line of too many cells, and a pair that is rated again."""
    rows = [f"{k % 7},{k % 11},{k % 5 + 1}" for k in range(70)]
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating", *rows, "2,9,many", "3,1,2,5", "0,0,4"]) + "\n")
    return tmp_path / "r.csv"


DROP = ["--bad-rows", "drop"]
LOST = ["Warning: 1 of 72 rows is left out, as asked (collab check shows them)\n",
        "r.csv: 1 line is left out, as asked (collab check shows them)\n"]


@pytest.mark.filterwarnings("default::collab.CollabWarning")
def test_quiet_says_nothing_of_what_options_ask_for_and_all_else(collab, nightly):
    model = nightly.parent / "m.safetensors"
    train = ["train", nightly, "--epochs", 1, "--factors", 2, "--out", model, "--no-card"]
    others = [["tune", nightly, "--trials", 1, "--epochs", 1, "--factors", 2, "--out", nightly.parent / "t"],
              ["compare", nightly, "--models", "als_explicit", "--epochs", 1]]
    for command in (train, *others):
        _, loud, err = collab(*command, *DROP, "--duplicates", "mean")
        asked = "Warning: 1 of 71 rows rate a pair again, and each pair has one row, as asked\n"
        assert all(lost in err for lost in [*LOST, asked]) and sum(line.startswith("Warning") for line in
                                                                   err.splitlines()) == 3
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


@pytest.fixture
def untidy(tmp_path):
    """Ratings of which one has no user, films of which one has no id, and a new user's file with a gap."""
    rows = [f"k{k % 17},b{k % 13},{k % 5 + 1},Ort {k % 3}" for k in range(200)]
    rows[10] = ",b1,3,Ort 0"
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating,shop", *rows]) + "\n")
    (tmp_path / "films.csv").write_text("item,title\n" + "".join(f"b{k},Film {k}\n" for k in range(13)) + ",Film\n")
    (tmp_path / "new.csv").write_text("item,rating\nb1,4\nb3,\n,3\nb2,2\n")
    return tmp_path


@pytest.mark.filterwarnings("default")
def test_the_column_that_is_wrong_in_all_rows_is_blamed_and_what_is_given_is_no_remedy(collab, untidy):
    code, _, err = collab("train", untidy / "r.csv", "--rating-col", "shop", *DROP, "--out", untidy / "m")
    assert code == 2 and "'shop': ratings must be numbers, but 200 of 200 are not (such as 'Ort 0' at line 2)" in err
    assert err.rstrip().endswith("; say which column holds the ratings with --rating-col ...")
    code, _, err = collab("train", untidy / "r.csv", "--out", untidy / "m")
    assert code == 2 and "at line 12); correct these lines, or leave them out with --bad-rows 'drop'" in err


@pytest.mark.filterwarnings("default")
def test_rows_of_other_files_are_named_by_file_and_line_with_what_can_be_done(collab, untidy):
    train = ["train", untidy / "r.csv", *DROP, "--epochs", 1, "--no-card", "--out", untidy / "m"]
    code, _, err = collab(*train, "--items", untidy / "films.csv")
    assert code == 2 and f"the table of items ({untidy / 'films.csv'}): column 'item': the item ids: 1 of 14" in err
    assert "first at line 15); correct these lines" in err and "--bad-rows" not in err.splitlines()[-1]
    assert collab(*train)[0] == 0
    code, _, err = collab("recommend", untidy / "m", "--ratings", untidy / "new.csv")
    assert code == 2 and "new.csv: column 'item': 1 of 4 ids are missing (first at line 4); correct these l" in err


@pytest.mark.parametrize("before", ["b3,", "unknown,4"])
def test_the_line_of_a_word_among_new_ratings_is_told_beside_blank_ratings_and_unknown_items(collab, untidy, before):
    train = ["train", untidy / "r.csv", *DROP, "--epochs", 1, "--no-card", "-q", "--out", untidy / "m"]
    assert collab(*train)[0] == 0
    (untidy / "new.csv").write_text(f"item,rating\nb1,4\n{before}\nb2,good\n")
    code, _, err = collab("recommend", untidy / "m", "--ratings", untidy / "new.csv")
    assert code == 2 and ("new.csv: column 'rating': ratings must be numbers, but 1 of 3 are not (such as 'good' at "
                          "line 4); correct these lines") in err


def test_a_remedy_is_an_option_that_is_there_and_has_another_value():
    said = ("column 'a': 2 of 9 ratings are missing; correct these lines, or leave them out with --bad-rows 'drop', or "
            "say which column holds the ratings with --rating-col ...")
    short = said.replace(", or leave them out with --bad-rows 'drop'", "")
    every = {"--bad-rows": None, "--rating-col": None, "--sep": ";"}
    assert possible(said, every) == said and possible(said, every | {"--bad-rows": "drop"}) == short
    assert possible(said, {}) == "column 'a': 2 of 9 ratings are missing; correct these lines"
    assert possible("a single column; say --sep ','", every) == "a single column; say --sep ','"
    other = "no times; train again with --time-col ..., or name them"
    assert possible(other, {}) == other         # of another command
    commas = "b; they have a comma: read the file with --decimal ',', and leave out the rest with --bad-rows 'drop'"
    assert possible(commas, {"--decimal": None}) == "b; they have a comma: read the file with --decimal ','"

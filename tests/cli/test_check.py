"""collab check: exit codes, and a command that works at the end."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from collab import DataError, DataReport, random_split


@pytest.fixture
def german(tmp_path):
    rows = [f"K{u};A{i};{(u * i) % 5 + 1},5;{u + 1:02d}.{i + 1:02d}.2018" for u in range(8) for i in range(10)]
    rows[3], rows[11] = "K0;A3;k.A.;01.04.2018", ";A1;2,5;01.01.2018"
    (tmp_path / "german.csv").write_text("\n".join(["Kunde;Artikel;Note;Datum", *rows]) + "\n")
    return tmp_path / "german.csv"


def next_of(out):
    return shlex.split(next(line for line in out.splitlines() if line.startswith("Next: ")).removeprefix("Next: "))


@pytest.mark.filterwarnings("default:.*rows (is|are) left out")
def test_the_command_at_the_end_trains_on_the_messy_file_and_evaluates_it(collab, german, tmp_path):
    code, out, err = collab("check", german)
    assert code == 1 and not err
    assert "--sep ';'" in out and "line 5" in out and "line 13" in out and "=" not in next_of(out)
    words = next_of(out)
    assert words == ["collab", "train", str(german), "--sep", ";", "--decimal", ",", "--time-col", "Datum",
                     "--date-format", "%d.%m.%Y", "--bad-rows", "drop"]
    model = tmp_path / "m.safetensors"
    code, trained, err = collab(*words[1:], "--out", model, "--epochs", 1, "--split", "time")
    assert code == 0 and "Warning: 2 of 80 rows are left out" in err
    code, again, err = collab("evaluate", model)
    assert code == 0 and again.strip() in trained       # read, mended and split in the same way


def test_the_output_in_the_guide_is_that_of_the_command(collab, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "guides" / "your-data.md").read_text()
    books, shown = re.findall(r"^```text\n(.*?)^```", page.partition("## Checking")[2], re.M | re.S)[:2]
    (tmp_path / "books.csv").write_text(books)
    monkeypatch.chdir(tmp_path)
    command, _, wanted = shown.partition("\n")
    code, out, _ = collab(*shlex.split(command.removeprefix("$ collab")))
    assert code == 1 and out.strip() == wanted.strip()


@pytest.mark.filterwarnings("default")
def test_check_refuses_the_times_that_training_refuses_where_they_say_which_rating_is_the_last(collab, tmp_path):
    rows = [f"{k % 6},{k % 4},{k % 5 + 1},{10**9 + k}" for k in range(60)]
    rows[7] = "1,3,2,"
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating,timestamp", *rows]) + "\n")
    for options, code in (((), 0), (("--duplicates", "mean"), 0), (("--duplicates", "last"), 1),
                          (("--duplicates", "last", "--bad-rows", "drop"), 0)):
        found, out, _ = collab("check", tmp_path / "r.csv", *options)
        assert found == code and "1 of 60 times are missing (line 9)" in out
        if code:
            assert next_of(out)[-4:] == ["--duplicates", "last", "--bad-rows", "drop"]
        train = ["train", tmp_path / "r.csv", *options, "--epochs", 1, "--out", tmp_path / "m", "-q"]
        assert collab(*train)[0] == 2 * code


def test_the_share_of_held_out_ratings_that_are_trained_on_is_that_of_random_splits():
    df = pd.DataFrame({"user": [k % 10 for k in range(600)], "item": [k % 23 for k in range(600)],
                       "rating": [k % 5 for k in range(600)]})
    df = pd.concat([df.iloc[:300], df.iloc[:80], df.iloc[:20]], ignore_index=True)
    said = DataReport.from_df(df).problems.iloc[0]["remedy"]
    shares = []
    for seed in range(200):
        train, valid = random_split(0.2, seed)(df)
        known = {*map(tuple, df.iloc[train][["user", "item"]].values.tolist())}
        shares.append(np.mean([(u, i) in known for u, i in df.iloc[valid][["user", "item"]].values.tolist()]))
    share = int(re.search(r"a fifth that is held out at random, (\d+)% would be of pairs", said)[1])
    assert abs(100 * np.mean(shares) - share) < 1.5


def test_a_share_of_a_few_in_a_thousand_is_not_said_to_be_none():
    df = pd.DataFrame({"user": [k // 20 for k in range(800)], "item": [k % 20 for k in range(800)],
                       "rating": [k % 5 for k in range(800)]})
    said = DataReport.from_df(pd.concat([df, df.iloc[:1]], ignore_index=True)).problems.iloc[0]["remedy"]
    assert said.startswith("of a fifth that is held out at random, less than 1% would be of pairs")    # 1.6 of 801


def test_a_good_table_exits_with_0_and_as_json_with_all_of_it(collab, trained):
    code, out, _ = collab("check", trained / "ratings.csv")
    assert code == 0 and "Nothing stops training." in out
    code, out, _ = collab("check", trained / "ratings.csv", "--as", "json")
    read = json.loads(out)
    assert code == 0 and read["command"] == f"collab train {trained / 'ratings.csv'}" and read["counts"]["users"] == 60


def test_counts_are_pointed_to_models_that_rank(collab, tmp_path):
    plays = pd.DataFrame({"listener": [f"L{k % 7}" for k in range(60)], "artist": [f"A{k % 11}" for k in range(60)],
                          "plays": [k**3 % 97 + 1 for k in range(59)] + [5000]})
    plays.to_csv(tmp_path / "plays.csv", index=False)
    code, out, _ = collab("check", tmp_path / "plays.csv")
    assert code == 0 and "This looks like counts" in out and next_of(out)[-3:] == ["--implicit", "--model", "als"]
    code, out, _ = collab(*next_of(out)[1:], "--out", tmp_path / "m.safetensors", "--epochs", 1)
    assert code == 0


@pytest.mark.parametrize("bad, said", [({7: 500}, "line 9, or remove it"),
                                       ({7: 500, 30: -400}, "lines 9 and 32, or remove them")])
def test_what_is_far_from_all_others_is_to_be_corrected_before_training(collab, tmp_path, bad, said):
    table = pd.DataFrame([(user, item, (user * item) % 5 + 1) for user in range(20) for item in range(15)],
                         columns=["user", "item", "rating"])
    table.to_csv(tmp_path / "good.csv", index=False)
    for row, value in bad.items():
        table.loc[row, "rating"] = value
    table.to_csv(tmp_path / "r.csv", index=False)
    lines = collab("check", tmp_path / "r.csv")[1].splitlines()
    at = lines.index(f"Next: correct {said}, unless what is there is meant; then:")
    assert lines[at + 1] == f"  collab train {tmp_path / 'r.csv'}"
    assert f"Next: collab train {tmp_path / 'good.csv'}" in collab("check", tmp_path / "good.csv")[1].splitlines()


def test_spaces_of_an_id_are_shown_as_they_are_where_lines_are_broken(collab, tmp_path):
    for pad in range(14):               # so that each place of the sentence comes to the end of a line
        name = "u" * (pad + 1)
        (tmp_path / "r.csv").write_text(f"{name},item,rating\n007  ,1,3\n007,2,3\n007 ,3,4\n  007,4,4\n")
        out = collab("check", tmp_path / "r.csv")[1]
        assert "such as '007  '; lines" in " ".join(line.strip() for line in out.splitlines()), out
        shown = re.findall(r"as\s+'([ 0-9]+)'\s+and\s+'([ 0-9]+)'\s+do", out)
        assert shown and {*shown[0]} <= {"007", "007  ", "007 ", "  007"} and len({*shown[0]}) == 2, out
        assert all(len(line) <= 96 for line in out.splitlines() if line.startswith(("  note", "      ")))


def test_a_date_is_shown_as_it_would_be_written(collab, tmp_path):
    rows = [f"{u},{i},{(u * i) % 5 + 1},{i + 1:02d}.10.2018" for u in range(8) for i in range(10)]
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating,seen on", *rows]) + "\n")
    out = " ".join(collab("check", tmp_path / "r.csv", "--date-format", "%d.%m.%Y")[1].split())
    assert "it looks like times, such as 2018-10-01, and is not used" in out and "Timestamp" not in out


def test_remedies_for_programs_are_options_too(collab, german):
    told = json.loads(collab("check", german, "--as", "json")[1])
    said = " ".join([told["advice"], *(f"{row['what']} {row['remedy']}" for row in told["problems"])])
    assert "--sep ';'" in said and "--threshold" in said and not re.search(r"\b\w+_?\w*='|threshold=", said)
    said = collab("check", german, "--as", "csv")[1]
    assert "--sep ';'" in said and "sep='" not in said


def test_what_reads_the_file_of_items_is_in_the_command(collab, tmp_path):
    rows = [f"{u},{i},{(u * i) % 5 + 1}" for u in range(8) for i in range(10)]
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
    films = "item;title\n" + "".join(f"{i};Käse {i}\n" for i in range(10))
    (tmp_path / "films.csv").write_text(films, "latin-1")
    code, out, _ = collab("check", tmp_path / "r.csv", "--items", tmp_path / "films.csv")
    assert code == 1 and "is not written in UTF-8" in " ".join(out.split()) and "Next: mend" not in out
    words = next_of(out)
    assert words[-4:] in (["--table-sep", ";", "--table-encoding", "latin-1"],
                          ["--table-encoding", "latin-1", "--table-sep", ";"])
    assert collab(*words[1:], "--epochs", 1, "--no-card", "-o", tmp_path / "m")[0] == 0
    assert "Käse 3" in collab("recommend", tmp_path / "m", "--user", 1, "--include-seen")[1]
    plain = "user;age\n" + "".join(f"{u};{20 + u % 2}\n" for u in range(8))
    (tmp_path / "plain.csv").write_text(plain)      # needs no encoding, and is read with that of the other file
    out = collab("check", tmp_path / "r.csv", "--items", tmp_path / "films.csv", "--users", tmp_path / "plain.csv")[1]
    assert "Next: mend" not in out and {"--table-sep", "--table-encoding"} <= {*next_of(out)}
    (tmp_path / "users.csv").write_text(plain + "9;ä\n")
    both = ["--items", tmp_path / "films.csv", "--users", tmp_path / "users.csv"]
    assert "Next: mend" in collab("check", tmp_path / "r.csv", *both)[1]    # one encoding would not read both
    (tmp_path / "films.csv").write_bytes(b"")
    assert "Next: mend" in collab("check", tmp_path / "r.csv", "--items", tmp_path / "films.csv")[1]


def test_titles_in_the_ratings_are_in_the_command_and_in_the_recommendations(collab, tmp_path):
    table = pd.DataFrame([(user, item, (user * item) % 5 + 1) for user in range(6) for item in range(9)],
                         columns=["user", "item", "rating"])
    table.assign(title=[f"Film {id}" for id in table["item"]]).to_csv(tmp_path / "r.csv", index=False)
    code, out, _ = collab("check", tmp_path / "r.csv")
    assert code == 0 and "--title-col title" in " ".join(next_of(out))
    assert collab(*next_of(out)[1:], "--epochs", 1, "--out", tmp_path / "m")[0] == 0
    code, out, _ = collab("recommend", tmp_path / "m", "--user", 1, "--as", "csv", "--include-seen")
    assert code == 0 and {row.split(",")[2] for row in out.splitlines()[1:]} <= {f"Film {id}" for id in range(9)}


def test_a_movielens_set_by_name(collab, ml100k_home, monkeypatch):
    monkeypatch.setenv("COLLAB_HOME", str(ml100k_home))
    code, out, _ = collab("check", "ml-100k")
    assert code == 0 and "943 users and 1,682 items; 6.30% of all pairs" in out
    assert "333 of 1,682 items (20%) have fewer than 5 ratings" in " ".join(out.split())


def test_a_file_that_is_not_there_exits_with_2(collab, tmp_path):
    code, out, err = collab("check", tmp_path / "no.csv")
    assert code == 2 and not out and err.startswith("Error: there is no file")


def test_the_picture_is_written(collab, trained, tmp_path):
    code, _, _ = collab("check", trained / "ratings.csv", "--plot", tmp_path / "p.svg")
    assert code == 0 and (tmp_path / "p.svg").read_text().startswith("<?xml")


def test_the_picture_replaces_a_picture_and_nothing_else(collab, trained, tmp_path):
    check = "check", trained / "ratings.csv", "--plot"
    for _ in range(2):
        assert collab(*check, tmp_path / "p.png")[0] == 0
    (tmp_path / "notes.svg").write_text("precious")
    code, out, err = collab(*check, tmp_path / "notes.svg")
    assert code == 2 and not out and err.startswith(f"Error: --plot {tmp_path / 'notes.svg'} is there already, and is "
                                                    "not a picture (PNG or SVG)")
    for name in ("p", "p.txt"):
        code, out, err = collab(*check, tmp_path / name)
        assert code == 2 and not out and f"--plot {tmp_path / name}: a picture is written as PNG or SVG" in err
    (tmp_path / "r.svg").write_text((trained / "ratings.csv").read_text())
    code, out, err = collab("check", tmp_path / "r.svg", "--plot", tmp_path / "r.svg")
    assert code == 2 and not out and "would overwrite" in err and (tmp_path / "notes.svg").read_text() == "precious"


def test_the_report_is_printed_before_the_picture_is_drawn(collab, trained, tmp_path, monkeypatch):
    def fails(self):
        raise DataError("no ink")
    monkeypatch.setattr("collab.data.data_report.DataReport.plot", fails)
    code, out, err = collab("check", trained / "ratings.csv", "--plot", tmp_path / "p.png")
    assert code == 0 and "Nothing stops training." in out
    assert err == f"--plot {tmp_path / 'p.png'} is not written: no ink\n"


def test_a_table_without_a_usable_row_is_reported_and_not_drawn(collab, tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\n,,\n")
    code, out, err = collab("check", tmp_path / "r.csv", "--plot", tmp_path / "p.png")
    assert code == 1 and "none of 1 rows can be used" in out and "no row of the table can be used" in err
    assert not (tmp_path / "p.png").exists()


def test_problems_as_csv(collab, german):
    code, out, _ = collab("check", german, "--as", "csv")
    assert code == 1 and out.splitlines()[0] == "stops,where,what,rows,at,example,remedy" and "[13]" in out


# Columns whose names say nothing -----------------------------------------------------------------------------------

@pytest.fixture
def plain(tmp_path):
    """Write a file of 60 ratings by 7 users of 11 items, with these values in a third column of that name."""
    def write(name, values, more=()):
        lines = [f"K{k % 7},B{k % 11},{value}" for k, value in enumerate(values)]
        (tmp_path / "plain.csv").write_text("\n".join([f"Kunde,Buch,{name}", *lines, *more]) + "\n")
        return tmp_path / "plain.csv"
    return write


COUNTS = [300 // (k + 1) + 1 for k in range(60)]


def test_counts_under_a_foreign_name_are_named_in_the_command(collab, plain, tmp_path):
    code, out, _ = collab("check", plain("Anzahl", COUNTS))
    words = next_of(out)
    assert code == 0 and words[3:] == ["--implicit", "--rating-col", "Anzahl", "--model", "als"]
    code, out, err = collab(*words[1:], "--out", tmp_path / "m.safetensors", "--epochs", 1)
    assert code == 0 and "rating = Anzahl" in out and "Warning" not in err


def test_a_threshold_is_compared_with_the_ratings_that_are_found_without_it(collab, plain, tmp_path):
    file = plain("Bewertung", [k % 5 + 1 for k in range(60)])
    code, out, _ = collab("check", file, "--threshold", 3)
    assert code == 0 and "24 rows can be used" in out       # of 1 to 5, those of 4 and 5
    words = next_of(out)
    assert "weight" not in out and words[3:] == ["--threshold", "3", "--model", "als"]
    code, out, err = collab(*words[1:], "--out", tmp_path / "m.safetensors", "--epochs", 1)
    assert code == 0 and "rating = Bewertung" in out and "Warning" not in err


def test_pairs_again_are_averaged_by_the_command_that_advises_it(collab, plain, tmp_path):
    file = plain("Bewertung", [k % 5 + 1 for k in range(60)], ["K0,B0,5"])
    _, out, _ = collab("check", file)
    assert "--duplicates 'mean' averages" in " ".join(out.split()) and next_of(out)[3:] == ["--duplicates", "mean"]
    _, out, _ = collab("check", file, "--duplicates", "keep")
    assert next_of(out)[3:] == ["--duplicates", "keep"]
    code, out, _ = collab("check", file, "--duplicates", "error")
    assert code == 1 and next_of(out)[3:] == ["--duplicates", "mean"]


def test_no_command_is_shown_where_none_would_work(collab, tmp_path):
    (tmp_path / "one.csv").write_text("user,item,rating\n1,1,3\n1,2,4\n1,3,5\n")
    code, out, _ = collab("check", tmp_path / "one.csv")
    assert code == 1 and "Next: mend" in out


@pytest.mark.filterwarnings("default:.*rows (is|are) left out")
def test_a_few_negative_counts_are_bad_rows_and_leave_counts_counts(collab, plain, tmp_path):
    file = plain("plays", [-1, *COUNTS, *COUNTS])
    code, out, _ = collab("check", file)
    assert code == 0 and "This looks like counts" in out and "1 of 121 counts is negative (such as -1; line 2)" in out
    words = next_of(out)
    assert {*words[3:]} == {"--implicit", "--bad-rows", "drop", "--model", "als"}
    code, out, err = collab(*words[1:], "--out", tmp_path / "m.safetensors")
    assert code == 0 and "1 of 121 rows is left out, as asked (collab check shows them)\n" in err
    code, out, _ = collab("check", file, "--implicit")
    assert code == 1 and "--bad-rows 'drop' or --threshold 0" in " ".join(out.split())
    code, _, err = collab("train", file, "--implicit")
    assert code == 2 and "--bad-rows 'drop' or --threshold 0" in err
    assert collab("check", file, "--threshold", 0)[0] == 0


def test_what_bad_rows_leaves_out_stops_a_nightly_job_no_more(collab, german):
    reading = "--sep", ";", "--decimal", ","
    assert collab("check", german, *reading)[0] == 1
    code, out, _ = collab("check", german, *reading, "--bad-rows", "drop")
    said = " ".join(out.split())
    assert code == 0 and "Nothing stops training" in out and "line 5) -> with --bad-rows 'drop' these lines" in said
    code, out, _ = collab("check", german, "--bad-rows", "drop")       # which mends no separator
    assert code == 1 and next_of(out).count("--bad-rows") == 1
    code, _, err = collab("check", german, "--bad-rows", "mend")
    assert code == 2 and "--bad-rows 'mend' is not one of" in err


def test_the_remedy_of_ratings_that_are_none_is_a_whole_sentence(collab, tmp_path):
    rows = "".join(f"{k % 4},{k % 5},{'fine' if k % 3 else 'so so' if k % 2 else 'bad'},{k % 3}\n" for k in range(40))
    (tmp_path / "words.csv").write_text("a,b,comment,n\n" + rows)
    _, out, _ = collab("check", tmp_path / "words.csv")
    assert "(such as 'bad') -> say --rating-col 'n'" in " ".join(out.split())
    (tmp_path / "words.csv").write_text("a,b,c\n" + "".join(f"{k % 4},{k % 5},word\n" for k in range(40)))
    _, out, _ = collab("check", tmp_path / "words.csv")
    assert "with --rating-col ... or, where none does, --implicit" in " ".join(out.split())


def test_of_two_spellings_the_lines_of_the_rare_one_are_named(collab, tmp_path):
    rows = ["anna ,1,3", *(f"anna,{k},4" for k in range(2, 9)), *(f"bo,{k},{k % 5}" for k in range(9))]
    (tmp_path / "spaces.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
    code, out, _ = collab("check", tmp_path / "spaces.csv")
    said = " ".join(out.split())
    assert code == 0 and "as 'anna' and 'anna ' do (such as 'anna '; line 2)" in said


def test_columns_in_another_order_stop_the_check_where_they_stop_training(collab, tmp_path):
    rows = "".join(f"{k % 28 + 1:02d}.03.2019,K{k % 7},B{k % 11},{k % 5}\n" for k in range(60))
    (tmp_path / "order.csv").write_text("Datum,Kunde,Buch,Bewertung\n" + rows)
    code, out, _ = collab("check", tmp_path / "order.csv")
    assert code == 1 and "-> say --user-col 'Kunde', --item-col 'Buch', --rating-col 'Bewertung'" in out
    options = ["--user-col", "Kunde", "--item-col", "Buch", "--rating-col", "Bewertung"]
    assert next_of(out)[3:9] == options
    code, _, err = collab("train", tmp_path / "order.csv")
    assert code == 2 and "--user-col 'Kunde' --item-col 'Buch' --rating-col 'Bewertung'" in err
    assert collab("check", tmp_path / "order.csv", *options)[0] == 0


@pytest.mark.filterwarnings("default:.*left out")
def test_a_date_that_is_none_is_told_with_its_line_and_hides_no_other_fault(collab, tmp_path):
    rows = [f"K{k % 7},B{k % 11},{k % 5},{k % 28 + 1:02d}.03.2019" for k in range(60)]
    rows[4], rows[9] = "K4,B4,3,31.02.2019", "K2,B9,many,10.03.2019"
    (tmp_path / "typo.csv").write_text("\n".join(["user,item,rating,date", *rows]) + "\n")
    how = tmp_path / "typo.csv", "--date-format", "%d.%m.%Y"
    code, out, _ = collab("check", *how)
    said = " ".join(out.split())
    assert code == 1 and "1 of 60 dates are not written as --date-format '%d.%m.%Y' says" in said
    assert "such as '31.02.2019'; line 6)" in said and "such as 'many'; line 11)" in said
    assert "58 rows can be used, 2 cannot" in said and next_of(out)[-2:] == ["--bad-rows", "drop"]
    code, out, _ = collab("check", *how, "--bad-rows", "drop")
    assert code == 0 and "such as 'many'; line 11)" in " ".join(out.split())
    code, _, err = collab("train", *how)
    assert code == 2 and "'31.02.2019'" in err and "--bad-rows 'drop'" in err
    code, out, err = collab("train", *how, "--bad-rows", "drop", "--split", "time", "--epochs", 1, "--out",
                            tmp_path / "m.safetensors")
    assert code == 0 and "train 47, valid 11 ratings" in out and "lines with 1 of 60 dates are left out, as" in err


def test_what_stops_training_is_not_said_again_as_mended():
    df = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": [1, 1, 1, 2, 2], "rating": [1, 2, 3, 4, 5]})
    again, = [p for p in DataReport.from_df(df, duplicates="error").problems.to_dict("records")
              if "rate a pair again" in p["what"]]
    assert again["stops"] and again["remedy"] == "drop them, or choose duplicates='last', 'first' or 'mean'"
    again, = DataReport.from_df(df, duplicates="mean").problems.to_dict("records")
    assert not again["stops"] and again["remedy"] == "each pair has one row with its average rating"


# Files of items and users -----------------------------------------------------------------------------------------

@pytest.fixture
def shop(tmp_path):
    """Ratings of 8 users and 10 items, films with everything wrong, people with little."""
    rows = [f"u{u},{i},{(u * i) % 5 + 1}" for u in range(8) for i in range(10)]
    (tmp_path / "r.csv").write_text("\n".join(["user,film,stars", *rows]) + "\n")
    films = [*(f"{i},Film {i},{i}" for i in range(8)), "3,Film 3 again,3", "8, ,1", "77,Late,1", "78,,1", ",None,1"]
    (tmp_path / "films.csv").write_text("\n".join(["film,name,price", *films]) + "\n")
    (tmp_path / "good.csv").write_text("\n".join(["film,name", *(f"{i},Film {i}" for i in range(10))]) + "\n")
    (tmp_path / "people.csv").write_text("\n".join(["user,age", *(f"u{u},{u + 30}" for u in range(5)), "u9,3"]) + "\n")
    return tmp_path


def test_the_files_of_items_and_users_are_checked_by_what_training_says_of_them(collab, shop):
    check = ["check", shop / "r.csv", "--items", shop / "films.csv", "--users", shop / "people.csv"]
    code, out, err = collab(*check, "--as", "json")
    problems = [p for p in json.loads(out)["problems"] if p["where"].startswith("the table of")]
    assert code == 1 and not err and [(p["stops"], p["where"], p["what"]) for p in problems] == [
        (True, "the table of items", "column 'film': the item ids: 1 of 13 ids are missing (first at line 14)"),
        (True, "the table of items", "column 'film': 1 id is repeated (such as 3)"),
        (False, "the table of items", "lacks 1 of the 10 rated items (such as 9): they have no title"),
        (False, "the table of items", "2 of its 11 items have no rating (such as 77)"),
        (False, "the table of items", "2 of its 11 items have no title in column 'name' (such as 8)"),
        (False, "the table of users", "lacks 3 of the 8 rated users (such as 'u5'): they have no features"),
        (False, "the table of users", "1 of its 6 users has no rating (such as 'u9')")]
    code, out, _ = collab(*check)
    assert code == 1 and "Next: mend what stops training, and check again" in out
    assert "leave one row per id in the file" in out
    for options in ([], ["--bad-rows", "drop"]):        # which is about ratings
        code, _, err = collab("train", shop / "r.csv", "--items", shop / "films.csv", "--out", shop / "m", *options)
        assert code == 2 and "column 'film': 1 id is repeated (such as 3)" in err


def test_good_files_beside_the_ratings_stop_nothing_and_are_in_the_command(collab, shop):
    code, out, _ = collab("check", shop / "r.csv", "--items", shop / "good.csv")
    assert code == 0 and "Nothing stops training." in out and "the table of" not in out
    assert next_of(out) == ["collab", "train", str(shop / "r.csv"), "--items", str(shop / "good.csv")]
    assert collab(*next_of(out)[1:], "--epochs", 1, "--out", shop / "m")[0] == 0
    titled = pd.read_csv(shop / "r.csv").assign(title="A")
    titled.to_csv(shop / "r.csv", index=False)          # of which training takes none where there are --items
    code, out, _ = collab("check", shop / "r.csv", "--items", shop / "good.csv")
    assert code == 0 and "Nothing stops training." in out and "--title-col" not in out
    report = DataReport.from_df(titled, items=pd.read_csv(shop / "good.csv"))
    assert not report.stops and not len(report.problems) and "title_name" not in report.options


@pytest.mark.parametrize("options, says", [
    (["--items", "{}/none.csv"], "there is no file"), (["--table-sep", ";"], "--table-sep is the separator of --items"),
    (["--table-encoding", "latin-1"], "--table-encoding is the encoding of --items")])
def test_files_that_are_not_there_and_options_without_files_are_refused(collab, shop, options, says):
    code, out, err = collab("check", shop / "r.csv", *(word.format(shop) for word in options))
    assert code == 2 and says in err and not out


def test_a_file_of_items_that_cannot_be_read_is_a_problem_with_its_option(collab, shop):
    (shop / "films.csv").write_text("film;name\n1;Straße\n2;Öl\n", encoding="latin-1")
    code, out, _ = collab("check", shop / "r.csv", "--items", shop / "films.csv")
    assert code == 1 and "STOPS  the file of items:" in out and "has a single column" in " ".join(out.split())
    assert "--table-sep ';'" in out
    code, out, _ = collab("check", shop / "r.csv", "--items", shop / "films.csv", "--table-sep", ";")
    assert code == 1 and "is not written in UTF-8" in " ".join(out.split()) and "--table-encoding 'latin-1'" in out
    options = ["--items", shop / "films.csv", "--table-sep", ";", "--table-encoding", "latin-1"]
    code, out, _ = collab("check", shop / "r.csv", *options)
    assert code == 0 and "lacks 8 of the 10 rated items" in out and next_of(out)[3:] == [*map(str, options)]


def test_the_exit_code_is_that_of_the_help_and_the_readme(collab, shop):
    (shop / "bad.csv").write_text("user,film,stars\n1,1,2\n2,,3\n1,2,3\n2,1,4\n")
    for words, code in ((["r.csv"], 0), (["bad.csv"], 1), (["bad.csv", "--bad-rows", "drop"], 0), (["none.csv"], 2),
                        (["r.csv", "--items", "none.csv"], 2), (["r.csv", "--items", "films.csv"], 1),
                        (["r.csv", "--items", "good.csv"], 0), (["r.csv", "--bad-rows", "all"], 2)):
        found = collab("check", *(shop / word if word.endswith(".csv") else word for word in words))
        assert found[0] == code, words
    out = " ".join(collab("check", "--help")[1].split())
    assert "Exit code: 0 if collab train would take the tables with these options, 1 if something in them" in out
    assert "stops it, 2 for an error in options or if there is no such file" in out
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text().split())
    assert "It exits with 0 if training would take the tables with these options, with 1 if something in them" in readme


def test_lines_of_too_many_fields_are_one_problem_with_their_number(collab, tmp_path):
    rows = [f"{k % 7},{k % 11},{k % 5 + 1}" for k in range(70)]
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating", *rows, "3,1,2,5", "4,1,2,5", "5,2,3"]) + "\n")
    code, out, _ = collab("check", tmp_path / "r.csv", "--duplicates", "keep", "--as", "json")
    of_file = [problem for problem in json.loads(out)["problems"] if problem["where"] == "the file"]
    assert code == 1 and [problem["stops"] for problem in of_file] == [True]
    assert of_file[0]["what"] == ("line 72: 4 fields, where the lines before have 3 (2 lines have more fields than the "
                                  "first)")
    code, out, _ = collab("check", tmp_path / "r.csv", "--bad-rows", "drop", "--as", "json")
    said = [problem["what"] for problem in json.loads(out)["problems"] if problem["where"] == "the file"]
    assert code == 0 and len(said) == 1 and said[0].startswith("2 lines have more fields than the first, and are left")


def test_titles_of_several_items_are_noted(collab, tmp_path):
    rows = [f"{k % 7},{k % 11},{k % 5 + 1}" for k in range(70)]
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
    films = ["Alien", "Brazil", "alien ", "Casablanca", "Dune", "Dune", "Elephant", "Fargo", "", "", "Gilda"]
    (tmp_path / "films.csv").write_text("\n".join(["item,title", *(f"{k},{t}" for k, t in enumerate(films))]) + "\n")
    code, out, _ = collab("check", tmp_path / "r.csv", "--items", tmp_path / "films.csv", "--as", "json")
    said = [problem for problem in json.loads(out)["problems"] if "share" in problem["what"]]
    assert code == 0 and [(problem["where"], problem["what"], problem["stops"]) for problem in said] == [
        ("the table of items", "4 of its 11 items share their title with another one (such as 'Alien', of 0 and 2)",
         False)]
    (tmp_path / "films.csv").write_text("\n".join(["item,title", *(f"{k},Film {k}" for k in range(11))]) + "\n")
    assert "share" not in collab("check", tmp_path / "r.csv", "--items", tmp_path / "films.csv")[1]

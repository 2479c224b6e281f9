"""Dates of files on the command line: what is wrong is said by the column's own name and the line of the file."""

import pytest

pytestmark = pytest.mark.filterwarnings("default")
DATED = ["--time-col", "Datum", "--split", "time", "--epochs", 1, "--factors", 2, "--no-card"]


@pytest.fixture
def dated(tmp_path):
    """300 ratings with dates: line 12 without a user, line 22 with a date that is none, line 32 with none at all, and
    line 42 with a word for a rating."""
    rows = [[f"k{k % 17}", f"b{k % 13}", f"{k % 5 + 1},5", f"{k % 28 + 1:02}.{k % 12 + 1:02}.2019", f"Ort {k % 4}"]
            for k in range(300)]
    rows[10][0], rows[20][3], rows[30][3], rows[40][2] = "", "31.02.2019", "", "gut"
    (tmp_path / "r.csv").write_text("\n".join(map(";".join, [["Kunde", "Buch", "Note", "Datum", "Ort"], *rows])) + "\n")
    return tmp_path


def train(collab, dated, *words):
    return collab("train", dated / "r.csv", "--sep", ";", "--decimal", ",", *words, "--out", dated / "m.safetensors")


def test_rows_are_named_by_lines_where_lines_of_bad_dates_are_left_out(collab, dated):
    code, _, err = train(collab, dated, *DATED, "--date-format", "%d.%m.%Y", "--bad-rows", "drop")
    assert code == 0, err
    said = [line.removeprefix("Warning: ") for line in err.splitlines() if "left out" in line]
    assert said == [f"{dated / 'r.csv'}: lines with 1 of 300 dates are left out, as asked (collab check shows them)",
                    "3 of 299 rows are left out, as asked (collab check shows them)"]
    code, out, _ = collab("check", dated / "r.csv", "--sep", ";", "--decimal", ",", "--time-col", "Datum",
                          "--date-format", "%d.%m.%Y", "--bad-rows", "drop")
    out = " ".join(out.split())
    assert code == 0 and "such as '31.02.2019'; line 22)" in out and "1 of 299 ids are missing (line 12)" in out
    assert "such as 'gut'; line 42)" in out and "times are missing (line 32)" in out


def test_times_stop_only_the_splits_that_need_them(collab, dated):
    text = (dated / "r.csv").read_text().replace("31.02.2019", "28.02.2019").replace("gut", "3").replace(";;", ";x;")
    (dated / "r.csv").write_text(text.replace("\n;", "\nk1;").replace("x;Ort", ";Ort"))
    code, _, err = train(collab, dated, *DATED, "--date-format", "%d.%m.%Y")
    assert code == 2 and "column 'Datum': 1 of 300 times are missing (first at line 32); correct these lines, or" in err
    assert train(collab, dated, "--time-col", "Datum", "--epochs", 1, "--date-format", "%d.%m.%Y")[0] == 0


def test_a_format_that_does_not_fit_is_told_with_the_column_a_value_and_the_one_that_does(collab, dated):
    drop = ["--bad-rows", "drop"]
    code, _, err = train(collab, dated, *DATED, *drop, "--date-format", "%d.%m.%y")
    assert code == 2 and "column 'Datum' is not written as --date-format '%d.%m.%y' says (such as '01.01.2019'); say "\
        "--date-format '%d.%m.%Y'" in err
    code, _, err = train(collab, dated, *DATED, *drop)
    assert code == 2 and "column 'Datum': 299 of 300 times are not written as" in err
    assert "at line 2); read the file with --date-format '%d.%m.%Y'" in err


def test_a_column_that_holds_no_times_is_told_by_its_name(collab, dated):
    code, _, err = train(collab, dated, "--time-col", "Ort", "--split", "time", "--bad-rows", "drop")
    assert code == 2 and "column 'Ort': none of 300 values is a time (such as 'Ort 0' at line 2); say which" in err
    assert "--time-col ..." in err


def test_check_knows_dates_by_nearly_all_of_them_and_names_the_others(collab, dated):
    code, out, _ = collab("check", dated / "r.csv", "--sep", ";", "--decimal", ",", "--bad-rows", "drop")
    said = " ".join(out.split())
    assert code == 0 and "Datum time a guess" in said
    assert "1 of 300 dates are not written as --date-format '%d.%m.%Y' says" in said
    assert "'31.02.2019'; line 22" in said and "--time-col Datum --date-format %d.%m.%Y" in said
    code, out, _ = collab("check", dated / "r.csv", "--sep", ";", "--decimal", ",")
    assert code == 1 and "2 problems stop training" in out          # those of the user and of the rating


def test_check_knows_iso_dates_by_nearly_all_of_them_too(collab, tmp_path):
    rows = [f"k{k % 17},b{k % 13},{k % 5},2019-{k % 12 + 1:02}-{k % 28 + 1:02}" for k in range(300)]
    rows[20] = "k1,b1,3,2019-02-31"
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating,day", *rows]) + "\n")
    code, out, _ = collab("check", tmp_path / "r.csv")
    said = " ".join(out.split())
    assert code == 0 and "day time a guess" in said
    assert "column 'day': 1 of 300 times are not written as" in said and "(such as '2019-02-31'; line 22)" in said
    (tmp_path / "r.csv").write_text((tmp_path / "r.csv").read_text().replace("2019-1", "in 1"))
    assert "time a guess" not in " ".join(collab("check", tmp_path / "r.csv")[1].split())

"""What the command line prints: tables as text in a pipe and on a terminal, as CSV and as JSON."""

import re
import sys

import pandas as pd
import pytest

from collab.cli.output import Output, print_table

LONG = "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb (1963)"
FRAME = pd.DataFrame({"rank": [1, 10], "title": ["A", LONG], "n": pd.array([7, None], dtype="Int64"),
                      "score": [4.26551, -10.0]})
PLAIN = f"""\
  rank  title{' ' * 70}     n    score
     1  A{' ' * 74}     7    4.266
    10  {LONG}  <NA>  -10.000
"""
ANSI = re.compile(r"\x1b\[[\d;]*m")


def test_a_pipe_gets_every_row_on_one_line_of_plain_text(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    print_table(FRAME)
    assert capsys.readouterr().out == PLAIN
    print_table(pd.DataFrame({"title": ["x y " * 3000], "n": [1]}))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_text_is_printed_as_it_is_and_wide_characters_are_aligned(capsys):
    print_table(pd.DataFrame({"title": ["[red]A[/red]", ":smile: 1234", "影武者"], "n": [1, 20, 3]}), decimals=1)
    assert capsys.readouterr().out == ("  title          n\n  [red]A[/red]   1\n  :smile: 1234  20\n"
                                       "  影武者         3\n")     # the three take six columns


def test_no_text_is_printed_as_none(capsys):
    print_table(pd.DataFrame({"item": ["A", "B"], "why": pd.Series([None, "C"], dtype=object)}))
    assert capsys.readouterr().out == "  item  why\n  A\n  B     C\n"


@pytest.mark.parametrize("columns", [100, 200])
def test_a_wide_terminal_shows_titles_whole_below_bold_names(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_table(FRAME)
    out = capsys.readouterr().out
    assert [line.rstrip() for line in ANSI.sub("", out).splitlines()] == PLAIN.splitlines()
    assert "\x1b[1mtitle" in out and not ANSI.search(out.partition("\n")[2])


def test_a_narrow_terminal_shows_long_titles_on_several_lines_and_numbers_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_table(FRAME)
    lines = ANSI.sub("", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 60 and "…" not in "".join(lines)
    assert lines[1].split() == ["1", "A", "7", "4.266"] and lines[2].endswith("<NA>  -10.000")
    assert " ".join(line[8:45].strip() for line in lines[2:]) == LONG


def test_csv_json_and_nothing(capsys):
    for how in Output:
        print_table(FRAME, how)
        print_table(FRAME.iloc[:0], how, if_empty="no such item")
    assert capsys.readouterr().out == PLAIN + "  (no such item)\n" + "".join(
        f"{text}\n" for text in (FRAME.to_csv(index=False).rstrip(), "rank,title,n,score",
                                 FRAME.to_json(orient="records"), "[]"))


def test_whole_ratings_and_counts_print_as_whole_numbers(collab, tmp_path):
    rows = [(user, item, 1_000_007 + 100_000 * ((user * item) % 9)) for user in range(12) for item in range(10)
            if (user + item) % 4]
    table = pd.DataFrame(rows, columns=["user", "item", "plays"])
    table.to_csv(tmp_path / "plays.csv", index=False)
    code, out, _ = collab("train", tmp_path / "plays.csv", "--implicit", "--model", "als", "--epochs", 1, "--valid-pct",
                          0, "--out", tmp_path / "m")
    assert code == 0
    best = table[table["user"] == 3]["plays"].max()
    code, out, _ = collab("recommend", tmp_path / "m", "--user", 3)
    assert code == 0 and f"{best:,}\n" in out and ".000\n" not in out
    code, out, _ = collab("explain", tmp_path / "m", "--user", 3, "--item", 2)
    assert code == 0 and "1,000,007" in out and "e+06" not in out
    code, out, _ = collab("check", tmp_path / "plays.csv")
    assert code == 0 and "1,000,007" in out and "e+06" not in out, out
    code, out, _ = collab("recommend", tmp_path / "m", "--user", 3, "--as", "csv")
    assert code == 0 and "," not in out.splitlines()[1].split(",", 2)[2]        # for programs as it was


def test_ratings_with_halves_keep_their_decimals(capsys):
    print_table(pd.DataFrame({"item": [1, 2], "rating": [4.5, 4.0]}))
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [["1", "4.500"], ["2", "4.000"]]
    print_table(pd.DataFrame({"item": [1, 2], "rating": [5.0, 4.0], "score": [1.0, 2.0]}))
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [["1", "5", "1.000"],
                                                                                 ["2", "4", "2.000"]]

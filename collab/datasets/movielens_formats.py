"""Parsers for the archives of each generation of MovieLens: each returns three tables.

Nothing is unpacked to disk: members are read by their expected names and up to a given size, so neither a path that
leads outside nor a zip bomb can do harm."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO

import pandas as pd

from ..errors import DataError

Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]  # ratings, items, users: see RatingSet

# The genre flags of u.item, in the order of u.genre.
GENRES_100K = ("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
               "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War",
               "Western")
# How the sets mark a film without genres.
NO_GENRE = ("unknown", "(no genres listed)")
# The codes of users.dat in ml-1m, from its README.
OCCUPATIONS_1M = ("other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
                  "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer",
                  "programmer", "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer",
                  "tradesman/craftsman", "unemployed", "writer")
RECBOLE_TABLES = "recbole/dataset_example/ml-100k/ml-100k."
# Titles that RecBole's copy spells differently from u.item.
RECBOLE_TITLES = {"unkonwn (unkonwn)": "unknown"}
# "(1995)"; the first year of a span counts: "(2006-2007)", "(2009- )".
YEAR = re.compile(r"\((\d{4})(?:[-–]\s*(?:\d{4})?)?\)")


class Archive:
    """A zip file that only opens members by name, and none larger than `max_bytes`."""

    def __init__(self, file: zipfile.ZipFile, max_bytes: int) -> None:
        self.file, self.max_bytes = file, max_bytes

    def open(self, member: str) -> IO[bytes]:
        """The member as a binary stream, which never yields more than the size that is checked here."""
        size = self.file.getinfo(member).file_size
        if size > self.max_bytes:
            raise DataError(f"{member} would be {size:,} bytes, more than the {self.max_bytes:,} it can have")
        return self.file.open(member)

    def lines(self, member: str, encoding: str) -> list[str]:
        # Not splitlines(), which would also cut at characters such as U+0085 that latin-1 titles may hold.
        with self.open(member) as f:
            text = f.read().decode(encoding)
        return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


def read_archive(path: Path, parse: Callable[[Archive], Tables], max_bytes: int) -> Tables:
    """The three tables in the archive at `path`. Raises DataError, naming the file, where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as file:
            return parse(Archive(file, max_bytes))
    # RuntimeError: encrypted; NotImplementedError: an unknown compression; KeyError: no such member
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, IndexError, ValueError, RuntimeError) as error:
        reason = error.args[0] if isinstance(error, KeyError) else error
        raise DataError(f"{path} cannot be read: {reason}. Delete that file, and it will be fetched again "
                        "(or put a good copy in its place)") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def parse_100k(archive: Archive) -> Tables:
    """The official layout: u.data (tabs), u.item and u.user (bars, latin-1)."""
    films = [line.split("|") for line in archive.lines("ml-100k/u.item", "latin-1")]
    genres = ["|".join(name for name, flag in zip(GENRES_100K, film[5:], strict=True) if flag == "1")
              for film in films]
    items = _items([film[0] for film in films], [film[1] for film in films], genres)
    people = [line.split("|") for line in archive.lines("ml-100k/u.user", "latin-1")]
    return _ratings(archive, "ml-100k/u.data", sep="\t"), items, _users(people)


def parse_recbole(archive: Archive) -> Tables:
    """The copy of 100k in RecBole's wheel: three tables with tabs and one line of typed headers, UTF-8.

    Its title and `release_year` are the parts of the official title before and inside the last brackets."""
    films = [line.split("\t") for line in archive.lines(RECBOLE_TABLES + "item", "utf-8")[1:]]
    titles = [f"{title} ({year})" for _, title, year, _ in films]
    items = _items([film[0] for film in films], [RECBOLE_TITLES.get(t, t) for t in titles],
                   [film[3].replace(" ", "|") for film in films])
    people = [line.split("\t") for line in archive.lines(RECBOLE_TABLES + "user", "utf-8")[1:]]
    return _ratings(archive, RECBOLE_TABLES + "inter", sep="\t", skiprows=1), items, _users(people)


def parse_dat(archive: Archive, folder: str, *, encoding: str, with_users: bool) -> Tables:
    """1m and 10m: fields between `::`. Titles contain `::` too, so lines are split from both ends."""
    films = [line.split("::", 1) for line in archive.lines(f"{folder}/movies.dat", encoding)]
    rest = [film[1].rsplit("::", 1) for film in films]
    items = _items([film[0] for film in films], [title for title, _ in rest], [genres for _, genres in rest])
    # Split at ":", every second column is empty; that is much faster than splitting at "::".
    ratings = _ratings(archive, f"{folder}/ratings.dat", sep=":", usecols=[0, 2, 4, 6])
    if not with_users:
        return ratings, items, _only_ids(ratings)
    people = [line.split("::") for line in archive.lines(f"{folder}/users.dat", encoding)]
    return ratings, items, _users([(user, age, gender, OCCUPATIONS_1M[int(job)], code)
                                   for user, gender, age, job, code in people])


def parse_csv(archive: Archive, folder: str) -> Tables:
    """20m and later: ratings.csv and movies.csv, UTF-8, with one line of headers."""
    with archive.open(f"{folder}/movies.csv") as f:
        films = pd.read_csv(f, dtype={"movieId": "int64", "title": "str", "genres": "str"}, keep_default_na=False)
    items = _items(films["movieId"], films["title"], films["genres"])
    ratings = _ratings(archive, f"{folder}/ratings.csv", sep=",", skiprows=1)
    return ratings, items, _only_ids(ratings)


def title_year(title: str) -> int | None:
    """The year in a title: the last "(1995)" in it, or None."""
    found = YEAR.findall(title)
    return int(found[-1]) if found else None


def _ratings(archive: Archive, member: str, sep: str, skiprows: int = 0,
             usecols: list[int] | None = None) -> pd.DataFrame:
    columns = usecols or [0, 1, 2, 3]
    with archive.open(member) as f:
        table = pd.read_csv(f, sep=sep, header=None, skiprows=skiprows, usecols=columns, encoding="latin-1",
                            dtype=dict(zip(columns, ("int64", "int64", "float64", "int64"), strict=True)))
    table.columns = pd.Index(["user", "item", "rating", "time"])
    return table


def _items(ids: Iterable[str], titles: Iterable[str], genres: Iterable[str]) -> pd.DataFrame:
    titles = [title.strip() for title in titles]
    return pd.DataFrame({"item": pd.Series([int(i) for i in ids], dtype="int64"),
                         "title": titles,
                         "year": pd.array([title_year(title) for title in titles], dtype="Int64"),
                         "genres": ["" if g in NO_GENRE else g for g in genres]})


def _users(rows: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Rows of user, age, gender, occupation, zip; zip codes stay text: some have letters or a leading zero."""
    table = pd.DataFrame(rows, columns=["user", "age", "gender", "occupation", "zip"])
    return table.astype({"user": "int64", "age": "int64"})


def _only_ids(ratings: pd.DataFrame) -> pd.DataFrame:
    return ratings[["user"]].drop_duplicates().sort_values("user", ignore_index=True)

"""The MovieLens sets: from the cache folder, from GroupLens or, for 100k, from a package index."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import DataError
from .download import (
    RECBOLE,
    RECBOLE_WHEEL,
    cache_folder,
    check_recbole_wheel,
    damage,
    fetch_recbole,
    fetch_zip,
    matches,
)
from .movielens_formats import Archive, Tables, parse_100k, parse_csv, parse_dat, parse_recbole, read_archive
from .rating_set import RatingSet

BASE_URL = "https://files.grouplens.org/datasets/movielens/"
MB = 1_000_000


@dataclass(frozen=True)
class Edition:
    """One set: how its archive is parsed, how many ratings it must hold (None: that changes over time), an upper bound
    on the size of each member, well above the real sizes, and the checksum of the archive ("algorithm:hex digest")."""

    parse: Callable[[Archive], Tables]
    n_ratings: int | None
    max_bytes: int
    checksum: str | None = None
    share_alike: bool = False  # its README allows redistribution under the same terms


# No checksum is on record for 32m and latest-small: only the CRC-32 of each member of their zip files is checked.
EDITIONS = {
    "100k": Edition(parse_100k, 100_000, 10 * MB,
                    "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"),
    "1m": Edition(partial(parse_dat, folder="ml-1m", encoding="latin-1", with_users=True), 1_000_209, 100 * MB,
                  "sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"),
    "10m": Edition(partial(parse_dat, folder="ml-10M100K", encoding="utf-8", with_users=False), 10_000_054, 500 * MB,
                   "md5:ce571fd55effeba0271552578f2648bd"),
    "20m": Edition(partial(parse_csv, folder="ml-20m"), 20_000_263, 1000 * MB,
                   "md5:cd245b17a1ae2cc31bb14903e1204af3", share_alike=True),
    "25m": Edition(partial(parse_csv, folder="ml-25m"), 25_000_095, 1500 * MB,
                   "md5:6b51fb2759a8657d3bfcbfc42b592ada"),
    "32m": Edition(partial(parse_csv, folder="ml-32m"), 32_000_204, 2000 * MB, share_alike=True),
    "latest-small": Edition(partial(parse_csv, folder="ml-latest-small"), None, 100 * MB, share_alike=True),
}


def movielens(size: str = "100k", home: str | os.PathLike | None = None) -> RatingSet:
    """A MovieLens set: "100k", "1m", "10m", "20m", "25m", "32m" or "latest-small" ("ml-100k" is understood too).

    Read from the cache folder (`home`, else $COLLAB_HOME, else the user's cache directory), where you may put an
    archive yourself; where it is missing, it is downloaded from GroupLens, checked, and kept there. For 100k, the last
    resort is the copy in the wheel of the package recbole, which pip downloads without installing it; both copies give
    the same tables. Every read checks the archive. The licence is printed to stderr when a set is first used from a
    folder, and is always in `.licence`.

    Source: F. Maxwell Harper and Joseph A. Konstan, The MovieLens Datasets: History and Context, 2015,
    https://doi.org/10.1145/2827872.
    Raises DataError for another size, for a damaged archive, and where no source can be reached."""
    size = str(size).lower().removeprefix("ml-")
    if size not in EDITIONS:
        raise DataError(f"there is no MovieLens set {size!r}; choose one of {', '.join(map(repr, EDITIONS))}")
    edition, folder = EDITIONS[size], cache_folder(home)
    path, parse = _find(size, folder) or _fetch(size, folder)
    ratings, items, users = read_archive(path, parse, edition.max_bytes)
    if edition.n_ratings is not None and len(ratings) != edition.n_ratings:
        raise DataError(f"{path} holds {len(ratings):,} ratings, not the {edition.n_ratings:,} of ml-{size}. "
                        "Delete that file, and it will be fetched again")
    licence = _licence(size)
    _show_once(licence, folder / f"ml-{size}.licence.txt")
    return RatingSet(ratings, items, users, name=f"ml-{size}", licence=licence)


Source = tuple[Path, Callable[[Archive], Tables]]


def _find(size: str, folder: Path) -> Source | None:
    """The archive in the cache folder, if there is one. An archive of your own needs no particular checksum, but unless
    it is the official one, each member must match its CRC-32. Raises DataError for a damaged one, and for a folder."""
    if (path := folder / f"ml-{size}.zip").exists():
        _check_cached(path, EDITIONS[size].checksum)
        return path, EDITIONS[size].parse
    if size == "100k":
        if (path := folder / "ml-100k.recbole.zip").exists():
            _check_cached(path)
            return path, parse_recbole
        if (path := folder / RECBOLE_WHEEL).exists():
            _refuse_folder(path)
            check_recbole_wheel(path)
            return path, parse_recbole
    return None


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path} is a folder, where an archive is expected; move it elsewhere, and the archive will be "
                        "fetched")


def _check_cached(path: Path, checksum: str | None = None) -> None:
    _refuse_folder(path)
    if not (checksum and matches(path, checksum)) and (problem := damage(path)):
        raise DataError(f"{path} cannot be read: {problem}. Delete that file, and it will be fetched again (or put a "
                        "good copy in its place)")


def _fetch(size: str, folder: Path) -> Source:
    """Download the archive into the cache folder. Raises DataError that lists what was tried and what would help."""
    url, path = f"{BASE_URL}ml-{size}.zip", folder / f"ml-{size}.zip"
    tried = []
    try:
        fetch_zip(url, path, EDITIONS[size].checksum)
        return path, EDITIONS[size].parse
    except (OSError, ValueError) as error:
        tried.append(f"{url}: {_reason(error)}")
    if size == "100k":
        path = folder / "ml-100k.recbole.zip"
        try:
            fetch_recbole(path)
            return path, parse_recbole
        except (OSError, DataError) as error:
            tried.append(f"pip download {RECBOLE}: {_reason(error)}")
    ways = [f"let this machine reach {BASE_URL} and call movielens({size!r}) again",
            f"put ml-{size}.zip (from https://grouplens.org/datasets/movielens/) into a folder, "
            f"and set COLLAB_HOME=<that folder>"]
    if size == "100k":
        ways.append(f"give pip a package index that has {RECBOLE} (PIP_INDEX_URL), or put {RECBOLE_WHEEL} "
                    "into COLLAB_HOME")
    else:
        ways.append('begin with movielens("100k"), which a package index can provide too, or with synthetic()')
    lines = [f"ml-{size} is not in {folder}, and could not be fetched:", *(f"  - {t}" for t in tried),
             "Any one of these will do:", *(f"  {n}. {way}" for n, way in enumerate(ways, 1))]
    raise DataError("\n".join(lines))


def _reason(error: Exception) -> str:
    """The error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _licence(size: str) -> str:
    passing_on = ("may be passed on only under the same terms" if EDITIONS[size].share_alike
                  else "may not be passed on without separate permission")
    return (f"MovieLens ml-{size} belongs to GroupLens at the University of Minnesota: it is for research, "
            f"{passing_on}, and may not be used commercially without their permission. Please cite F. Maxwell Harper "
            "and Joseph A. Konstan, The MovieLens Datasets: History and Context, 2015, "
            "https://doi.org/10.1145/2827872. The full terms are in the README of the archive and at "
            "https://grouplens.org/datasets/movielens/.")


def _show_once(licence: str, marker: Path) -> None:
    """Print the licence unless the file `marker` exists, and write it there."""
    if marker.exists():
        return
    print(licence, file=sys.stderr)
    with suppress(OSError):  # a read-only folder is good to read from; the licence is then printed each time
        marker.write_text(licence + "\n", encoding="utf-8")

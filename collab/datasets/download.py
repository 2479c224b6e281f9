"""Downloads into the cache folder: resumed where they broke off, checked, and renamed only when complete."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..environment import bars_wanted, in_notebook
from ..errors import DataError
from .movielens_formats import RECBOLE_TABLES

if TYPE_CHECKING:
    from fastprogress.fastprogress import ProgressBar
    from requests import Response

TIMEOUT = 10.0     # seconds to connect, and the longest silence while receiving
CHUNK = 1 << 16    # bytes; what a broken connection can cost of what it had sent
MIB = 1 << 20      # bytes
PIP_TIMEOUT = 300  # seconds

RECBOLE = "recbole==1.2.1"
RECBOLE_WHEEL = "recbole-1.2.1-py3-none-any.whl"
RECBOLE_CHECKSUM = "sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
RECBOLE_MEMBERS = tuple(RECBOLE_TABLES + part for part in ("inter", "item", "user"))


def cache_folder(home: str | os.PathLike | None = None) -> Path:
    """The folder for data sets: `home`, else $COLLAB_HOME, else "collab" in the user's cache directory."""
    chosen = home or os.environ.get("COLLAB_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs
    return platformdirs.user_cache_path("collab", appauthor=False, opinion=False).absolute()


def fetch_zip(url: str, target: Path, checksum: str | None) -> None:
    """Download the zip file at `url` to `target`, through `target`.part, where a later call continues.

    `checksum` is "algorithm:hex digest"; without one, each member of the archive must match its own CRC-32.
    Raises OSError where the transfer fails (what was received is kept for the next call), and ValueError where the
    file is not the expected one (it is deleted)."""
    import pooch  # takes 0.2 s
    part = target.with_name(target.name + ".part")
    resumed = part.exists() and part.stat().st_size > 0
    fetch = partial(pooch.retrieve, url, checksum, target.name, target.parent,
                    downloader=partial(_continue, part=part, check_members=checksum is None))
    with _quiet(pooch.get_logger()):
        try:
            fetch()
        except ValueError:
            if not resumed:
                raise
            fetch()  # the old part may have belonged to another file, so start over, once


def _continue(url: str, output_file: str, _: object, *, part: Path, check_members: bool) -> None:
    """Download what `part` lacks of `url`, or all of it if the server cannot send only the rest, and move it to
    `output_file`: a downloader for pooch."""
    from pooch import HTTPDownloader
    try:
        with open(part, "ab") as f:
            start = f.tell()

            def inspect(response: Response, **_: object) -> None:
                if url.startswith("https:") and not response.url.startswith("https:"):
                    raise DataError(f"the server redirected from https to {response.url}")
                if response.status_code == 416 and start:
                    raise _NothingLeft
                if response.status_code == 200:
                    f.truncate(0)

            headers = {"User-Agent": "collab", "Accept-Encoding": "identity"}
            bar = Bar() if bars_wanted() else None
            download = HTTPDownloader(bar or False, CHUNK, timeout=TIMEOUT, hooks={"response": inspect},
                                      headers=headers | ({"Range": f"bytes={start}-"} if start else {}))
            try:
                download(url, f, None)
            except _NothingLeft:  # the part is complete, or longer than the file: its checksum tells which
                pass
            except BaseException:
                if bar:
                    bar.interrupted()
                raise
            f.flush()
            os.fsync(f.fileno())
    except OSError as error:  # that of requests is one, too
        kept = part.stat().st_size if part.exists() else 0
        raise OSError(_root(error) + (f"; {kept:,} bytes are kept, and the next call continues from there" if kept
                                      else "")) from error
    finally:
        if part.exists() and not part.stat().st_size:
            part.unlink()
    if check_members and (problem := damage(part)):
        part.unlink()
        raise DataError(f"{problem}; the download has been deleted")
    os.replace(part, output_file)


class _NothingLeft(Exception):
    """The server has nothing beyond the part."""


class Bar:
    """What pooch asks of a progress bar, in terms of fastprogress; counts MiB."""

    total = 0  # bytes, set by pooch; 0 where the server does not say

    def __init__(self) -> None:
        self.bar: ProgressBar | None = None
        self.received = self.shown = 0

    def update(self, n_bytes: int) -> None:
        if self.bar is None:
            from fastprogress.fastprogress import progress_bar
            self.bar = progress_bar(range(-(-self.total // MIB)), total=None if self.total else "noinfer")
            self.bar.update(0)
        self.received += n_bytes
        mib = -(-self.received // MIB)
        if self.bar.total:
            mib = min(mib, self.bar.total)
        if mib > self.shown:
            self.bar.update(mib)
            self.shown = mib

    def reset(self) -> None:
        self.received = 0

    def close(self) -> None:
        if not in_notebook():
            print()  # in a terminal, fastprogress leaves the cursor behind the bar

    def interrupted(self) -> None:
        if self.bar is not None:
            self.bar.on_interrupt()
            self.close()


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep progress notes off standard error for as long as this lasts."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _root(error: BaseException) -> str:
    """The innermost error of the system in one line: requests wraps it several times. The chain may reach further, to
    whatever was being handled when the download began."""
    inner = error
    while before := inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__):
        inner, error = before, before if isinstance(before, OSError) else error
    return " ".join(str(error).split()) or type(error).__name__


def matches(path: Path, checksum: str) -> bool:
    """Whether the file has this checksum, "algorithm:hex digest"."""
    algorithm, _, expected = checksum.partition(":")
    with open(path, "rb") as f:  # md5 is all that is on record for some archives, and only guards against accidents
        return hashlib.file_digest(f, partial(hashlib.new, algorithm, usedforsecurity=False)).hexdigest() == expected


def damage(path: Path) -> str:
    """The first thing that is wrong with a zip file; "" where every member matches its CRC-32."""
    with open(path, "rb") as opened:
        try:
            with zipfile.ZipFile(opened) as file:
                broken = file.testzip()
        # OSError: a member is said to begin before the file does
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
            return f"it is not a readable zip file ({error})"
    return f"its member {broken} is damaged" if broken else ""


def fetch_recbole(target: Path) -> None:
    """Have pip download RecBole's wheel, which contains MovieLens-100K, and save its three tables as the zip `target`.

    Nothing is installed. Raises DataError where pip fails or the wheel has another checksum."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input",
                   "--quiet", "--disable-pip-version-check", "--dest", folder, RECBOLE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise DataError(f"no answer within {PIP_TIMEOUT} seconds") from None
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
            raise DataError(next((line for line in reversed(said) if line.startswith("ERROR")), said[-1]))
        wheel = Path(folder) / RECBOLE_WHEEL
        check_recbole_wheel(wheel)
        small = Path(folder) / "small.zip"
        with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as kept:
            for member in RECBOLE_MEMBERS:
                kept.writestr(member, source.read(member))
        with open(small, "rb+") as f:
            os.fsync(f.fileno())
        os.replace(small, target)


def check_recbole_wheel(wheel: Path) -> None:
    """Raise DataError unless `wheel` is the file that is on the package index."""
    if not wheel.exists():
        raise DataError(f"pip downloaded no {wheel.name}")
    if not matches(wheel, RECBOLE_CHECKSUM):
        raise DataError(f"{wheel} does not match its known checksum, {RECBOLE_CHECKSUM}; delete that file")

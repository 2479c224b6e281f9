"""Files from elsewhere into the cache folder: resumed where they broke off, checked, and only then given their name."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..environment import bars_wanted
from ..errors import DataError

TIMEOUT = 10.0     # seconds to connect, and the longest silence while receiving
CHUNK = 1 << 20    # bytes
PIP_TIMEOUT = 300  # seconds

RECBOLE = "recbole==1.2.1"
RECBOLE_WHEEL = "recbole-1.2.1-py3-none-any.whl"
RECBOLE_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
RECBOLE_MEMBERS = tuple(f"recbole/dataset_example/ml-100k/ml-100k.{part}" for part in ("inter", "item", "user"))


def cache_folder(home: str | os.PathLike | None = None) -> Path:
    """Where data sets are kept: `home`, else $COLLAB_HOME, else "collab" in the user's cache directory."""
    chosen = home or os.environ.get("COLLAB_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "collab"


def fetch_zip(url: str, target: Path, digests: Mapping[str, str]) -> None:
    """Download the zip file at `url` to `target`, by way of `target`.part, from which a later call continues.

    `digests`: hash name -> hex digest, all of which must hold; where there is none, the checksums that every
    zip file carries of its members must.
    Raises OSError or http.client.HTTPException where the transfer fails (what has come stays, for the next call),
    and DataError where the file is not the right one (it is deleted)."""
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    resumed = part.exists() and part.stat().st_size > 0
    _receive(url, part)
    problem = what_is_wrong(part, digests)
    if problem and resumed:  # the old part may be of some other file, so once more, from the start
        part.unlink()
        _receive(url, part)
        problem = what_is_wrong(part, digests)
    if problem:
        part.unlink()
        raise DataError(f"{problem}; what was downloaded has been deleted")
    os.replace(part, target)


def _receive(url: str, part: Path) -> None:
    """Append to `part` what it lacks of `url`; write it anew if the server cannot send only the rest."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "collab (Python urllib)"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:  # nothing lies beyond the part: the check will tell whether it is whole
            return
        raise
    with response:
        if url.startswith("https:") and not response.url.startswith("https:"):
            raise DataError(f"the server led away from https, to {response.url}")
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        with open(part, "ab" if start else "wb") as f:
            for chunk in _with_bar(_chunks(response), int(length) if length else None):
                f.write(chunk)
            f.flush()
            os.fsync(f.fileno())
    if length and part.stat().st_size < start + int(length):
        raise OSError(f"the connection ended after {part.stat().st_size:,} of {start + int(length):,} bytes; "
                      "the next call continues from there")


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def _with_bar(chunks: Iterator[bytes], n_bytes: int | None) -> Iterator[bytes]:
    """The same chunks, with a progress bar (in MiB) if somebody is there to see it."""
    if not bars_wanted():
        return chunks
    from fastprogress.fastprogress import progress_bar
    return iter(progress_bar(chunks, total=-(-n_bytes // CHUNK) if n_bytes else "noinfer"))


def what_is_wrong(path: Path, digests: Mapping[str, str]) -> str:
    """What does not fit, in words; "" if all does: the file's `digests`, or without any the checksum of each member."""
    for name, expected in digests.items():
        if (found := digest(path, name)) != expected:
            return f"its {name} is {found}, not {expected}"
    if digests:
        return ""
    try:
        with zipfile.ZipFile(path) as file:
            broken = file.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        return f"it is no zip file ({error})"
    return f"its member {broken} is damaged" if broken else ""


def digest(path: Path, name: str) -> str:
    """The hash called `name` of a file, in hex."""
    hashed = hashlib.new(name, usedforsecurity=False)  # md5 is all that is on record for some archives
    with open(path, "rb") as f:
        for chunk in _chunks(f):
            hashed.update(chunk)
    return hashed.hexdigest()


def fetch_recbole(target: Path) -> None:
    """Let pip download RecBole's wheel, which holds MovieLens-100K, and keep its three tables as the zip `target`.

    Nothing is installed. Raises DataError where pip fails or the wheel is another one."""
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
    """Raises DataError unless `wheel` is the very file that is on the package index."""
    if not wheel.exists():
        raise DataError(f"there is no {wheel.name}")
    if (found := digest(wheel, "sha256")) != RECBOLE_SHA256:
        raise DataError(f"{wheel} has sha256 {found}, not {RECBOLE_SHA256}; delete that file")

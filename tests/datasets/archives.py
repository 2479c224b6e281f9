"""Small archives in the layouts of MovieLens, and editions that count them as the official ones."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import pandas as pd
import pytest

from collab.datasets.movielens import EDITIONS
from collab.datasets.rating_set import RatingSet

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

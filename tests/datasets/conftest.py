"""What tests of data sets share."""

from __future__ import annotations

import hashlib

import pytest
from archives import TINY_100K, edition, zip_of


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An archive in the layout of 100k with two ratings, which counts as the official one."""
    content = zip_of(TINY_100K)
    edition(monkeypatch, "100k", n_ratings=2, checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")
    return content

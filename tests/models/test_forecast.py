"""What EASE and InfiniteAE say they will need, before they start."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from collab import EASE, CollabWarning, InfiniteAE, memory
from collab.errors import DataError
from collab.models import forecast as forecast_module
from collab.models.forecast import forecast

CPU = torch.device("cpu")
ROWS = torch.tensor([1, 1, 2]), torch.tensor([1, 2, 2]), torch.ones(3)
MODELS = {"EASE over 100 items": lambda: EASE(100), "InfiniteAE over 100 users": lambda: InfiniteAE(100, 3)}
models = pytest.mark.parametrize("name", list(MODELS))


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with 200,000 bytes, on which 100,000 multiplications take a second."""
    monkeypatch.setattr(forecast_module, "free_memory", lambda device: 200_000)
    monkeypatch.setattr(forecast_module, "speed", lambda: 1e5)
    return monkeypatch


@models
def test_what_takes_much_memory_is_said(name: str, there: pytest.MonkeyPatch):
    there.setattr(forecast_module, "LARGE", 159_999)        # 16 bytes for 100 x 100 pairs are 160,000
    with pytest.warns(CollabWarning, match=rf"^{name} needs some 0\.2 MB while it is solved \(0\.2 MB are free\); "
                                           "where that is too much, leave out .*, or take ALS"):
        MODELS[name]().prepare(*ROWS)
    there.setattr(forecast_module, "LARGE", 160_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MODELS[name]().prepare(*ROWS)


@models
def test_what_takes_long_is_said(name: str, there: pytest.MonkeyPatch):
    there.setattr(forecast_module, "CERTAINLY_SHORT", 8e5)      # 0.8 multiplications for 100^3 are 8 seconds
    there.setattr(forecast_module, "LONG", 5.0)
    with pytest.warns(CollabWarning, match=r"and some \d+ (seconds|minutes); where"):
        MODELS[name]().prepare(*ROWS)
    there.setattr(forecast_module, "CERTAINLY_SHORT", 1e8)
    MODELS[name]().prepare(*ROWS)


@models
def test_what_does_not_fit_is_refused_before_any_work(name: str, there: pytest.MonkeyPatch):
    model = MODELS[name]()
    there.setattr(forecast_module, "free_memory", lambda device: 140_000)
    for maker in ("empty", "zeros"):        # of the table of pairs
        there.setattr(torch, maker, lambda *_, **__: pytest.fail("work has begun"))
    with pytest.raises(DataError, match=rf"^{name} needs some 0\.2 MB while it is solved, and 0\.1 MB are free; leave"):
        model.prepare(*ROWS)


def test_the_numbers_of_a_large_catalogue(there: pytest.MonkeyPatch):
    there.setattr(forecast_module, "free_memory", lambda device: 16 * 10**9)
    there.setattr(forecast_module, "speed", lambda: 2e10)
    for n_items, needs in ((30_000, r"14 GB while it is solved \(16 GB are free\), and some 18 minutes;"),
                           (10_000, r"1\.6 GB while it is solved \(16 GB are free\), and some 40 seconds;")):
        with pytest.warns(CollabWarning, match=f"EASE needs some {needs} where that is too much, take ALS"):
            forecast("EASE", 16 * n_items ** 2, 0.8 * n_items ** 3, CPU, "take ALS")
    with pytest.raises(DataError, match="EASE needs some 40 GB while it is solved, and 16 GB are free; take ALS"):
        forecast("EASE", 16 * 50_000 ** 2, 0.8 * 50_000 ** 3, CPU, "take ALS")


def test_where_nothing_says_what_is_free_the_need_is_said_all_the_same(there: pytest.MonkeyPatch):
    there.setattr(forecast_module, "free_memory", lambda device: None)
    with pytest.warns(CollabWarning, match=r"^A model needs some 2\.0 GB while it is solved; where that is .*, wait$"):
        forecast("A model", 2e9, 0.0, CPU, "wait")


def test_a_speed_is_measured():
    assert 1e6 < forecast_module.speed() < 1e14


# What is free -----------------------------------------------------------------------------------------------------

def test_free_memory_is_the_least_of_what_the_system_and_the_container_say(tmp_path: Path,
                                                                           monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemFree:  1000 kB\nMemAvailable:    5000 kB\n")
    assert memory.free_memory(CPU) == 5000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 500\n")
    assert memory.free_memory(CPU) == 5000 * 1024
    (tmp_path / "memory.max").write_text("4000\n")
    assert memory.free_memory(CPU) == 1500
    (tmp_path / "memory").mkdir()
    for name, text in (("limit_in_bytes", "3500"), ("usage_in_bytes", "3000")):
        (tmp_path / "memory" / f"memory.{name}").write_text(text)
    (tmp_path / "memory" / "memory.stat").write_text("inactive_file 7\ntotal_inactive_file 100\n")
    assert memory.free_memory(CPU) == 600


def test_here_something_is_free_or_nothing_is_said():
    assert (free := memory.free_memory(CPU)) is None or 0 < free < 2 ** 50
    assert memory.free_memory(torch.device("meta")) is None

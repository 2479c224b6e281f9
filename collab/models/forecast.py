"""Forecasts: what a model that is solved at once will need, said before it starts."""

from __future__ import annotations

import time

import torch

from ..errors import DataError, warn
from ..memory import free_memory

LARGE = 1 << 30             # bytes from which on a need is said
LONG = 60.0                 # seconds, likewise
CERTAINLY_SHORT = 1e11      # multiplications that take no machine so long: its speed need not be measured
PROBE = 1024                # rows of the matrices whose product measures it


def forecast(what: str, n_bytes: float, multiplications: float, device: torch.device, remedy: str) -> None:
    """Warn, with a `CollabWarning`, of a solution that takes more than LARGE bytes or LONG seconds. Raises DataError
    where there is less memory.

    `what` is the subject of the message, such as "EASE over 30,000 items". `n_bytes` are those that will be allocated
    besides what is there. `multiplications` are counted in those of a product of large float64 matrices, whose speed is
    measured; on a GPU no time is forecast."""
    free = free_memory(device)
    needs = f"{what} needs some {_size(n_bytes)} while it is solved"
    if free is not None and n_bytes > free:
        raise DataError(f"{needs}, and {_size(free)} are free; {remedy}")
    seconds = 0.0
    if device.type == "cpu" and multiplications > CERTAINLY_SHORT:
        seconds = multiplications / speed()
    if n_bytes > LARGE or seconds > LONG:
        there = "" if free is None else f" ({_size(free)} are free)"
        long = "" if not seconds else f", and {_duration(seconds)}"
        warn(f"{needs}{there}{long}; where that is too much, {remedy}")


def speed() -> float:
    """Multiplications (with an addition) per second in a product of large float64 matrices, here and now."""
    matrix, best = torch.ones(PROBE, PROBE, dtype=torch.float64), float("inf")
    for _ in range(3):      # the first may start threads
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return PROBE ** 3 / best


def _size(n_bytes: float) -> str:
    size, unit = (1e9, "GB") if n_bytes >= 1e9 else (1e6, "MB")
    return f"{n_bytes / size:,.{int(n_bytes < 10 * size)}f} {unit}"


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"some {seconds / size:,.0f} {unit}"
    return f"some {seconds:,.0f} seconds"

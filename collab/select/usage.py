"""What a piece of work takes: seconds of the processor, and how much memory it adds at its peak."""

from __future__ import annotations

import gc
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..memory import give_back

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"        # what to write to CLEAR: see proc(5)


@dataclass
class Usage:
    """Seconds of the processor, over all threads, and the megabytes that the process, or the GPU, had at its peak
    beyond what it had before. NaN where the system does not say: it does on Linux, and on a GPU."""

    seconds: float = math.nan
    mb: float = math.nan


@contextmanager
def measured_usage(device: torch.device) -> Iterator[Usage]:
    """Measure the work inside this `with`; the result is filled in at its end. Memory that was freed before is given
    back to the system first, so that using it again counts."""
    usage, on_gpu = Usage(), device.type == "cuda"
    gc.collect()            # learners are in cycles with their callbacks
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before: float = torch.cuda.memory_allocated(device)
    else:
        before = _reset_peak()
    start = time.process_time()
    try:
        yield usage
    finally:
        usage.seconds = time.process_time() - start
        peak = torch.cuda.max_memory_allocated(device) if on_gpu else _status("VmHWM")
        usage.mb = max(0.0, peak - before) / 2 ** 20


@contextmanager
def quick_collection() -> Iterator[None]:
    """Leave what there is already, such as the objects of imported modules, out of garbage collection for the length of
    this `with`: going over them for every model would take longer than small models take."""
    frozen = gc.get_freeze_count() > 0          # by the caller, for longer
    if not frozen:
        gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()


def _reset_peak() -> float:
    """Bytes in use, after the record of the most has been set to that; NaN where it cannot be."""
    give_back()
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return math.nan
    return _status("VmRSS")


def _status(name: str) -> float:
    """Bytes that the system counts under this name; NaN where it does not."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.M)
    except OSError:
        return math.nan
    return int(found[1]) * 1024.0 if found else math.nan

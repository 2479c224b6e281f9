"""How much memory is free, as far as the system says, and what is not used any more."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
GROUPS = Path("/sys/fs/cgroup")             # of a container: limit, use and what of it is files, in version 2 and in 1
GROUP_FILES = (("memory.max", "memory.current", "inactive_file"),
               ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"))


def free_memory(device: torch.device) -> int | None:
    """Bytes that can be had on a device: on a GPU what its driver calls free; on Linux what is available without
    swapping, and within the limit of a container; on other systems all that is installed. None where nothing says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    free = [_container(*names) for names in GROUP_FILES]
    if MEMINFO.exists():
        found = re.search(r"MemAvailable:\s+(\d+) kB", MEMINFO.read_text())
        free.append(int(found[1]) * 1024 if found else None)
    elif "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((n for n in free if n is not None), default=None)


def give_back() -> None:
    """Let the system have memory that was freed and is kept for more, where the C library can (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _container(limit: str, used: str, files: str) -> int | None:
    """What is left within a limit, files that the system keeps in memory not counted; None where there is no limit."""
    try:
        most, now = (int((GROUPS / name).read_text()) for name in (limit, used))        # "max" is no number
        kept = re.search(rf"^{files} (\d+)", (GROUPS / used).with_name("memory.stat").read_text(), re.M)
    except (OSError, ValueError):
        return None
    return max(0, most - now + (int(kept[1]) if kept else 0))

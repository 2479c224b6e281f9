"""Stages: the peak of memory, and the CPU seconds, of one step after another in a process."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class Stages:
    """Runs steps, and keeps for each the MiB beyond what the process held when this object was made.

    The kernel's record of the largest resident size (VmHWM) starts anew before each step, so that a step is not
    charged with an earlier one's peak, though it is with what that left behind. Elsewhere than on Linux, OSError."""

    def __init__(self) -> None:
        self.before = resident("VmRSS")
        self.found: dict[str, dict[str, float]] = {}

    def run(self, name: str, step: Callable[[], T]) -> T:
        Path("/proc/self/clear_refs").write_text("5")
        start = time.process_time()
        made = step()
        self.found[name] = {"seconds": time.process_time() - start, "mib": resident("VmHWM") - self.before}
        return made

    def peak(self, step: Callable[[], object]) -> float:
        """The MiB of a single step."""
        self.run("", step)
        return self.found[""]["mib"]


def resident(name: str) -> float:
    """MiB: VmRSS is the resident size now, VmHWM the largest since it was last cleared."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise OSError(f"this system does not tell {name}")

"""Where the figures come from: the machine, the versions on both sides, the commit."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
PEER = ROOT / ".peers" / "bin" / "python"
OURS = ("torch", "numpy", "numba", "pandas", "pyarrow")
PEERS = ("fastai", "scikit-surprise", "implicit", "libmf", "faiss-cpu", "torch", "numpy", "pandas")
VECTORS = ("sse4_2", "avx", "avx2", "fma", "avx512f")       # of the processor's flags, those that kernels are built for


@cache
def machine() -> dict[str, str]:
    """The processor, its vector instructions, the cores that were used, memory and system."""
    info = _pairs("/proc/cpuinfo")
    flags = info.get("flags", info.get("Features", "")).split()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = int(_pairs("/proc/meminfo").get("MemTotal", "0 kB").split()[0]) / 2**20
    return {"processor": info.get("model name", platform.processor() or platform.machine()),
            "instructions": " ".join(name for name in VECTORS if name in flags),
            "cores": f"{usable} of {os.cpu_count()}, one thread",
            "memory": f"{memory:.0f} GiB", "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version()}


@cache
def versions() -> dict[str, str]:
    """{package: version}, those of the peers' environment as "peers: package"."""
    made = {name: found for name in OURS if (found := _version(name))}
    if PEER.exists():
        code = f"import importlib.metadata as m, json; print(json.dumps({{name: m.version(name) for name in {PEERS}}}))"
        theirs = json.loads(subprocess.run([PEER, "-c", code], capture_output=True, text=True, check=True).stdout)
        made |= {f"peers: {name}": found for name, found in theirs.items()}
    return made


def commit() -> str:
    """The short hash of the commit, with "+" where collab/ differs from it; "unknown" outside a repository."""
    try:
        def git(*words: str) -> str:
            return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout
        return git("rev-parse", "--short", "HEAD").strip() + ("+" if git("status", "--porcelain", "collab") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def today() -> str:
    return datetime.date.today().isoformat()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _pairs(path: str) -> dict[str, str]:
    """The first "name : value" of each name; nothing where there is no such file (not Linux)."""
    made: dict[str, str] = {}
    if Path(path).exists():
        for line in Path(path).read_text().splitlines():
            name, _, value = line.partition(":")
            made.setdefault(name.strip(), value.strip())
    return made

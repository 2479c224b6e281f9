"""Child processes: the seconds of the processor that one took, and the JSON of a peer's last line."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .machine import PEER, ROOT

TIMEOUT = 3600      # seconds of the clock; no child of a sound run comes near it


class Failed(Exception):
    """A child process ended with an error, or not at all."""


class Child(NamedTuple):
    stdout: str
    seconds: float      # of the processor, start and end of the process included


def child(command: Sequence[str | Path], **env: str) -> Child:
    """Run a command in the repository's root to its end, with `env` added to the environment. Raises Failed."""
    return _run([*map(str, command)], os.environ | env)


def peer(script: str, *arguments: object, **env: str) -> dict[str, Any]:
    """What a script of benchmarks/peers prints as its last line, run by the peers' own Python; "child_seconds" is what
    the whole process took. Raises Failed."""
    if not PEER.exists():
        raise Failed("the peers have no environment yet: make peers")
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(PEER), f"benchmarks/peers/{script}.py", *map(str, arguments)]
    made = _run(command, own | env)
    return json.loads(made.stdout.splitlines()[-1]) | {"child_seconds": made.seconds}


def _run(command: list[str], env: Mapping[str, str]) -> Child:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)}: no end after {TIMEOUT} s") from None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode:
        last = (run.stderr.strip() or run.stdout.strip() or "no output").splitlines()[-1]
        raise Failed(f"{' '.join(command)}: exit status {run.returncode}: {last}")
    return Child(run.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

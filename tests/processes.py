"""Several processes that work together, for tests: forks, each with a time limit."""

import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

LIMIT = 60      # seconds


def in_processes(n, work, limit=LIMIT, minutes=0.5, again="0"):
    """What `work(rank)` gives in each of `n` processes: [("gave", value) or ("raised", "Error: message") or ("died",
    signal)], in order. Processes that take longer than `limit` seconds are killed, which is an AssertionError."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        children = [_child(rank, n, port, work, Path(folder) / str(rank), again) for rank in range(n)]
        end, ended = time.monotonic() + limit, {}
        while len(ended) < n and time.monotonic() < end:
            for rank, pid in enumerate(children):
                if rank not in ended and (found := os.waitpid(pid, os.WNOHANG))[0]:
                    ended[rank] = found[1]
            time.sleep(0.01)
        for rank, pid in enumerate(children):
            if rank not in ended:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        assert len(ended) == n, f"processes {sorted({*range(n)} - {*ended})} did not end within {limit} seconds"
        return [("died", os.WTERMSIG(ended[rank])) if os.WIFSIGNALED(ended[rank]) else
                torch.load(Path(folder) / str(rank), weights_only=False) for rank in range(n)]


def values(results):
    """What every process gave; the first error of one is raised."""
    for rank, (how, what) in enumerate(results):
        assert how == "gave", f"process {rank} {how} {what}"
    return [what for _, what in results]


def ended_after_a_kill(folder, script, fresh):
    """The weights that two processes of torchrun leave in weights0 and weights1 of their folder, where one has died and
    all were started again. `script` has places for the `paths` of imports and for its `folder`, and leaves a file
    "died" there."""
    tests = Path(__file__).parent
    code = script.format(paths=[str(tests), str(tests.parent)], folder=str(folder))
    done = fresh.run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1",
                     "--monitor-interval", "0.1", "--no-python", *fresh.command("-c", code))
    assert done.returncode == 0, done.stderr
    assert (folder / "died").exists()
    return [torch.load(folder / f"weights{rank}", weights_only=True) for rank in (0, 1)]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _child(rank, n, port, work, file, again):
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    try:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
                       "MASTER_PORT": str(port), "TORCHELASTIC_RESTART_COUNT": again}
        torch.set_num_threads(1)
        try:
            result = "gave", work(rank)
        except BaseException as error:
            result = "raised", f"{type(error).__name__}: {error}"
            if os.environ.get("SHOW"):
                traceback.print_exc()
        part = file.with_suffix(".part")
        torch.save(result, part)
        part.rename(file)
        sys.stdout.flush()
    finally:
        os._exit(0)

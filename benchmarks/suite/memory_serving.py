"""What the lists of 5,000 users take in memory, beyond what the process holds before the first: one process.

Run by the suite (benchmarks/suite/memory.py); alone: python -m benchmarks.suite.memory_serving FOLDER SIZE"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from benchmarks.peers.stages import Stages

from .contest import Choices
from .serving import SHAPES, best, question
from .sets import Sets


def main(folder: str, size: str) -> None:
    torch.set_num_threads(1)
    asked = question(*SHAPES[size], Choices(Sets(Path(folder)), (size,), (), 1, 0))
    _ = asked.learn.data.histories      # made once, and kept
    print(json.dumps({"mib": Stages().peak(lambda: best(asked.learn, asked.users)), "file": str(asked.file),
                      "out": str(asked.out)}))


if __name__ == "__main__":
    main(*sys.argv[1:])

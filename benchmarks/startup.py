"""What `import collab` takes beyond torch and pandas, in fresh processes by turns: the difference of the medians.

Run: python benchmarks/startup.py [--repeats 7]"""

import argparse
import statistics
import subprocess
import sys
import time


def seconds(statement: str) -> float:
    """How long a new interpreter takes for a statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    base, ours = "import torch, pandas", "import torch, pandas, collab"
    seconds(ours)                                                           # warm the file cache
    times = [(seconds(base), seconds(ours)) for _ in range(repeats)]
    before, after = (statistics.median(column) for column in zip(*times))
    print(f"{base}: {before:.2f} s; with collab: {after:.2f} s; {after - before:+.2f} s")


if __name__ == "__main__":
    main()

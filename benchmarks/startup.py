"""What starting takes beyond torch: CPU seconds of fresh processes by turns, and where those of a first fit go.

Run: python benchmarks/startup.py [--repeats 7] [--first-fit]

The medians of `import torch`, `import collab` (which loads torch when a name is asked for), all public names, help and
the version, and the difference to `import torch`. Python keeps compiled files in a folder of this script's own, so that
nothing is compiled while it measures. The goal: all names within 0.3 s of torch, help without torch.

With --first-fit, the steps of a script that trains on MovieLens-100K's u1 split for five epochs, from the start of its
process, in batches of 64 and of 1,024 (COLLAB_HOME says where the archive is)."""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile

CASES = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import torch, pandas": ["-c", "import torch, pandas"],
    "import torch, collab": ["-c", "import torch, collab"],
    "from collab import *": ["-c", "from collab import *"],
    "collab --version": ["-m", "collab", "--version"],
    "collab --help": ["-m", "collab", "--help"],
    "collab train --help": ["-m", "collab", "train", "--help"],
}
FIRST_FIT = """
import time
steps = [("the interpreter", time.process_time())]
def done(step): steps.append((step, time.process_time()))
import torch; done("import torch")
torch.set_num_threads(1)
import pandas; done("import pandas")
from collab import *; done("from collab import *")
ml = movielens("100k"); done('movielens("100k")')
data = CollabDataBunch.from_df(ml.ratings, split="u1", items=ml.items, bs={bs}, seed=0); done("from_df")
learn = collab_learner(data); done("collab_learner")
learn.fit_one_cycle(5); done("fit_one_cycle(5)")
learn.validate(); done("validate, once more")
learn.recommend(196); done("the first recommend")
before = 0.0
for step, now in steps:
    print(f"{{step:<24}}{{now - before:>8.3f}}{{now:>8.3f}}")
    before = now
"""


def seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """The CPU seconds, user's and system's, of a new interpreter with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--first-fit", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        for arguments in CASES.values():
            seconds(arguments, environment)
        times = [{name: seconds(arguments, environment) for name, arguments in CASES.items()}
                 for _ in range(args.repeats)]
        median = {name: statistics.median(row[name] for row in times) for name in CASES}
        print(f"{'':<24}{'CPU s':>8}{'beyond torch':>14}{'of torch':>10}")
        for name, own in median.items():
            print(f"{name:<24}{own:>8.3f}{own - median['import torch']:>+14.3f}{own / median['import torch']:>10.2f}")
        for bs in (64, 1024) if args.first_fit else ():
            print(f"\nBatches of {bs:,}:\n\n{'':<24}{'CPU s':>8}{'so far':>8}")
            for _ in range(2):      # the first compiles files
                said = subprocess.run([sys.executable, "-c", FIRST_FIT.format(bs=bs)], check=True, env=environment,
                                      capture_output=True, text=True).stdout
            print(said, end="")


if __name__ == "__main__":
    main()

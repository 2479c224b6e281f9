"""A GPU beside the CPU: seconds an epoch of whole fits, and the errors of both.

Run: python benchmarks/gpu.py [--size 1m] [--models dot_bias net ...] [--bs 8192] [--epochs 2]

The ratings lie on the device, a tenth is held out and measured after every epoch; models that rank take ratings above 4
for choices. Seconds by the clock, the device having ended, after a fit of one epoch that is not counted (compilation,
and the start of CUDA). On the CPU, with the threads that a fit takes by itself, `dot_bias`, `bpr` and ALS run compiled
kernels, the others torch. Peak memory is what CUDA's allocator held. Without a GPU nothing is measured."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.suite.sets import HELD_OUT, SEED, Sets
from collab import CollabDataBunch, collab_learner

MODELS = ["dot_bias", "net", "classifier", "svdpp", "als_explicit", "bpr", "softmax", "two_tower", "lightgcn", "als"]
RANKERS = {"bpr", "softmax", "two_tower", "lightgcn", "als"}
LIKED = 4.0


def fits(data: CollabDataBunch, model: str, epochs: int) -> tuple[float, float, float]:
    """(seconds an epoch, validation loss or RMSE at the end, peak of CUDA's memory in MiB)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in (1, epochs):
            learn = collab_learner(data, model, seed=SEED)
            on_gpu = data.device.type == "cuda"
            if on_gpu:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            with learn.no_logging():
                learn.fit(n) if learn.collab_model.solved else learn.fit_one_cycle(n)
            if on_gpu:
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
    last = learn.recorder.rows[-1]
    peak = torch.cuda.max_memory_allocated() / 2 ** 20 if on_gpu else 0.0
    return seconds / epochs, last.get("rmse", last["valid_loss"]), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="1m")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--bs", type=int, default=8192)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--sets", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--devices", nargs=2, default=["cpu", "cuda"])
    args = parser.parse_args()
    if "cuda" in args.devices and not torch.cuda.is_available():
        print("no GPU here: nothing is measured")
        return
    print(f"{torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'}, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads of the CPU; {args.size}, bs {args.bs}, {args.epochs} epochs")
    print("| model | CPU, s an epoch | GPU | CPU / GPU | error on the CPU | on the GPU | peak, MiB |")
    print("|---|---|---|---|---|---|---|")
    table = Sets(args.sets).table(args.size)
    for model in args.models:
        options = {"implicit": True, "threshold": LIKED} if model in RANKERS else {}
        row = [fits(CollabDataBunch.from_df(table, valid_pct=HELD_OUT, seed=SEED, bs=args.bs, device=device, **options),
                    model, args.epochs) for device in args.devices]
        (cpu, error, _), (gpu, its_error, peak) = row
        print(f"| {model} | {cpu:.3f} | {gpu:.3f} | {cpu / gpu:.1f} | {error:.4f} | {its_error:.4f} | {peak:.0f} |",
              flush=True)


if __name__ == "__main__":
    main()

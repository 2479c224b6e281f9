"""An epoch of batches without a model: TensorBatches beside torch's DataLoader over the same tensors.

Run: python benchmarks/batches.py [--n 100000] [--bs 64]"""

import argparse
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

from collab import TensorBatches


def microseconds(batches) -> float:
    """Per batch, over one epoch."""
    start = time.perf_counter()
    n = sum(1 for _ in batches)
    return 1e6 * (time.perf_counter() - start) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--bs", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tensors = torch.randint(1000, (options.n,)), torch.randint(1000, (options.n,)), torch.rand(options.n)
    ours = TensorBatches(*tensors, bs=options.bs, shuffle=True)
    loader = DataLoader(TensorDataset(*tensors), batch_size=options.bs, shuffle=True)
    times = [(microseconds(ours), microseconds(loader)) for _ in range(4)][1:]
    fast, slow = (min(column) for column in zip(*times))
    print(f"TensorBatches {fast:.1f}, DataLoader {slow:.1f} microseconds a batch: {slow / fast:.0f} times")


if __name__ == "__main__":
    main()

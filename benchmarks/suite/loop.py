"""What the loop costs: the Learner beside a bare loop of PyTorch, and its batches beside torch's DataLoader.

Both train the same model, factors and biases, by one-cycle and fused AdamW on synthetic ratings; the Learner as it
comes, with its recorder, its table and its bar, drawn into nothing."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from unittest import mock

import pandas as pd
import torch
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from collab import CollabDataBunch, EmbeddingDotBias, TensorBatches, collab_learner, synthetic
from collab.train.callbacks import progress

from .contest import Choices, Run, contest
from .row import Row
from .sets import SEED

BS = 64


def rows(choices: Choices) -> Iterator[Row]:
    choices = replace(choices, rounds=5)        # they take a second each
    ratings = synthetic(n_users=943, n_items=1682, n_ratings=40_000, seed=SEED).ratings
    yield from learner(ratings, choices)
    yield from batches(choices)


def learner(ratings: pd.DataFrame, choices: Choices) -> Iterable[Row]:
    """An epoch of batches of 64 by the Learner, and by hand."""
    def epoch(by_hand: bool) -> Run:
        data = CollabDataBunch.from_df(ratings, valid_pct=0, bs=BS, seed=SEED, device="cpu")
        torch.manual_seed(SEED)
        model = EmbeddingDotBias(50, data.n_users, data.n_items, y_range=data.y_range, mean=data.mean)
        start = time.process_time()
        if by_hand:
            bare(data, model)
        else:
            with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), \
                    mock.patch.object(progress, "bars_wanted", lambda: True):       # as if somebody watched
                collab_learner(data, model, lr=5e-3, wd=0.3).fit_one_cycle(1)
        return Run(1e6 * (time.process_time() - start) / len(data.train))
    for by_hand in (False, True):
        epoch(by_hand)      # to load what torch loads late
    return contest("training", "an epoch in batches of 64", "40,000 ratings", "CPU µs a batch", lambda: epoch(False),
                   {"a bare loop of PyTorch": lambda: epoch(True)}, choices)


def bare(data: CollabDataBunch, model: EmbeddingDotBias) -> None:
    """A plain loop: no framework, no history, nothing printed."""
    users, items, ratings = data.train.tensors
    factors = [model.u_weight.weight, model.i_weight.weight]
    biases = [model.u_bias.weight, model.i_bias.weight, model.mu]
    opt = torch.optim.AdamW([{"params": factors, "weight_decay": 0.3}, {"params": biases, "weight_decay": 0.0}],
                            lr=5e-3, betas=(0.95, 0.99), fused=True)
    n_batches = math.ceil(len(ratings) / BS)
    model.train()
    order = torch.randperm(len(ratings))
    for done, (u, i, y) in enumerate(zip(*(t[order].split(BS) for t in (users, items, ratings)))):
        pos = done / n_batches
        rising = pos < 0.25
        pos = pos / 0.25 if rising else (pos - 0.25) / 0.75
        lr, mom = (cosine(2e-4, 5e-3, pos), cosine(0.95, 0.85, pos)) if rising else \
            (cosine(5e-3, 5e-8, pos), cosine(0.85, 0.95, pos))
        for group in opt.param_groups:
            group["lr"], group["betas"] = lr, (mom, 0.99)
        loss = mse_loss(model(u, i), y)
        loss.backward()
        opt.step()
        opt.zero_grad()


def cosine(start: float, end: float, pos: float) -> float:
    return start + (end - start) * (1 - math.cos(math.pi * pos)) / 2


def batches(choices: Choices) -> Iterable[Row]:
    """An epoch of batches without a model."""
    n, draw = 100_000, torch.Generator().manual_seed(SEED)
    columns = [torch.randint(1000, (n,), generator=draw) for _ in range(2)] + [torch.rand(n, generator=draw)]

    def epoch(batches: Iterable[object]) -> Run:
        start = time.process_time()
        count = sum(1 for _ in batches)
        return Run(1e6 * (time.process_time() - start) / count)
    loader = DataLoader(TensorDataset(*columns), batch_size=BS, shuffle=True)
    return contest("training", "batches of 64, without a model", "100,000 ratings", "CPU µs a batch",
                   lambda: epoch(TensorBatches(*columns, bs=BS, shuffle=True)),
                   {"torch's DataLoader": lambda: epoch(loader)}, choices)

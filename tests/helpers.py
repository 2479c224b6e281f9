"""Learners, callbacks and data that several test modules share."""

import csv
import re

import numpy as np
import torch
from torch import Tensor, nn

from collab import Callback, CollabDataBunch, DataBunch, Learner, MixedPrecision, synthetic
from collab.losses import mse

X = torch.linspace(-1, 1, 10).unsqueeze(1)
Y = 3 * X + 1
RATINGS = synthetic(30, 20, 300, seed=2).ratings


def line_learner(cbs=None, bs=4, valid=True, **options):
    """A line through ten points on y = 3 x + 1: three batches of training, two of validation."""
    batches = [(X[i:i + bs], Y[i:i + bs]) for i in range(0, 10, bs)]
    torch.manual_seed(0)
    options = {"lr": 0.1, **options}
    return Learner(DataBunch(batches, batches[:2] if valid else None, device="cpu"), nn.Linear(1, 1), mse, cbs=cbs,
                   **options)


def fit_quietly(learn, n=1, **options):
    """Fit without bars and table."""
    with learn.no_logging():
        learn.fit(n, **options)


def raise_at(event, error, at=0, order=-1):
    """A callback that raises `error` once, in the call of `event` that follows `at` others."""
    calls = []

    def method(self):
        calls.append(1)
        if len(calls) == at + 1:
            raise error
    return type("RaiseAt", (Callback,), {event: method, "order": order})()


def some_cb(name="Some", order=0.0, **methods):
    """A callback with these methods, functions of itself."""
    return type(name, (Callback,), {"order": order, **methods})()


class Batchwise(Callback):
    """Listens to every batch and does nothing: with it the loop trains, not a fused pass."""

    def after_batch(self):
        pass


class Scripted(Callback):
    """Makes the validation loss what a script says, epoch by epoch; the weights are the number of the epoch."""

    order = 5

    def __init__(self, losses):
        self.losses = losses

    def after_epoch(self):
        self.learn.recorder.rows[-1]["valid_loss"] = self.losses[self.learn.epoch]

    def after_train(self):
        with torch.no_grad():
            self.learn.model.weight.fill_(self.learn.epoch)


def scripted(losses, cb, **options):
    """A learner fitted with `cb` for as many epochs as there are losses (see `Scripted`)."""
    learn = line_learner([Scripted(losses), cb], **options)
    fit_quietly(learn, len(losses))
    return learn


def scaled_on_a_cpu(monkeypatch):
    """MixedPrecision with the scaled loss that float16 has on a GPU, in bfloat16 on a CPU."""
    monkeypatch.setattr("collab.train.callbacks.steps._scaler",
                        lambda dtype: torch.amp.GradScaler("cpu", init_scale=1024.0))
    return MixedPrecision()


class TwoLayers(nn.Sequential):
    """A line of two layers, each a parameter group."""

    def __init__(self):
        super().__init__(nn.Linear(1, 2), nn.Linear(2, 1))

    def param_groups(self):
        return [{"name": name, "params": list(layer.parameters())} for name, layer in zip(("first", "last"), self)]


def two_layer_learner(**options):
    learn = line_learner(**options)
    learn.model = TwoLayers()
    return learn


def small_data(bs: int | str = "full", **options) -> CollabDataBunch:
    """300 ratings of 30 users and 20 items."""
    return CollabDataBunch.from_df(RATINGS, seed=0, bs=bs, device="cpu", **options)


def same(one, other, path=""):
    """Whether two trees hold the same bits; times are left out, since they cannot be repeated."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k], k) for k in one if k != "seconds")
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def interrupted_at(event, at):
    """A callback that stops the fit with Ctrl-C in the `at`-th call of `event`, counted from 1."""
    class Stop(Callback):
        order = 101                                         # after the checkpoint of this batch
        calls = 0

        def count(self):
            self.calls += 1
            if self.calls == at:
                raise KeyboardInterrupt
    setattr(Stop, event, Stop.count)
    return Stop()


def cut_at(n, error=KeyboardInterrupt):
    """A callback that raises `error` in the n-th training batch of the learner's history."""
    class Cut(Callback):
        def after_loss(self):
            if self.learn.recorder.n_batches == n:
                raise error
    return Cut()


def rows_of(path):
    """The lines of a CSV file as dicts."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rows(n_users: int = 9, n_items: int = 12, n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Users, items and ratings from 1 to 5 of different pairs, of known rows alone."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice((n_users - 1) * (n_items - 1), size=min(n, (n_users - 1) * (n_items - 1)), replace=False)
    users, items = 1 + pairs // (n_items - 1), 1 + pairs % (n_items - 1)
    return torch.from_numpy(users), torch.from_numpy(items), torch.from_numpy(rng.integers(1, 6, len(pairs)) * 1.0)


def dense(data: tuple[Tensor, Tensor, Tensor], n_users: int, n_items: int, implicit: bool = True) -> np.ndarray:
    """The table of known users and known items: interactions, or ratings."""
    x = np.zeros((n_users, n_items))
    x[data[0], data[1]] = 1.0 if implicit else data[2]
    return x[1:, 1:]


def python_blocks(path):
    """The blocks of Python in a page of Markdown."""
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_blocks(path):
    """Run these from top to bottom, as one program in the current folder; return how many they are."""
    blocks, names = python_blocks(path), {}
    for block in blocks:
        exec(compile(block, path.name, "exec"), names)
    return len(blocks)

"""A GPU never waits inside an epoch: no number is read back, and no shape depends on one, from batch to batch."""

import pytest
import torch
from helpers import Batchwise
from torch.utils._python_dispatch import TorchDispatchMode

from collab import BPR, EMA, L2, Callback, CollabDataBunch, GradientClip, SampledSoftmax, collab_learner, synthetic

RATINGS = synthetic(n_users=90, n_items=60, n_ratings=1_500, seed=3).ratings
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}
LEARNERS = {
    "default, RowAdagrad": {}, "default, AdamW": {"bs": 3}, "rate of one's own": {"lr": 5e-3, "wd": 0.1},
    "dot": {"model": "dot"}, "net": {"model": "net"}, "classifier": {"model": "classifier"},
    "bpr": {"model": "bpr"}, "any negatives": {"model": "dot", "loss_func": BPR(2, exclude_seen=False)},
    "sampled softmax": {"model": "dot", "loss_func": SampledSoftmax(5)}, "two_tower": {"model": "two_tower"},
    "callbacks": {"lr": 5e-3, "cbs": [EMA(), GradientClip(1.0)], "loss_terms": [L2(0.1)]},
}


class Waits(TorchDispatchMode):
    """Notes operations for which a GPU would have to wait; the optimizer's counts of steps lie on the CPU there too."""

    def __init__(self, learn):
        super().__init__()
        self.learn, self.seen = learn, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").partition(".")[0]
        steps = {id(state["step"]) for state in self.learn.opt.state.values() if "step" in state}
        by_mask = name in ("index", "index_put_") and any(i is not None and i.dtype == torch.bool for i in args[1])
        if by_mask or (name in WAITS and id(args[0]) not in steps):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def learner(device, bs=64, model="dot_bias", **options):
    data = CollabDataBunch.from_df(RATINGS, valid_pct=0, seed=0, bs=bs, device=device)
    return collab_learner(data, model, **{"metrics": [], "seed": 1, **options})


class From(Callback):
    """Watches a pass from the end of its second batch to the end of its last but one."""

    order = 1000

    def __init__(self, begin, end):
        self.begin, self.end = begin, end

    def after_batch(self):
        if self.learn.i == 1:
            self.begin()

    def before_batch(self):
        if self.learn.i == len(self.learn.data.train) - 1:
            self.end()


@pytest.mark.parametrize("name", LEARNERS)
def test_nothing_is_read_back_inside_an_epoch(name):
    learn = learner("cpu", **LEARNERS[name])
    watch = Waits(learn)
    with learn.no_logging():
        learn.fit_one_cycle(1, cbs=[Batchwise(), From(watch.__enter__, lambda: watch.__exit__(None, None, None))])
    assert watch.seen == []


def test_the_watch_sees_what_is_read_back():
    learn = learner("cpu")
    watch = Waits(learn)
    reads = type("Reads", (Callback,), {"after_loss": lambda self: self.learn.loss.item()})()
    with learn.no_logging():
        learn.fit(1, cbs=[reads, From(watch.__enter__, lambda: watch.__exit__(None, None, None))])
    assert watch.seen == ["_local_scalar_dense"] * (len(learn.data.train) - 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch watches for waits on a CUDA device alone")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("name", LEARNERS)
def test_a_gpu_does_not_wait_inside_an_epoch(name):
    learn = learner("cuda", **LEARNERS[name])
    assert all(t.device.type == "cuda" for t in learn.data.train.tensors)       # no batch is copied
    set_mode = torch.cuda.set_sync_debug_mode
    try:
        with learn.no_logging():
            learn.fit_one_cycle(1, cbs=From(lambda: set_mode("error"), lambda: set_mode("default")))
    finally:
        set_mode("default")

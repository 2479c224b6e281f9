"""Slices of each batch in several processes, beside torch's own replicated tensors: DTensors whose placement is
`Replicate`, with which every process goes over whole batches."""

import os
from functools import partial

import pytest
import torch
from helpers import Batchwise
from processes import in_processes, values
from torch import distributed as dist
from torch.distributed.tensor import DTensor, distribute_module, init_device_mesh
from torch.distributed.tensor.experimental import implicit_replication

from collab import Callback, CollabDataBunch, collab_learner, synthetic

PROCESSES = 2
RATINGS = synthetic(n_users=120, n_items=90, n_ratings=1_500, seed=3).ratings
OPTIMIZERS = {"sgd": {"opt_func": torch.optim.SGD, "lr": 0.3, "wd": 0.01},
              "adagrad": {"opt_func": torch.optim.Adagrad, "lr": 0.05, "wd": None}, "adamw": {"lr": 5e-3, "wd": 0.1}}


class PlainLoss(Callback):
    """Gives the other callbacks the loss as a tensor of this process, through which gradients still flow."""

    order = -1000

    def after_loss(self):
        self.learn.loss = self.learn.loss.full_tensor()


def learner(model, optimizer):
    data = CollabDataBunch.from_df(RATINGS, valid_pct=0, seed=0, bs=100, device="cpu")
    sizes = {} if model == "two_tower" else {"n_factors": 5}
    return collab_learner(data, model, seed=1, cbs=Batchwise(), **OPTIMIZERS[optimizer], **sizes)


def fitted(learn):
    with learn.no_logging(), learn.distributed():
        learn.fit_one_cycle(2)
    return {name: p.detach() for name, p in learn.model.named_parameters()}


def by_slices(rank, model):
    return {optimizer: fitted(learner(model, optimizer)) for optimizer in OPTIMIZERS}


def by_replicated_tensors(rank, model):
    dist.init_process_group("gloo")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):   # for the learner, this is the only process
        del os.environ[name]
    mesh, found = init_device_mesh("cpu", (PROCESSES,)), {}
    for optimizer in OPTIMIZERS:
        learn = learner(model, optimizer)
        learn.set_model(distribute_module(learn.model, mesh))
        learn.add_cbs(PlainLoss())
        with implicit_replication():
            weights = fitted(learn)
        assert all(isinstance(p, DTensor) for p in weights.values())
        found[optimizer] = {name: p.full_tensor() for name, p in weights.items()}
    dist.destroy_process_group()
    return found


@pytest.mark.filterwarnings("ignore:DTensor random operators")
@pytest.mark.parametrize("model", ["dot_bias", "net", "bpr", "two_tower"])
def test_replicated_tensors_have_the_bits_of_one_process_and_slices_are_near(model):
    one = by_slices(0, model)
    reference = values(in_processes(PROCESSES, partial(by_replicated_tensors, model=model)))
    slices = values(in_processes(PROCESSES, partial(by_slices, model=model)))
    for optimizer in OPTIMIZERS:
        for name, p in one[optimizer].items():
            assert all(torch.equal(each[optimizer][name], p) for each in reference), (optimizer, name)
            for each in slices:
                torch.testing.assert_close(each[optimizer][name], reference[0][optimizer][name], atol=1e-5, rtol=0)

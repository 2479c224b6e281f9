"""ProcessGroup: the processes that train one model, and how they keep in step.

Before anything is exchanged, each process says in a short message where it is and whether it goes on. A process that
cancels, fails or is interrupted says so in place of the message that the others wait for, and all of them stop alike:
none waits for one that will not come."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from enum import IntEnum
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..processes import rank, size
from .events import CANCEL, Cancel
from .whole import held_interrupt

MINUTES = 30        # that a process waits for the others: in between, one may encode or write large files
ROOM = 4            # numbers in a message, until a fit asks for more: all are equally long, wherever they come from
_opened = count()
_stores: list[dist.TCPStore] = []       # one, which all groups of this process share


class Place(IntEnum):
    """Where a process is when it sends a message."""

    (START, TRAINING, LOOKED_UP, LOSS, STEP, STEPPED, TRAINED, AVERAGED, VALIDATING, VALIDATED, EPOCH_ENDED, FIT_ENDED,
     TURN, SAVED, LEFT) = range(15)


class Says(IntEnum):
    """Whether it goes on, or how it stops; of several, the largest counts."""

    ON, NO_STEP, BATCH, TRAIN, VALIDATE, EPOCH, FIT, INTERRUPT, ERROR = range(9)


class OtherProcess(RuntimeError):
    """Another process has failed: its own error is in its own output."""


class ProcessGroup:
    """The group that this process is in, open until `close`. `stopping` is what was said last, by this process or
    another, other than to go on: nothing more is exchanged until that scope has ended; `failed`, whether a process has
    failed. All set `room` at the same place. Raises OtherProcess where one does not come within so many minutes."""

    def __init__(self, device: torch.device, minutes: float = MINUTES):
        if dist.is_initialized():
            raise RuntimeError("this process is in a process group already, of another `with learn.distributed()` or "
                               "of torch.distributed.init_process_group: leave that one first")
        self.rank, self.size, self.minutes = rank(), size(), minutes
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            store = dist.PrefixStore(f"collab/{again}/{next(_opened)}", _store(minutes))      # restarts begin anew
            dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size,
                                    timeout=timedelta(minutes=minutes))
        except dist.DistStoreError as error:
            raise OtherProcess(f"not all of the {self.size} processes have come to `with learn.distributed()` within "
                               f"{minutes:g} minutes: each must run it, not the first alone") from error
        self.room = ROOM
        self.stopping = Says.ON
        self.failed = False

    def close(self) -> None:
        dist.destroy_process_group()

    def meet(self, place: Place, says: Says = Says.ON, numbers: Sequence[float] = (),
             error: BaseException | None = None) -> list[list[float]]:
        """Say where this process is, with up to `room` numbers, and hear the others: [place, says, *numbers] of each,
        filled up with zeros. Raises the Cancel, KeyboardInterrupt or, for an error of another process, OtherProcess
        that another says, and RuntimeError where the processes are at different places."""
        with held_interrupt():
            empty = [0.0] * (self.room - len(numbers))
            rows = self._gathered([place, says, *numbers, *empty])
            heard = Says(int(max(row[1] for row in rows)))
            said = None if error is None else f"{type(error).__name__}: {error}"
            errors = self.objects(said) if heard is Says.ERROR else []
            apart = heard is Says.ON and len({row[0] for row in rows}) > 1
            if heard > Says.NO_STEP:
                self.stopping = heard
            self.failed |= heard is Says.ERROR or apart
        if apart:
            places = ", ".join(f"{Place(int(row[0])).name} in process {k}" for k, row in enumerate(rows))
            left = [k for k, row in enumerate(rows) if row[0] == Place.LEFT]
            raise RuntimeError(f"the processes are at different places: {places}; each must make the same calls, with "
                               "the same data and callbacks" + (
                                   f". Process {left[0]} has left the `with learn.distributed()` already: what one "
                                   "process alone does, such as under `if rank == 0`, belongs after the `with`"
                                   if left else ""))
        if heard > max(says, Says.NO_STEP):
            raise _raised(heard, errors)
        return rows

    def _gathered(self, mine: Sequence[float]) -> list[list[float]]:
        """The numbers of every process, in order: as many in each. Raises OtherProcess where one does not answer."""
        sent = torch.tensor(mine, dtype=torch.float64)
        rows = [torch.empty_like(sent) for _ in range(self.size)]
        try:
            dist.all_gather(rows, sent)
        except RuntimeError as error:       # of gloo: a connection was closed, or the time is up
            self.failed = True
            raise OtherProcess(f"another process was killed, or has not answered for {self.minutes:g} minutes "
                               f"({error})") from error
        return [row.tolist() for row in rows]

    def objects(self, mine: Any) -> list[Any]:
        """What every process gives here, in order: plain values."""
        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, mine)
        return every

    def exchange(self, mine: Any) -> list[Any]:
        """What every process gives here, in order, once all are here: see `meet` and `objects`."""
        with held_interrupt():
            self.meet(Place.TURN)
            return self.objects(mine)

    def announce(self, mine: Any) -> Any:
        """What the first process gives here, once all are here."""
        with held_interrupt():
            self.meet(Place.TURN)
            return self.from_first(mine)

    def from_first(self, mine: Any) -> Any:
        """What the first process gives: plain values and tensors."""
        only = [mine]
        dist.broadcast_object_list(only, src=0)
        return only[0]

    def share(self, tensor: Tensor) -> None:
        """Overwrite a tensor by that of the first process."""
        own = tensor if tensor.is_contiguous() else tensor.contiguous()
        dist.broadcast(own, src=0)
        if own is not tensor:
            tensor.copy_(own)


def _raised(heard: Says, errors: Sequence[str | None]) -> BaseException:
    """What a process raises that hears this of another."""
    if heard is Says.INTERRUPT:
        return KeyboardInterrupt()
    if heard is Says.ERROR:
        return OtherProcess("; ".join(f"process {k} has failed with {said}" for k, said in enumerate(errors) if said))
    cancel: type[Cancel] = CANCEL[heard.name.lower()]
    return cancel()


def _store(minutes: float) -> dist.TCPStore:
    """The store at which the processes find each other, and wait for up to so many minutes: the one that torchrun
    keeps, or one of the first process."""
    if not _stores:
        kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        _stores.append(dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), size(),
                                     is_master=rank() == 0 and not kept, timeout=timedelta(minutes=minutes)))
    _stores[0].set_timeout(timedelta(minutes=minutes))
    return _stores[0]

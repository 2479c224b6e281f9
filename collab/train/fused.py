"""The fused pass: the training batches of an epoch in compiled kernels, step for step what the loop does.

`fused(learn)` is the one seam. It takes over a pass that kernels can train (see `fusible`); otherwise the loop goes on
as ever, and `why_not` says why. For the length of the pass, weights and moments are packed row by row (see
`fused_kernels` and `adagrad_kernels`); batches come in chunks:

    before_chunk    callbacks read and write `learn.chunk`: rates, where the chunk ends
    the kernel      a step for each of its batches
    after_chunk     callbacks read its losses

Both ways to train take the same batches in the same order, and agree to rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ..compiled import in_parts, one_thread
from ..loaders import Run, Track, pieces_of
from .callback import Dispatch
from .fusible import Ranks, group_of, moves, steps_of, tables_of, why_not
from .row_adagrad import RowAdagrad
from .whole import held_interrupt, whole

if TYPE_CHECKING:
    from .learner import Learner

CACHE_LINE = 64         # bytes
MAX_DRAWN = 1 << 23     # drawn items at a time: 32 MiB
BUFFERS: WeakKeyDictionary[Dispatch, list[np.ndarray]] = WeakKeyDictionary()      # packed tables, for as long as a fit


@dataclass
class Chunk:
    """Consecutive training batches that are trained in one call: `first` is the first one's place in the pass, `sizes`
    (n,) the rows of each, `hypers` by name the values (groups, n). `before_chunk` may write `hypers`, lower `n`, ask
    for the parameters to be put back after the chunk (`put_back`), for its batches to be skipped (`skipped`), or that
    it ends with the first loss that is not finite, before that changes the weights (`halt`). `after_chunk` reads
    `losses` (n,) too. `ridges`, written before the first one, are the L2 of each row for each of its ratings: of the
    factors of users and of items, of the biases of both."""

    first: int
    sizes: np.ndarray
    hypers: dict[str, np.ndarray]
    put_back: bool = False
    skipped: bool = False
    halt: bool = False
    ridges: Sequence[np.ndarray] = ()
    losses: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def n(self) -> int:
        return len(self.sizes)

    @n.setter
    def n(self, n: int) -> None:
        if n not in range(1, self.n + 1):
            raise ValueError(f"a chunk can be cut to 1 to {self.n} batches, got n={n!r}")
        self.sizes, self.hypers = self.sizes[:n], {name: values[:, :n] for name, values in self.hypers.items()}
        self.losses = self.losses[:n]

    @property
    def last(self) -> int:
        """The place of its last batch in the pass."""
        return self.first + self.n - 1


def fused(learn: Learner) -> bool:
    """Train on all batches of a pass in compiled kernels, if they can; otherwise do nothing and return False."""
    threads = torch.get_num_threads()
    with one_thread():
        if why_not(learn, learn.run, learn.batches) is not None:
            return False
        FusedPass(learn, threads).go()
    return True


def release(run: Dispatch) -> None:
    """Let go of the packed tables of a fit."""
    BUFFERS.pop(run, None)


class Part(NamedTuple):
    """The batches of a chunk that are in one track, from `first` to before `last`, and the first one's place in the
    chunk."""

    track: Track
    first: int
    last: int
    place: int


class FusedPass:
    """A pass over the training batches of a learner, packed for the kernels."""

    def __init__(self, learn: Learner, threads: int):
        # compiled when first called, and imported late: they need numba
        from . import adagrad_kernels, fused_kernels, gradient_kernels
        self.kernels: Any = fused_kernels
        self.adagrad_steps: Any = adagrad_kernels.adagrad_steps
        self.gradients: Any = gradient_kernels
        self.learn, self.opt, self.threads = learn, learn.opt, threads
        tables = tables_of(learn.model)
        assert tables is not None           # `why_not` has looked
        self.tables, self.adam = tables, isinstance(learn.opt, torch.optim.AdamW)
        bias = tables.users if tables.user_bias is None else tables.user_bias
        self.groups = [group_of(self.opt, tables.users), group_of(self.opt, bias)]
        self.n_factors = tables.users.shape[1]
        vectors = -(-self.n_factors // 8) // 2 * 2 + 1      # odd, so that rows begin where lines of the cache do
        self.lanes, self.k = (0,) * vectors, 8 * vectors
        self.wide = (0,) * ((3 if self.adam else 1) * vectors + 1)
        self.form: Any = None               # the packed weights, once there are any
        loss = learn.run.owners["get_loss"]
        self.loss = loss.kernel_loss() if isinstance(loss, Ranks) else None

    def go(self) -> None:
        """Train on all batches, chunk by chunk; whatever happens, the parameters are as after the last whole chunk."""
        learn, done = self.learn, 0
        pieces = pieces_of(learn.batches)
        assert pieces is not None
        try:
            for tracks in pieces.pieces():
                begin, sizes = 0, np.concatenate([track.sizes for track in tracks])
                while begin < len(sizes):
                    learn.chunk = chunk = self._chunk(done, sizes[begin:])
                    before = self._hypers()
                    learn.run.emit("before_chunk")
                    for name, values in self._hypers().items():     # of the optimizer's own, what a callback has set
                        changed = values != before[name]
                        chunk.hypers[name][changed] = values[changed, None]
                    with held_interrupt():          # what was trained is in the history too
                        if not chunk.skipped:
                            self._train(chunk, tracks, begin, pieces.bs)
                            learn.loss = torch.tensor(chunk.losses[-1])
                        learn.i, done, begin = chunk.last, chunk.last + 1, begin + chunk.n
                        if chunk.put_back and self.form is not None:
                            self._unpack()
                        learn.run.emit("after_chunk")
        finally:
            if self.form is not None:
                whole(self._unpack)

    def _chunk(self, first: int, sizes: np.ndarray) -> Chunk:
        ones = np.ones((1, len(sizes)))
        return Chunk(first, sizes, {name: values[:, None] * ones for name, values in self._hypers().items()})

    def _hypers(self) -> dict[str, np.ndarray]:
        """The optimizer's hyper-parameters, of each group, by name."""
        groups = self.opt.param_groups
        now = {"lr": [g["lr"] for g in groups], "weight_decay": [g["weight_decay"] for g in groups]}
        if self.adam:
            now["momentum"] = [g["betas"][0] for g in groups]
        return {name: np.array(values, float) for name, values in now.items()}

    def _train(self, chunk: Chunk, tracks: Sequence[Track], begin: int, bs: int) -> None:
        """Train on the batches of a chunk, which begin with the one at `begin` of these tracks."""
        if self.form is None:
            self._pack(bs, chunk.ridges)
        chunk.losses = np.full(chunk.n, np.nan, np.float32)
        parts: list[Part] = []
        place = 0
        for track in tracks:
            first, last = (min(max(at - place, 0), len(track.sizes)) for at in (begin, begin + chunk.n))
            if first < last:
                parts.append(Part(track, first, last, place + first - begin))
            place += len(track.sizes)
        if len(parts) > 1 and self.threads > 1 and not (self.adam or self.loss or chunk.halt):
            with ThreadPoolExecutor(len(parts)) as pool:    # tracks have no rows in common: as one after the other
                list(pool.map(self._along, [chunk] * len(parts), parts, range(len(parts))))
            return
        for part in parts:
            if not self._along(chunk, part, 0):
                return

    def _along(self, chunk: Chunk, part: Part, thread: int) -> bool:
        """Train on the batches of a part, to its end or to a halt, at which the chunk ends; return whether to its
        end."""
        place = part.place
        for long in part.track.runs(part.first, part.last):
            for run in long.split(MAX_DRAWN // self.loss.n) if self.loss else [long]:
                self._steps(chunk, slice(place, place + len(run.sizes)), run, thread)
                place += len(run.sizes)
                if chunk.halt and not np.isfinite(chunk.losses[:place]).all():
                    chunk.n = int(np.isfinite(chunk.losses).argmin()) + 1
                    return False
        return True

    def _steps(self, chunk: Chunk, place: slice, run: Run, thread: int) -> None:
        """The steps of some batches, whose places in the chunk are given."""
        slots, done = tuple(self.slots[thread]), self.steps[thread:thread + 1]
        k, groups = self.kernels, [self.opt.param_groups[g] for g in self.groups]
        ranked = None if self.loss is None else self.gradients.ranked(self.loss, run.tensors[0].numpy(),
                                                                       len(self.form.items))
        batches = *(t.numpy() for t in run.tensors), run.sizes, chunk.losses[place], done, chunk.halt, ranked
        hypers = {name: np.ascontiguousarray(values[self.groups, place]) for name, values in chunk.hypers.items()}
        if not self.adam:
            self.adagrad_steps(tuple(self.form), slots, hypers["lr"].astype(np.float32),
                               np.array([g["eps"] for g in groups], np.float32), *batches, self.lanes, self.wide)
            return
        rates = tuple(k.Rates(hypers["lr"], hypers["momentum"], np.array([g["betas"][1] for g in groups]),
                        np.array([g["eps"] for g in groups]), hypers["weight_decay"]))
        outlook = tuple(k.Outlook(*np.empty((6, 2, len(run.sizes) + 1))))
        dense = k.outlook(rates, int(done[0]), outlook)
        k.adamw_steps(tuple(self.form), slots, rates, tuple(k.Moves(*np.empty((7, 2), np.float32))), outlook, dense,
                      *batches, *self.last, self.lanes, self.wide)

    # Packing -----------------------------------------------------------------------------------------------------

    def _pack(self, bs: int, ridges: Sequence[np.ndarray]) -> None:
        t, k = self.tables, self.k
        self.steps = np.array([steps_of(self.opt, t.users), 0])       # those of each thread
        bias = (3 if self.adam else 1) * k
        packed = self._buffers((len(t.users), bias + 8), (len(t.items), bias + 8))
        for own, table, its_bias in zip(packed, (t.users, t.items), (t.user_bias, t.item_bias)):
            rest = own[:, self.n_factors:]
            self._copy([(torch.from_numpy(rest), torch.zeros(()).expand(rest.shape))]
                       + [(torch.from_numpy(into), value.detach().view(into.shape))
                          for value, into in self._places(own, table, its_bias)])
        for own, factors, biases in zip(packed, ridges[:2], ridges[2:]):
            own[:, bias + 3], own[:, bias + 4] = factors, biases
        mean = np.zeros(3, np.float32)
        for j, value in enumerate([] if t.mean is None else [t.mean, *self._state(t.mean)]):
            mean[j] = value.item()
        low, high = t.y_range or (0.0, 0.0)
        n = min((2 + (self.loss.n if self.loss else 0)) * bs, len(t.users) + len(t.items))
        self.slots = [self.gradients.Slots(np.full(len(t.users), -1, np.int32), np.full(len(t.items), -1, np.int32),
                                         _aligned(n, dtype=np.int64), _aligned(n), _aligned(n, k + 8))
                      for _ in range(1 if self.adam else 2)]
        self.last = np.zeros(len(t.users), np.int64), np.zeros(len(t.items), np.int64)
        self.form = self.gradients.Form(*packed, mean, *np.array([low, high - low, 1 / self.n_factors], np.float32),
                                      t.user_bias is not None)

    def _buffers(self, *shapes: tuple[int, int]) -> list[np.ndarray]:
        """Buffers of these shapes, the same ones in every pass of a fit: new memory is slow to get."""
        buffers = BUFFERS.setdefault(self.learn.run, [])
        if [buffer.shape for buffer in buffers] != [*shapes]:
            buffers[:] = [_aligned(*shape) for shape in shapes]
        return buffers

    def _places(self, own: np.ndarray, table: Tensor, bias: Tensor | None) -> list[tuple[Tensor, np.ndarray]]:
        """(a tensor of the parameters or of the optimizer's state, its place in the packed rows `own`)."""
        n, k = self.n_factors, self.k
        if self.adam:
            pairs = [(value, own[:, j * k:j * k + n]) for j, value in enumerate([table, *self._state(table)])]
        else:
            pairs = [(table, own[:, :n]), (self._state(table)[0], own[:, k + 1])]
        if bias is not None:
            first = (3 if self.adam else 1) * k
            columns = (first, first + 1, first + 2) if self.adam else (first, first + 2)
            pairs += [(value, own[:, j]) for value, j in zip([bias, *self._state(bias)], columns)]
        return pairs

    def _copy(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Copy each second tensor of a table's rows into the first, some of the rows in each thread."""
        @torch.no_grad()        # of this thread alone
        def part(k: int, rows: slice) -> None:
            for into, value in pairs:
                into[rows].copy_(value[rows])
        in_parts(part, len(pairs[0][0]), self.threads)

    def _state(self, p: Tensor) -> list[Tensor]:
        """What the optimizer keeps of a parameter; begun as the optimizer itself begins it."""
        if not moves(self.opt, p):
            return []
        state = self.opt.state[p]
        if self.adam:
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            return [state["exp_avg"], state["exp_avg_sq"]]
        return [RowAdagrad.accumulator(state, p)]

    @torch.no_grad()
    def _unpack(self) -> None:
        """Put the packed numbers back into parameters and optimizer. May be begun anew."""
        t = self.tables
        for own, table, bias in ((self.form.users, t.users, t.user_bias), (self.form.items, t.items, t.item_bias)):
            self._copy([(value, torch.from_numpy(place).view(value.shape) if value.dim() == 2 and place.ndim == 1
                         else torch.from_numpy(place)) for value, place in self._places(own, table, bias)])
        if t.mean is not None:
            for value, number in zip([t.mean, *self._state(t.mean)], self.form.mean):
                value.fill_(float(number))
        for p in t.parameters:
            if moves(self.opt, p):
                self.opt.state[p]["step"].fill_(float(self.steps.sum()))


def _aligned(*shape: int, dtype: type = np.float32) -> np.ndarray:
    """Zeros that begin where a line of the cache does, a line away from all other numbers: threads that write into one
    line wait for each other."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.zeros(size + 3 * CACHE_LINE, np.uint8)
    first = -room.ctypes.data % CACHE_LINE + CACHE_LINE
    return room[first:first + size].view(dtype).reshape(shape)

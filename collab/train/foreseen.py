"""The predictions of a large validation pass, all at once in compiled code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..compiled import MOST_THREADS, DotTables, in_parts, not_compiled, one_thread
from ..loaders import Pieces, columns_of, pieces_of
from .fusible import in_bulk, odd_batches, odd_parameters, tables_of

if TYPE_CHECKING:
    from .learner import Learner

MANY = 1 << 16      # rows from which on it pays


@contextmanager
def foreseen(learn: Learner) -> Iterator[None]:
    """For the length of a `with`, batches in order take the predictions of a dot product from one compiled call, the
    same to rounding. Batches of other rows, or after a change of weights or rows, are predicted by the model."""
    run, tables, threads = learn.run, tables_of(learn.model), torch.get_num_threads()
    with one_thread():
        pieces = None if tables is None else _foreseeable(learn, tables)
        all_columns = columns_of(learn.batches)
        preds = (None if tables is None or pieces is None or all_columns is None else
                 _predictions(all_columns, tables, threads))
    if tables is None or pieces is None or all_columns is None or preds is None:
        yield
        return
    bs, columns = pieces.bs, all_columns[:2]
    read = [*columns, *tables.parameters]
    versions, before = [t._version for t in read], run.predict

    def predict() -> None:
        rows = slice(learn.i * bs, learn.i * bs + len(learn.yb))
        if ([t._version for t in read] == versions and len(learn.xb) == len(columns)
                and all(own.is_set_to(column[rows]) for own, column in zip(learn.xb, columns))):
            learn.pred = preds[rows]
        else:
            before()
    run.predict = predict
    try:
        yield
    finally:
        run.predict = before


def _foreseeable(learn: Learner, tables: DotTables) -> Pieces | None:
    """The batches of the pass, if their predictions can be made beforehand."""
    batches, run = learn.batches, learn.run
    pieces, columns = pieces_of(batches), columns_of(batches)
    if pieces is None or columns is None or getattr(batches, "shuffle", None) is not False or len(columns[0]) < MANY:
        return None
    if any(t.is_inference() for t in (*columns, *tables.parameters)):           # whose changes are not counted
        return None
    if not_compiled() or run.owners["predict"] is not learn.verbs or not all(
            in_bulk(cb) for cb in run.cbs if hasattr(cb, "before_batch")):
        return None
    return None if odd_parameters(learn.model, tables) or odd_batches(batches, tables) else pieces


def _predictions(columns: Sequence[Tensor], tables: DotTables, threads: int) -> Tensor:
    """The predictions for all rows, float32 (n,)."""
    from .score_kernels import scores
    users, items = (t.numpy() for t in columns[:2])
    none = torch.zeros(1, 1, dtype=torch.float32)
    factors = [t.detach().numpy() for t in (tables.users, tables.items)]
    biases = [(none if t is None else t.detach()).numpy() for t in (tables.user_bias, tables.item_bias)]
    mean = 0.0 if tables.mean is None else tables.mean.item()
    low, high = tables.y_range or (0.0, 0.0)
    preds = torch.empty(len(users), dtype=torch.float32)

    def part(k: int, rows: slice) -> None:
        scores(*factors, *biases, tables.user_bias is not None, *np.array([mean, low, high - low], np.float32),
               users[rows], items[rows], preds.numpy()[rows], (0,) * (factors[0].shape[1] // 8 + 2))
    in_parts(part, len(users), min(threads, MOST_THREADS))
    return preds

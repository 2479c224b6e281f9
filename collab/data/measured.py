"""Which ratings are measured: the validation part, or others that are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..errors import DataError
from ..loaders import unshuffled
from .batches import VALID_BS, DataBunch, TensorBatches, on_device
from .frames import is_table

if TYPE_CHECKING:
    from .databunch import CollabDataBunch


def part(data: CollabDataBunch, given: Any = None) -> Any:
    """See `CollabDataBunch.part`."""
    if isinstance(given, DataBunch):
        raise TypeError("pass a part of the data, such as data.valid, or a table of ratings")
    if given is None and data.valid is None and data.aside.is_of_file:
        raise DataError("there is no validation part, since the learner was loaded from a file, which keeps none; "
                        "pass ratings to measure on, a table or batches, such as learn.validate(ratings)")
    if given is None and data.valid is None:
        raise DataError("there is no validation part: make the data with valid_pct or split, or pass batches or a "
                        "table of ratings")
    if given is None:
        return data.valid
    if is_table(given):
        return data.batches(given)
    if data.device.type == "cpu" and not isinstance(given, TensorBatches):
        return given        # as it is: batches of their own kind tell no device, and are on the CPU
    return on_device(given, data.device)


def rows_of(data: CollabDataBunch, given: Any = None) -> TensorBatches:
    """See `CollabDataBunch.rows_of`."""
    batches = unshuffled(part(data, given))
    if isinstance(batches, TensorBatches):
        return batches
    return TensorBatches(*map(torch.cat, zip(*batches)), bs=VALID_BS, device=data.device)

"""ListRules: what the lists of an index, or of a service, keep to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.allowed import Allowed


class ListRules(NamedTuple):
    """The items to choose from, None for all, and how unlike each other the chosen ones should be."""

    among: Allowed | None = None
    diversity: float = 0.0

    @classmethod
    def of(cls, rows: np.ndarray | None, diversity: float) -> ListRules:
        """The rules of the `rows` that a list may hold, bool (n,), as `allowed` gives them."""
        return cls(None if rows is None else Allowed(rows), diversity)

    @property
    def pool(self) -> Tensor | None:
        """The rows to choose from, ascending; None for all."""
        return None if self.among is None else torch.from_numpy(self.among.rows).nonzero()[:, 0]


NO_RULES = ListRules()

"""MappedTiles: `TiledBatches` whose tiles are read from files when their turn comes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .mapped import MappedBatches, Stored
from .tiles import Grid, TiledBatches

COUNTS = "tiles.counts.npy"


class MappedTiles(TiledBatches):
    """The rows of `batches` in tiles, from the files that encoding wrote beside them. The order of an epoch, and what
    it draws, are those of TiledBatches; the ratings of a tile are in another order before they are shuffled."""

    batches: MappedBatches

    @classmethod
    def there(cls, batches: MappedBatches) -> bool:
        """Whether there are such files: only where they were wanted."""
        return batches.stored.name == "train" and (batches.stored.folder / COUNTS).exists()

    def _fill(self, grid: Grid) -> np.ndarray:
        self.stored = Stored(self.batches.stored.folder, "tiles", self.batches.n)
        counts: np.ndarray = np.load(self.stored.folder / COUNTS)
        return counts

    def _tile(self, k: int) -> Sequence[np.ndarray]:
        return self.stored.read(int(self.begins[k]), int(self.counts[k]))

    @property
    def dtypes(self) -> Sequence[torch.dtype]:
        """The types of users, items and ratings in batches."""
        return torch.int64, torch.int64, torch.float32

"""ExactLoss: what a ranking objective samples in training, over all items, for the rows of one user."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("bpr", "logistic", "softmax")


class ExactLoss(NamedTuple):
    """The mean of an objective over some of the items that a user chose.

    - `kind`: "bpr" (each chosen item against those drawn), "logistic" (chosen or drawn, by cross-entropy) or "softmax"
      (each chosen item among all that can be drawn, without the rest of the history where `exclude_seen`).
    - `share` (n_items,): how often each item is drawn; with `exclude_seen` the chosen ones are not.
    - `draws`: for each row, by which "logistic" weighs; of a "softmax" those that it does not correct for, None where
      it does. With `drawn_again` what would have been drawn of the history is drawn of the rest.
    - `temperature` divides the scores of a "softmax"."""

    kind: str
    share: Tensor
    exclude_seen: bool = False
    draws: float | None = None
    temperature: float = 1.0
    drawn_again: bool = False

    def mean(self, scores: Tensor, items: Tensor, history: Tensor) -> Tensor:
        """The mean over rows `items` (m,) of the `history` (n,), given the scores of all items (n_items,)."""
        if self.kind == "softmax":
            return self._softmax(scores / self.temperature, items, history)
        share = self.share.to(scores)
        share = share.index_fill(0, history, 0.0) if self.exclude_seen else share
        total = share.sum().clamp(min=1e-12)
        if self.kind == "bpr":
            return (F.softplus(scores - scores[items, None]) @ share).mean() / total
        assert self.kind == "logistic" and self.draws is not None
        drawn = F.softplus(scores) @ share / total
        return (F.softplus(-scores[items]).mean() + self.draws * drawn) / (1 + self.draws)

    def _softmax(self, scores: Tensor, items: Tensor, history: Tensor) -> Tensor:
        """Mean of -log softmax. The item itself counts once; so do the others or, where `draws` are not corrected for,
        as often as they are drawn."""
        q, own = self.share, scores[items]
        if self.draws is None:
            logits = scores.masked_fill(q == 0, -math.inf)
        else:
            rest = max(1e-12, 1 - q[history].sum().item()) if self.drawn_again else 1.0
            logits = scores + (self.draws / rest * q).log().to(scores)
        if self.exclude_seen:
            total = logits.index_fill(0, history, -math.inf).logsumexp(0).expand(len(items))
        else:
            every = logits.logsumexp(0)
            total = every + torch.log1p(-(logits[items] - every).exp().clamp(max=1 - 1e-12))
        return (torch.logaddexp(total, own) - own).mean()

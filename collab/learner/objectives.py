"""Ranking objectives: callbacks that replace the prediction and the loss of the loop."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..compiled import RankingLoss
from ..data.databunch import CollabDataBunch
from ..data.negatives import Negatives
from ..errors import DataError, renamed
from ..given import is_real
from ..linear_softmax import linear_softmax
from ..losses import bpr, log_drawn, logistic, positive, sampled_softmax, softmax_in_batch
from ..models.base import COMPARED, CollabModel
from ..models.plain import as_collab
from ..numerics import entries_at, rows_at
from ..retrieval.exact_loss import ExactLoss
from ..train.callback import Callback
from ..train.callbacks.steps import whole
from ..train.events import VERBS

MAX_SCORES = 1 << 22    # scores that a validation batch takes at a time
MAX_TRAINED = 1 << 25   # scores of all items that a training batch takes at a time: some 1 GiB with their copies


class Objective(Callback):
    """Train a model to rank the items that a user chose above others; ratings are ignored, scores not clipped.

    `valid_loss` is the same objective over the validation rows, in evaluation mode, with negatives from a generator
    that each batch starts at its own seed, so that epochs can be compared. Training draws from the learner's stream.
    `config` holds the arguments that rebuild the objective. Raises DataError for data of another kind."""

    in_eval = True
    name: str
    config: dict[str, Any]
    negatives: Negatives
    generator: torch.Generator | None = None
    data: CollabDataBunch | None = None
    compares: bool = False
    """Whether the loss depends on differences between the scores of one user alone, so that what a model adds to all of
    these (`CollabModel.shared`) has a gradient of 0, in `learn.pred` too. Not inherited by a class with verbs of its
    own."""
    whole_items: bool = False
    """Whether each row is compared with the items of the whole batch, of which a process may have a slice."""

    def __init_subclass__(cls, **kwargs: object):
        super().__init_subclass__(**kwargs)
        if {*VERBS, "drawn", "_rows"} & vars(cls).keys() and "compares" not in vars(cls):
            cls.compares = False
        for old, new in (("expected", "exact_loss"), ("know", "setup")):
            if old in vars(cls):
                renamed(f"{cls.__name__}.{old}", new)
                setattr(cls, new, vars(cls)[old])

    def make_negatives(self, data: CollabDataBunch) -> Negatives:
        """The distribution of negatives: by default by popularity, including items that the user has seen."""
        return Negatives(data.counts().to(data.device), 1.0)

    def before_train(self) -> None:
        self._begin(None)

    def before_batch(self) -> None:
        if self.compares and isinstance(self.learn.model, CollabModel):
            COMPARED.add(self.learn.model)

    def cleanup_batch(self) -> None:
        COMPARED.discard(self.learn.model)      # after an error: otherwise `_lost` has

    def _lost(self, loss: Tensor) -> None:
        """Set the loss: whatever others add to it does not compare."""
        self.learn.loss = loss
        COMPARED.discard(self.learn.model)

    def before_validate(self) -> None:
        self._begin(torch.Generator().manual_seed(0))

    def cleanup_validate(self) -> None:
        self.generator = None           # training may continue mid-epoch

    def exact_loss(self, scores: Tensor, items: Tensor, history: Tensor) -> Tensor:
        """The exact objective that training samples: the mean over rows `items` (m,) of one user's `history` (n,),
        given the scores of all items (n_items,). New users are folded in by it, after `setup`; without it, an objective
        of your own raises DataError then."""
        return self.exact().mean(scores, items, history)

    def exact(self) -> ExactLoss:
        """`exact_loss` as numbers, which an index can keep; after `setup`. Raises DataError where there is none."""
        raise DataError(f"{self} has no exact_loss(scores, items, history), which folding in new users needs; take "
                        "one of collab's own, or train again with them")

    def _begin(self, generator: torch.Generator | None) -> None:
        self.generator = generator
        self.setup(self.learn.data)

    def setup(self, data: object) -> None:
        """Prepare for these data. Raises DataError for data of another kind."""
        if not isinstance(data, CollabDataBunch):
            raise DataError(f"{self} needs a CollabDataBunch, got {type(data).__name__}")
        if data is not self.data:
            negatives = self.make_negatives(data)
            rarest = -math.log(data.train.n)        # of items in the validation part alone, never drawn
            self.log_q = negatives.log_q.masked_fill(negatives.q == 0, rarest)
            self.negatives, self.data = negatives, data     # last: another thread may ask meanwhile

    def _check_input(self, model: CollabModel) -> None:
        """Raise Unsupported for a model whose training input differs from row to row, so that its scores of other items
        would belong to other inputs."""
        if not model.same_input:
            raise model.lacks(f"leaves items out of each row's input, and {self} would compare scores of "
                              "different inputs; train it with loss_func='full_softmax'")

    def __repr__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.config.items())
        return f"{type(self).__name__}({options})"


class Sampled(Objective):
    """An objective that draws negatives for every row."""

    def __init__(self, n_negatives: int, beta: float, exclude_seen: bool):
        self.n_negatives = whole("n_negatives", n_negatives)
        if not (is_real(beta) and math.isfinite(beta)):
            raise ValueError(f"beta must be a finite number (0 draws uniformly, 1 by popularity), got {beta!r}")
        self.beta, self.exclude_seen = beta, exclude_seen
        self.config = {"n_negatives": self.n_negatives, "beta": beta, "exclude_seen": exclude_seen}

    def before_fit(self) -> None:
        self._check_input(as_collab(self.learn.model))

    def make_negatives(self, data: CollabDataBunch) -> Negatives:
        return Negatives(data.counts().to(data.device), self.beta, data.histories if self.exclude_seen else None)

    def drawn(self) -> tuple[Tensor, Tensor]:
        """Items (bs, n_negatives) and their scores."""
        users, n, share = self.learn.xb[0], self.n_negatives, self.learn.share
        if self.generator is not None:
            self.generator.manual_seed(self.learn.i)        # whichever other batches this process has
        if share is None:
            items = self.negatives.draw(users, n, self.generator)
        else:       # for all rows, so that every process draws what one would
            items = self.negatives.draw(share.xb[0], n, self.generator)[share.begin:share.end]
        return items, self.learn.model(users.repeat_interleave(n), items.flatten()).view(len(users), n)

    def _draws(self) -> Callable[[np.ndarray], np.ndarray]:
        """The `draw` of a `RankingLoss`, of as many negatives as there are now."""
        return partial(self.negatives.draw_many, n=self.n_negatives, generator=self.generator)


class BPR(Sampled):
    """`bpr`: the score of each row's item against those of `n_negatives` drawn ones (Rendle et al. 2009). They are
    drawn by popularity^beta, and with `exclude_seen` never from the user's training history. For any model but
    `SoftmaxNet` and `SASRec`."""

    name = "bpr"
    compares = True

    def __init__(self, n_negatives: int = 1, beta: float = 0.0, exclude_seen: bool = True):
        super().__init__(n_negatives, beta, exclude_seen)

    def get_loss(self) -> None:
        self._lost(bpr(self.learn.pred, self.drawn()[1]))

    def kernel_loss(self) -> RankingLoss:
        return RankingLoss("bpr", self.n_negatives, self._draws())

    def exact(self) -> ExactLoss:
        return ExactLoss("bpr", self.negatives.q, self.exclude_seen)


class Logistic(Sampled):
    """`logistic`: whether a row's item and `n_negatives` drawn ones were chosen, by cross-entropy (He et al. 2017,
    "Neural collaborative filtering", eq. 7). They are drawn as those of `BPR`. For any model but `SoftmaxNet` and
    `SASRec`."""

    name = "logistic"

    def __init__(self, n_negatives: int = 4, beta: float = 0.0, exclude_seen: bool = True):
        super().__init__(n_negatives, beta, exclude_seen)

    def get_loss(self) -> None:
        self.learn.loss = logistic(self.learn.pred, self.drawn()[1])

    def kernel_loss(self) -> RankingLoss:
        return RankingLoss("logistic", self.n_negatives, self._draws())

    def exact(self) -> ExactLoss:
        return ExactLoss("logistic", self.negatives.q, self.exclude_seen, self.n_negatives)


class SampledSoftmax(Sampled):
    """`sampled_softmax`: each row's item among `n_negatives` drawn by popularity^beta, corrected for how often each is
    drawn (`log_q`), and not compared with itself. For any model but `SoftmaxNet` and `SASRec`.

    With `exclude_seen` the user's other items are not drawn, and the softmax is over the rest."""

    name = "sampled_softmax"
    compares = True

    def __init__(self, n_negatives: int = 50, beta: float = 0.0, temperature: float = 1.0, log_q: bool = True,
                 exclude_seen: bool = False):
        super().__init__(n_negatives, beta, exclude_seen)
        self.temperature, self.corrected = positive(temperature), log_q
        self.config |= {"temperature": temperature, "log_q": log_q}

    def get_loss(self) -> None:
        users, target = self.learn.xb
        items, scores = self.drawn()
        of_pos, of_neg, of_user = self.corrections
        self._lost(sampled_softmax(self.learn.pred, scores, of_pos[target], of_neg[items] + of_user[users, None],
                                   self.temperature, hits=items == target[:, None]))

    def kernel_loss(self) -> RankingLoss:
        return RankingLoss("sampled_softmax", self.n_negatives, self._draws(), self.temperature,
                           tuple(t.numpy() for t in self.corrections))

    def _begin(self, generator: torch.Generator | None) -> None:
        super()._begin(generator)
        self.corrections = self._corrections()      # of as many negatives as there are now

    def _corrections(self) -> tuple[Tensor, Tensor, Tensor]:
        """The logarithms of how often an item is expected in the sum, by item: as the row's own, and as a drawn one, to
        which a number by user is added. All are 0 without `log_q`."""
        assert self.data is not None        # `_begin` has called `setup`
        none, no_user = torch.zeros_like(self.log_q), self.log_q.new_zeros(self.data.n_users)
        if not self.corrected:
            return none, none, no_user
        drawn = self.log_q + math.log(self.n_negatives)
        if not self.exclude_seen:
            return log_drawn(self.log_q, self.n_negatives), drawn, no_user
        rest = 1 - self.negatives.seen_share        # the others are drawn more often; the own item never, so it is once
        return none, drawn, -rest.clamp(min=1e-12).log().to(drawn)

    def exact(self) -> ExactLoss:
        return ExactLoss("softmax", self.negatives.q, self.exclude_seen, None if self.corrected else self.n_negatives,
                         self.temperature, drawn_again=self.exclude_seen)


class InBatchSoftmax(Objective):
    """`softmax_in_batch`: each row's item among those of the other rows, corrected (`log_q`) for their popularity
    in the training rows (Yi et al. 2019). The same item in another row is masked; with `exclude_seen`
    so is the user's whole training history. For models with a `cross`, such as dot models and `TwoTower`.

    Negatives come from the batch: use large ones. Where several processes share it, each compares its users with the
    items of all. Validation rows are compared in groups of a training batch's size."""

    name = "softmax"
    compares = True
    whole_items = True

    def __init__(self, temperature: float = 1.0, log_q: bool = True, exclude_seen: bool = False):
        self.temperature, self.corrected, self.exclude_seen = positive(temperature), log_q, exclude_seen
        self.config = {"temperature": temperature, "log_q": log_q, "exclude_seen": exclude_seen}

    def before_fit(self) -> None:
        _check_crosses(self, self.learn.model)
        self._check_input(as_collab(self.learn.model))

    def make_negatives(self, data: CollabDataBunch) -> Negatives:
        return Negatives(data.counts().to(data.device), 1.0, data.histories if self.exclude_seen else None)

    def predict(self) -> None:
        learn, cross = self.learn, as_collab(self.learn.model).cross
        preds, losses = [], []
        for u, i, first in self._groups():
            logits, own = cross(u, i).float(), i[first:first + len(u)]
            hits = i == own[:, None]
            if self.exclude_seen:
                hits = hits | self.negatives.seen(u.repeat_interleave(len(i)), i.repeat(len(u))).view(len(u), -1)
            log_q = self.log_q[i] if self.corrected else None
            losses.append(softmax_in_batch(logits, log_q, hits, self.temperature, first) * len(u))
            preds.append(logits.diagonal(first))
        learn.pred, self.loss = torch.cat(preds), torch.stack(losses).sum() / len(learn.yb)

    def _groups(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Rows that are compared: the users, the items of all rows, and the place of the first user's among these. Of
        a batch that several processes share, each has some of the users, and all items."""
        learn, share = self.learn, self.learn.share
        users, items = learn.xb
        if share is not None:
            yield users, share.xb[1], share.begin
            return
        step = len(users) if learn.training else max(1, min(learn.data.train.bs, math.isqrt(MAX_SCORES)))
        for u, i in zip(users.split(step), items.split(step)):
            yield u, i, 0

    def get_loss(self) -> None:
        self._lost(self.loss)

    def exact(self) -> ExactLoss:
        assert self.data is not None        # `setup` has been called
        draws = None if self.corrected else max(1, min(self.data.train.bs, self.data.train.n) - 1)
        return ExactLoss("softmax", self.negatives.q, self.exclude_seen, draws, self.temperature)


class FullSoftmax(Objective):
    """Mean of -log softmax(scores / temperature)[item] over all items that were trained on, exactly.

    A batch makes n_items scores for each of its users. Of a model with `linear_logits`, such as `SoftmaxNet`, they
    and their gradient are made a few at a time (`linear_softmax`); of others at most MAX_TRAINED are, and beyond that
    they are made again for the gradient. Batches with many rows per user, such as bs=16384 on MovieLens-100K, cost
    hardly more than small ones; the loss is then the multinomial likelihood of whole histories (Liang et al. 2018). For
    `SoftmaxNet`, `SASRec`, and other models with a `cross`."""

    name = "full_softmax"
    compares = True

    def __init__(self, temperature: float = 1.0):
        self.temperature = positive(temperature)
        self.config = {"temperature": temperature}

    def before_fit(self) -> None:
        _check_crosses(self, self.learn.model)

    def predict(self) -> None:
        learn, (users, items) = self.learn, self.learn.xb
        if learn.model.training and as_collab(learn.model).leave_out:
            inputs, row = users, torch.arange(len(users), device=users.device)      # each row has its own input
        else:
            inputs, row = torch.unique(users, return_inverse=True)                  # a user is scored once
        if learn.training and (layer := as_collab(learn.model).linear_logits(inputs, items)) is not None:
            never = self.negatives.q == 0
            self.loss, learn.pred = linear_softmax(*layer, row, items, never, self.temperature)
            return
        step = max(1, (MAX_TRAINED if learn.training else MAX_SCORES) // learn.data.n_items)
        if len(inputs) <= step:
            learn.pred, losses = self._rows(inputs, row, items)
        else:
            learn.pred, losses = self._in_pieces(inputs, row, items, step)
        self.loss = losses.mean()

    def _in_pieces(self, inputs: Tensor, row: Tensor, items: Tensor, step: int) -> tuple[Tensor, ...]:
        """`_rows` of `step` inputs at a time, whose scores are made again for the gradient."""
        order = torch.argsort(row, stable=True)
        begins = torch.arange(0, len(inputs), step, device=row.device)
        ends = torch.searchsorted(row[order], begins + step)
        mine = order.tensor_split(ends[:-1].cpu())
        parts = [checkpoint(self._rows, inputs[begin:begin + step], row[some] - begin, items[some], use_reentrant=False)
                 for begin, some in zip(begins.tolist(), mine)]
        back = torch.argsort(order)
        return tuple(rows_at(torch.cat(column), back) for column in zip(*parts))

    def _rows(self, inputs: Tensor, row: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """(score, loss) of each of `items` (m,), to which the inputs at `row` (m,) belong."""
        model, never = as_collab(self.learn.model), self.negatives.q == 0
        every = torch.arange(self.learn.data.n_items, device=items.device)
        logits = model.logits(inputs, items, every).float()
        scores = entries_at(logits, row, items)
        total = rows_at((logits / self.temperature).masked_fill(never, -math.inf).logsumexp(1), row)
        wanted = scores / self.temperature
        return scores, torch.where(never[items], torch.logaddexp(total, wanted), total) - wanted    # cold ones count

    def get_loss(self) -> None:
        self._lost(self.loss)

    def exact(self) -> ExactLoss:
        return ExactLoss("softmax", self.negatives.q, temperature=self.temperature)


def _check_crosses(of: Objective, model: nn.Module) -> None:
    """Raise Unsupported for a model that cannot score all pairs of a batch at once."""
    if not (asked := as_collab(model)).crosses:
        raise asked.lacks(f"has no cross(users, items), which {of} needs; take loss_func='sampled_softmax'")


OBJECTIVES: dict[str, type[Objective]] = {o.name: o for o in (BPR, Logistic, InBatchSoftmax, SampledSoftmax,
                                                                FullSoftmax)}


def objective(name: str, **config: Any) -> Objective:
    """The objective of that name, with these arguments. Raises KeyError for another name."""
    return OBJECTIVES[name](**config)


def objective_with(option: str, first: str) -> type[Objective] | None:
    """The class of objectives that has an option of that name: the one named `first` if it does; None if none does."""
    several = sorted(OBJECTIVES.values(), key=lambda cls: cls.name != first)
    return next((cls for cls in several if option in inspect.signature(cls).parameters), None)


def objective_name(of: Objective) -> str | None:
    """The name by which `objective` makes it again; None for a class that is not collab's own."""
    return of.name if type(of) is OBJECTIVES.get(of.name) else None

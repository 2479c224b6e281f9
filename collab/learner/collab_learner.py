"""CollabLearner: where ratings and training meet. Raw ids in, raw ids out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..data.allowed import Chosen
from ..data.databunch import CollabDataBunch
from ..data.frame_kinds import framed
from ..data.gathered import interactions_of_some
from ..data.vocab import UNKNOWN, Ids, several
from ..data.where import Where
from ..errors import DataError, warn
from ..files import Config
from ..given import told
from ..losses import no_loss
from ..models.base import CollabModel, Side
from ..models.dot_form import DotForm
from ..models.embedding import only_reads
from ..models.layers import Range
from ..models.plain import as_collab
from ..numerics import checksum
from ..retrieval.fold_in_terms import pull_of
from ..retrieval.index import Index
from ..train.callback import Callback, Cbs
from ..train.callbacks.loss_terms import loss_terms_of
from ..train.callbacks.yardstick import MeanYardstick
from ..train.inspection import Text
from ..train.learner import Learner, MetricLike
from ..train.optim import Hyper, OptFunc, adamw, check_hyper
from ..train.row_adagrad import RowAdagrad
from ..train.untouched import turn
from .batch_output import recommend_all
from .card import card
from .export import export
from .facts import facts
from .new_users import FoldIn, add_ratings, closed_form_of_ratings
from .noise import noise
from .objectives import Objective
from .one_list import Kept
from .predicting import predict, probabilities
from .reasons import folding_of
from .recipes import ROW_RATE, is_dot_product
from .recommendations import pool_of, rows_of, similar, titled
from .recommending import recommend
from .ridge import Ridge
from .settings import Loss, default_loss, training_cbs, without_plan
from .sharding import before_gathering, id_inputs
from .sweeps import NO_RATES, Solved, Sweeps
from .unknown_rows import AverageUnknown, fill_unknown

T = TypeVar("T")


class CollabLearner(Learner):
    """A Learner over a CollabDataBunch that takes and returns raw ids: it predicts, recommends and compares.

    Reported scores are clipped to the scale of the training ratings, if they have one (`data.scale`). Unknown ids are
    scored as the average of the trained ones. `export` keeps `notes` in its file.

    Raises DataError for data of another kind, or a model that was built for other numbers of users and items."""

    data: CollabDataBunch

    def __init__(self, data: CollabDataBunch, model: nn.Module, loss_func: Loss | None = None, *,
                 opt_func: OptFunc = adamw, lr: Hyper | None = None, wd: Hyper | None = None,
                 metrics: Iterable[MetricLike] | MetricLike | None = None, cbs: Cbs = None, seed: int | None = None):
        _check_parts(data, model)
        part = as_collab(model)
        self.notes: Config = {}
        self.lost: list[str] = []       # what the file it was loaded from lacks (see `settings_of`)
        self._folding: tuple[tuple[object, ...], FoldIn] | None = None
        self.kept: Kept | None = None   # finds lists of one user; made again when the model changes
        self.scale: Range | None = None if part.ranks else data.scale
        self.recipe = ""                # how it is trained by default, and why, in words
        self.unknown_objective = False  # whether that file lacks the objective that it was trained with
        if part.solved:
            lr = wd = 0.0
        super().__init__(data, model, loss_func or default_loss(part), opt_func=opt_func, lr=lr, wd=wd,
                         metrics=metrics, cbs=cbs, seed=seed)
        self.add_cbs([AverageUnknown(), MeanYardstick(), *([Sweeps()] if part.solved else [])])
        if part.keeps_interactions and not part.own_interactions:
            part.set_interactions(data.interactions)
        fill_unknown(self.model, data)

    def set_model(self, model: nn.Module) -> None:
        """Continue with another model of the same numbers of users and items (see `Learner.set_model`). Raises
        Unsupported where only one of the two models is solved, or only one ranks."""
        _check_parts(self.data, model)
        new, old = as_collab(model), self.collab_model
        if (new.solved, new.ranks) != (old.solved, old.ranks):
            raise new.lacks(f"cannot take the place of {old.kind}: one of them is solved or ranks, and the other is or "
                            "does not; make a new learner with collab_learner(data, model)")
        super().set_model(model)
        self.kept = None
        if not is_dot_product(new) and any(isinstance(cb, Ridge) for cb in self.cbs):     # it had the plan of another
            self.opt_func, self.recipe = adamw, ""
            self.lr, self.wd, self.cbs = without_plan(new, self.ranks, self.data, self.cbs)
        if new.keeps_interactions and not new.own_interactions:
            new.set_interactions(self.data.interactions)
        fill_unknown(model, self.data)

    @property
    def collab_model(self) -> CollabModel:
        """The model, or a plain module wrapped, as a `CollabModel`."""
        return as_collab(self.model)

    @cached_property
    def opt(self) -> torch.optim.Optimizer:
        """The optimizer of every `Learner`; for a solved model, a stand-in that takes no steps."""
        return Solved.of(self.model) if self.collab_model.solved else super().opt

    @told
    def fit(self, n_epochs: int | None = None, lr: Hyper | None = None, *, wd: Hyper | None = None, cbs: Cbs = None,
            resume: str | Path | None = None) -> None:
        """Train, as `Learner.fit` does; a solved model is fitted in `n_epochs` sweeps, by default its `n_sweeps`.

        A model that one sweep solves, such as EASE, gets only one; a further fit continues from there. Raises
        Unsupported for an `lr` or `wd` of a solved model, TypeError for no `n_epochs` of another."""
        model = self._trainable()
        if model.solved and (lr is not None or wd is not None):
            raise model.lacks(NO_RATES)
        if n_epochs is None:
            if not model.n_sweeps:
                raise TypeError("say for how many epochs: fit(5)")
            n_epochs = model.n_sweeps
        self._check_fit(n_epochs)
        check_hyper(lr=lr, wd=wd)
        if self.recipe and self.opt_func is RowAdagrad and isinstance(lr, (int, float)) and 0 < lr < ROW_RATE / 5:
            warn(f"{lr:g} is a rate for Adam; this learner has RowAdagrad, whose rate is about {ROW_RATE:g}. Leave the "
                 f"rate out or, to train by AdamW, give it to the learner: collab_learner(data, lr={lr:g})")
        super().fit(min(n_epochs, 1) if model.n_sweeps == 1 else n_epochs, lr, wd=wd, cbs=cbs, resume=resume)

    def trial(self) -> None:
        """As `Learner.trial`; Unsupported for a model without a loss."""
        self._trainable()
        super().trial()

    def _trainable(self) -> CollabModel:
        """The model. Raise Unsupported where it has neither a loss nor an objective to train it by."""
        model = self.collab_model
        if self.loss_func is no_loss and self.objective is None:
            raise model.lacks("is a mean of rankings and has no loss: train its members; evaluate(learn) measures how "
                              "well the whole ranks")
        return model

    def freeze_to(self, n: int) -> None:
        """Freeze, as `Learner.freeze_to` does. Raises Unsupported for a solved model."""
        if self.collab_model.solved:
            raise self.collab_model.lacks(NO_RATES)
        super().freeze_to(n)

    def decode(self, pred: Tensor) -> Tensor:
        """The scores of the model's output, clipped to the rating scale unless it ranks."""
        return self.clip(self.collab_model.to_scores(pred))

    def clip(self, scores: Tensor) -> Tensor:
        """Scores clipped to the rating scale, unless the model ranks."""
        return scores if self.shown_range is None else scores.clamp(*self.shown_range)

    @property
    def shown_range(self) -> Range | None:
        """The rating scale, or None where the model ranks."""
        return None if self.scale is None or self.objective is not None else self.scale

    @property
    def objective(self) -> Objective | None:
        """The ranking objective that it is trained with, if any."""
        for cb in self.cbs:
            if isinstance(cb, Objective):
                return cb
        return None

    @property
    def ranks(self) -> bool:
        """Whether its scores only order items; otherwise they are ratings."""
        return self.objective is not None or self.unknown_objective or self.collab_model.ranks

    def _look(self, batches: Any, cb: Callback) -> None:
        super()._look(self.data.part(batches), cb)

    # Scores ------------------------------------------------------------------------------------------------------

    predict, probabilities = predict, probabilities
    recommend = recommend
    recommend_all = recommend_all
    add_ratings = add_ratings

    def index(self, users: bool = True, method: str = "exact", *, columns: Iterable[Hashable] | None = None,
              new_users: bool = True) -> Index:
        """The items as vectors, to search and serve without the ratings (see `Index`); `users=False` leaves out the
        vectors of users too. It keeps the table of items, for conditions, or only these `columns` of it. It folds in
        new users where `FoldIn` does: by equations, or by one of collab's own objectives, whose ridge is then chosen
        (some two seconds for 1,700 items, half a minute for 15,000); not with `new_users=False`. Raises Unsupported
        where the model's score is not a product of vectors."""
        form = self._dot_form("has no index: its score is not a product of a user and an item")
        return Index.of(form, self.data, None if self.objective else self.scale, users, method,
                        folding_of(self) if new_users else None, columns)

    def fold_in(self) -> FoldIn:
        """The `FoldIn` that solves new users' vectors with the current weights, kept until these change. Raises
        Unsupported where the score is not a product, DataError for a ranker whose objective its file lacks."""
        if not self.collab_model.solved:
            self.check_objective()
        form = self._dot_form("cannot fold in new users: its score is not a product of vectors")
        pull = pull_of(loss_terms_of(self.cbs), form, self.data.train.n)
        if self.objective is not None:
            self.objective.setup(self.data)
        solved = closed_form_of_ratings(self)
        tables = [*self.model.parameters(), *self.model.buffers(), *([] if pull is None else [pull])]
        now = (*map(checksum, tables), form.y_range, solved and solved[1], self.data.train.n, repr(self.objective))
        if self._folding is None or self._folding[0] != now:
            if not all(torch.isfinite(table).all() for table in (form.users, form.items)):
                raise ValueError("some weights of the model are not numbers (NaN) or infinite: it is broken, and "
                                 "nobody can be folded in")
            self._folding = now, FoldIn(form, interactions_of_some(self.data), self.objective, pull, solved)
        return self._folding[1]

    def lose_objective(self) -> None:
        """Rank from now on, by an objective that is not known: scores have no scale, and nobody can be folded in."""
        self.unknown_objective, self.scale = True, None

    def check_objective(self) -> None:
        """Raise DataError where the model ranks by an objective that its file lacks, so that new users cannot be
        folded in."""
        if self.objective is None and self.unknown_objective:
            raise DataError(f"{self.collab_model.kind} was trained to rank with an objective that is not collab's own; "
                            "add it to fold in new users: learn.add_cbs(...)")

    def _dot_form(self, otherwise: str) -> DotForm:
        form = self.looking(self.collab_model.dot_form)
        if form is None:
            raise self.collab_model.lacks(otherwise)
        return form

    def similar_items(self, item: Hashable, n: int = 10, min_ratings: int = 5, *, where: Where | None = None,
                      among: Chosen | None = None, without: Chosen | None = None, as_frame: str = "pandas") -> Any:
        """The `n` items most similar to one, by default by the cosine of factors: rank, item, title, score.

        Items with fewer than `min_ratings` training ratings are left out: their direction is mostly chance. `where`,
        `among`, `without` and `as_frame` are those of `recommend`."""
        pool = pool_of(self, among, without, where=where)
        return framed(similar(self, "item", item, n, min_ratings, pool), as_frame)

    def similar_users(self, user: Hashable, n: int = 10, min_ratings: int = 5, *, as_frame: str = "pandas") -> Any:
        """The `n` users most similar to one, by default by the cosine of factors: rank, user, score.

        Users with fewer than `min_ratings` training ratings are left out."""
        return framed(similar(self, "user", user, n, min_ratings), as_frame)

    def rated(self, user: Hashable, n: int | None = None, *, part: str = "known", as_frame: str = "pandas") -> Any:
        """A user's known ratings, held out or not, best first: item, title, rating; with part="train", the training
        ratings. `recommend` leaves these items out; some may have no training ratings. An item rated several times
        comes once, with its mean rating, or with the sum of its strengths in implicit data.

        Raises UnknownId for a user without known ratings, or one who was not trained on."""
        if part not in ("known", "train"):
            raise ValueError(f"part={part!r} is neither 'known' nor 'train'")
        histories, vocab, known = self.data.histories, self.data.users, self.data.aside
        row = int(known.users.encode([user])[0]) if part == "known" else vocab[user]
        if row == UNKNOWN:
            raise vocab.unknown(user)
        items, ratings = (self.data.known if part == "known" else histories)[row]
        again = pd.Series(ratings.numpy()).groupby(items.numpy(), sort=False)
        own = (again.sum() if self.data.implicit else again.mean()).sort_values(ascending=False, kind="stable").iloc[:n]
        named = titled(self, pd.DataFrame({"item": known.items.decode(torch.tensor(own.index.to_numpy()))}))
        return framed(named.assign(rating=own.to_numpy(np.float32)), as_frame)

    def show_results(self, n: int = 10, part: Any = None) -> pd.DataFrame:
        """The first `n` ratings of `part` (batches or a table of ratings, by default the validation part) beside their
        predictions: user, item, title, rating, predicted. An id that was not trained on shows as None."""
        users, items, ratings = (t[:n].cpu() for t in self.data.rows_of(part).tensors)
        table = titled(self, pd.DataFrame({"user": self.data.users.decode(users.numpy()),
                                           "item": self.data.items.decode(items.numpy())}))
        scores = self.looking(lambda: self.collab_model.scores(users.to(self.device), items.to(self.device)))
        return table.assign(rating=ratings.numpy(), predicted=self.clip(scores).cpu().numpy())

    # What was learned --------------------------------------------------------------------------------------------

    def bias(self, ids: Ids | None = None, is_item: bool = True) -> Tensor:
        """The biases of raw ids, or titles, shape (len(ids),), or () for a single one; of all known ids for None."""
        return self._learned("bias", ids, is_item)

    def weight(self, ids: Ids | None = None, is_item: bool = True) -> Tensor:
        """The factors of raw ids, or titles, shape (len(ids), n_factors), or (n_factors,) for a single one."""
        return self._learned("weight", ids, is_item)

    # Files -------------------------------------------------------------------------------------------------------

    def export(self, path: str | Path, *, card: bool | str = True, **notes: object) -> Path:
        """Write one safetensors file with weights, configuration, settings, vocabs, item metadata, training history,
        and training and held-out ratings (`recommend` leaves out both). `notes` are JSON values to keep. A model `card`
        is written beside it, model.md: that of `card`, or a text of yours, such as `card(evaluate(learn))`. Without
        any, a card that tells of the model before is removed. Of several processes, the first one alone writes.

        Raises DataError for ids or metadata that a file cannot hold; the old file, if any, is then left as it was."""
        return export(self, path, card, notes)

    def load(self, path: str | Path, with_opt: bool = True) -> None:
        """Load what `save` or a `Checkpoint` wrote (see `Learner.load`)."""
        super().load(path, with_opt)
        fill_unknown(self.model, self.data)     # a checkpoint from mid-epoch has older averages

    facts, card = facts, card
    noise = noise
    id_inputs, before_gathering = id_inputs, before_gathering

    def summary(self) -> Text:
        """Describe the learner, as `Learner.summary` does, and the recipe that its size has called for."""
        text = super().summary()
        return Text(f"{text}\nRecipe: {self.recipe}") if self.recipe else text

    # For other rooms -----------------------------------------------------------------------------------------------

    def looking(self, look: Callable[[], T]) -> T:
        """Call `look` in evaluation mode and without gradients."""
        with self.untouched() as modes, torch.no_grad():
            if any(modes.values()):
                self.model.eval()
            return look()

    def reading(self, look: Callable[[], T]) -> T:
        """`looking` for a `look` that calls the model's scorer alone: where this only reads weights, there is nothing
        to put back, and it takes a tenth of the time."""
        if not only_reads(self.model):
            return self.looking(look)
        with turn(self.model), torch.no_grad():
            return look()

    def over(self, data: CollabDataBunch, model: nn.Module) -> CollabLearner:
        """A learner like this one over other data and another model, which ranks where this one's does."""
        learn = type(self)(data, model, self.loss_func, opt_func=self.opt_func, lr=self.lr, wd=self.wd, seed=self.seed,
                           metrics=copy.deepcopy(self.scores.metrics), cbs=training_cbs(self))
        learn.recipe = self.recipe
        if self.unknown_objective:
            learn.lose_objective()
        return learn

    def _learned(self, kind: str, ids: Ids | None, is_item: bool) -> Tensor:
        side: Side = "item" if is_item else "user"
        own = self.collab_model.biases if kind == "bias" else self.collab_model.factors
        table = self.looking(lambda: own(side)).detach()
        if ids is None:
            return table[1:].cpu().clone()
        rows = rows_of(self, self.data.items if is_item else self.data.users, ids, "error")
        return table[rows if several(ids) else rows[0]].cpu().clone()


def _check_parts(data: CollabDataBunch, model: nn.Module) -> None:
    if not isinstance(data, CollabDataBunch):
        raise no_data(data)
    config = as_collab(model).config
    for name, n in (("n_users", data.n_users), ("n_items", data.n_items)):
        if config.get(name, n) != n:
            raise DataError(f"the model was built with {name}={config[name]:,}, but the data have {n:,} rows, the "
                            f"unknown one included; build it with data.{name}")


def no_data(data: object) -> DataError:
    return DataError(f"expected a CollabDataBunch, got {type(data).__name__}; make one from a table of ratings with "
                     "CollabDataBunch.from_df(ratings)")

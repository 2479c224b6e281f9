"""Subject: one model under test, with what tests compare it with: scores from a naive loop over all pairs."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from collab import CollabInterpretation, CollabLearner, Unsupported, load_learner

from .cases import ABILITIES, CASES, FOREIGN, SAYS, Case
from .ratings import held_out


class Subject:
    """A trained learner, which tests look at and do not change, and what is made of it."""

    def __init__(self, case: Case, folder: Path):
        self.case, self.folder = case, folder
        self.learn: CollabLearner = case.make()
        self.data, self.interp = self.learn.data, CollabInterpretation(self.learn)
        self.users, self.items = list(self.data.users), list(self.data.items)
        self.model = type(self.learn.model).__name__

    @cached_property
    def raw(self) -> np.ndarray:
        """What the model's own forward gives for every pair of rows, the unknown ones too, (n_users, n_items) float64,
        as an expected rating where that are classes."""
        model = copy.deepcopy(self.learn.model).double().eval()
        users, items = torch.meshgrid(torch.arange(self.data.n_users), torch.arange(self.data.n_items), indexing="ij")
        with torch.no_grad():
            out = model(users.flatten(), items.flatten())
            if out.dim() == 2:
                out = out.softmax(1) @ model.levels
        return out.view(users.shape).numpy()

    @cached_property
    def scores(self) -> np.ndarray:
        """`raw` as it is reported: ratings are clipped to their scale, from 1 to 5."""
        return self.raw if self.case.ranks else self.raw.clip(1, 5)

    @property
    def rounding(self) -> float:
        return 1e-5 * float(np.abs(self.raw).max())

    def row(self, user: Any) -> int:
        """The row of a user, 0 for one who is not known."""
        return self.users.index(user) + 1 if user in self.users else 0

    def column(self, item: Any) -> int:
        return self.items.index(item) + 1 if item in self.items else 0

    @cached_property
    def histories(self) -> dict[Any, dict[Any, float]]:
        """What every user rated in the training part: {item: the mean rating}."""
        users, items, ratings = (t.numpy() for t in self.data.train.tensors)
        table = pd.DataFrame({"user": self.data.users.decode(users), "item": self.data.items.decode(items),
                              "rating": ratings.astype(float)})
        means = table.groupby(["user", "item"])["rating"].mean()
        return {user: mine.droplevel(0).to_dict() for user, mine in means.groupby(level=0)}

    def history(self, user: Any) -> dict[Any, float]:
        return self.histories.get(user, {})

    def known(self, user: Any) -> set[Any]:
        """What somebody is known to have rated, held out or not."""
        return {*self.history(user), *(item for one, item, _ in held_out() if one == user)}

    @cached_property
    def titles(self) -> dict[Any, str]:
        return dict(zip(self.items, self.data.titles(self.items) or []))

    @cached_property
    def path(self) -> Path:
        """The file that the learner is exported to."""
        return self.learn.export(self.folder / f"{self.case.name}.safetensors")

    @cached_property
    def loaded(self) -> CollabLearner:
        return self.load()

    def load(self) -> CollabLearner:
        """What the file gives, a model of one's own class passed as it was built."""
        own = self.case.name in FOREIGN or self.case.name == "subclass"
        return load_learner(self.path, model=self.case.model() if own else None, device="cpu")

    @contextmanager
    def able(self, *abilities: str) -> Iterator[None]:
        """What happens inside needs these abilities: it succeeds, unless the model lacks one of them; then it must
        raise `Unsupported`, as `refused` says."""
        assert {*abilities} <= ABILITIES
        lacking = [ability for ability in abilities if ability in self.case.lacks]
        if not lacking:
            yield
            return
        with pytest.raises(Unsupported) as caught:
            yield
        self.check_refusal(caught.value, lacking[0])

    def refused(self, call: Callable[[], Any], ability: str) -> str:
        """The message of the `Unsupported` that `call` must raise: it names the class of the model and what it lacks.
        """
        with pytest.raises(Unsupported) as caught:
            call()
        self.check_refusal(caught.value, ability)
        return str(caught.value)

    def check_refusal(self, error: BaseException, ability: str) -> None:
        said = str(error)
        assert self.model in said, f"{said!r} does not name {self.model}"
        assert re.search(SAYS[ability], said), f"{said!r} does not say that {ability} are lacking ({SAYS[ability]})"
        assert "\n" not in said

    def assert_near(self, scores: Any, expected: Any) -> None:
        """Equal to rounding, and numbers."""
        np.testing.assert_allclose(np.asarray(scores, float), np.asarray(expected, float), rtol=0, atol=self.rounding)
        assert np.isfinite(np.asarray(scores, float)).all()


class Subjects:
    """Every subject once; what cannot be trained is tried once as well."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.made: dict[str, Subject | Exception] = {}

    def __getitem__(self, name: str) -> Subject:
        if name not in self.made:
            try:
                self.made[name] = Subject(CASES[name], self.folder)
            except Exception as error:
                self.made[name] = error
        if isinstance(made := self.made[name], Exception):
            raise AssertionError(f"{name} cannot be trained: {made!r}") from made
        return made


def bits(learn: CollabLearner) -> dict[str, Any]:
    """What looking must not change: weights, their mode and what was recorded, and torch's random state."""
    state = {name: t.clone() for name, t in learn.model.state_dict().items()}
    modes = [module.training for module in learn.model.modules()]
    return {"state": state, "modes": modes, "rows": len(learn.recorder.rows), "random": torch.get_rng_state()}


def assert_same_bits(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before["state"].keys() == after["state"].keys()
    changed = [name for name, t in before["state"].items() if not torch.equal(t, after["state"][name])]
    assert not changed, f"looking changed {changed}"
    assert before["modes"] == after["modes"] and before["rows"] == after["rows"]
    assert torch.equal(before["random"], after["random"]), "looking drew from torch's random numbers"

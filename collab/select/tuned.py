"""Tuned: what `tune` found, in a table, a picture and words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import counted
from ..learner.collab_learner import CollabLearner
from ..learner.ranges import OneOf, Space
from ..plotting import BLUE, GREY, axes, head, whole_ticks
from .study_file import DONE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Tuned:
    """- `learn`: a learner trained on `trained_on` (words), with the settings `best`.
    - `best`: settings by name; those of the recipe itself ({}) unless others were `beaten`, better beyond chance: the
      95% interval of the `difference` on untouched ratings does not hold 0. `candidate` are those of the best trial.
    - `trials`: a frame, one row per trial: trial, value (of the metric), state ("finished", "ended early"), seconds,
      and the settings.
    - `table`: the metric of the default recipe and of the best trial's settings, both trained on `trained_on`,
      measured on `untouched` (words), which no trial saw: value, low, high.
    - `difference`: tuned less default: value, low, high, p_value, users (see `margin`)."""

    learn: CollabLearner
    best: dict[str, Any]
    beaten: bool
    candidate: dict[str, Any]
    trials: pd.DataFrame
    table: pd.DataFrame
    difference: pd.Series
    metric: str
    lower: bool
    model: str
    same: bool
    has_default: bool
    untouched: str
    trained_on: str
    n_train: int
    n_valid: int
    seconds: float

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the metric of every trial in their order, the best one so far, and the default recipe's."""
        ax, trials = axes(ax), self.trials
        number, value = trials["trial"] + 1, trials["value"]
        whole = trials["state"] == "finished"
        ax.scatter(number[whole], value[whole], color=BLUE, s=22, label="trial")
        if not whole.all():
            ax.scatter(number[~whole], value[~whole], color=GREY, s=22, marker="x", label="ended early")
        so_far = value.where(whole)
        best = so_far.cummin() if self.lower else so_far.cummax()
        ax.step(number, best.ffill(), where="post", color=BLUE, label="best so far")
        if self.has_default:
            ax.axhline(value.iloc[0], color=GREY, linestyle="--", linewidth=1, label="default recipe")
        ax.set_xlabel("trial")
        head(ax, f"{self.metric} of {self.n_valid:,} ratings for the choice of settings",
             handles=ax.get_legend_handles_labels()[0])
        whole_ticks(ax.xaxis)
        return ax

    @property
    def said(self) -> str:
        """Whether tuning beats the default recipe, in a sentence."""
        d = self.difference
        if self.same:
            return "No trial was better than the default recipe, whose settings are kept."
        interval = f"{d['value']:+.4f} (95% interval {d['low']:+.4f} to {d['high']:+.4f}, {d['users']:,.0f} users)"
        default, tuned = self.table["value"].tolist()
        measured = (f"On {self.untouched} that no trial saw, {self.metric} is {tuned:.4f} with the settings of the "
                    f"best trial and {default:.4f} with the default recipe, a difference of {interval}")
        return measured + (": tuning beats the default recipe." if self.beaten else
                           ": tuning does not beat the default recipe, whose settings are kept.")

    def __repr__(self) -> str:
        early = int((self.trials["state"] != "finished").sum())
        whole = self.trials[self.trials["state"] == "finished"]["value"]
        first = f" (the default recipe {self.trials['value'].iloc[0]:.4f})" if self.has_default else ""
        return (f"{counted(len(self.trials), 'trial')} of {self.model} in {self.seconds:.0f} s, {early} of them ended "
                f"early: trained on {self.n_train:,} ratings, measured on {self.n_valid:,} others.\n"
                f"The best trial has {self.metric} {whole.min() if self.lower else whole.max():.4f}{first}: "
                f"{written(self.candidate)}.\n{self.said}\n"
                f"The learner has {written(self.best) if self.best else 'the settings of the recipe'}. It was trained "
                f"on {self.trained_on}.")


def written(settings: dict[str, Any]) -> str:
    """Settings in words: n_factors 80, ridge 0.312."""
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in settings.items())


def done(study: Any) -> list[Any]:
    """The finished trials of a study, in their order."""
    return sorted((trial for trial in study.get_trials(deepcopy=False)
                   if DONE in trial.user_attrs and trial.state.name in ("COMPLETE", "PRUNED")),
                  key=lambda trial: int(trial.user_attrs[DONE]))


def trials_frame(study: Any, space: Space) -> pd.DataFrame:
    """The finished trials of a study, in their order, settings as they are given to a learner."""
    columns = ["trial", "value", "state", "seconds", *space]
    rows = [[int(t.user_attrs[DONE]), t.user_attrs["value"], "ended early" if t.state.name == "PRUNED" else "finished",
             t.user_attrs["seconds"], *(_read(space[name], t.params[name]) for name in space)] for t in done(study)]
    frame = pd.DataFrame(rows, columns=columns)
    for name, span in space.items():
        if isinstance(span, OneOf):
            frame[name] = pd.Series([row[columns.index(name)] for row in rows], dtype=object)
    return frame


def _read(span: Any, stored: Any) -> Any:
    if isinstance(span, OneOf):
        return span.values[[span.stored(value) for value in span.values].index(stored)]
    return stored

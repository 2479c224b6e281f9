"""Comparison: the models of `compare_models`, best first, with the differences that are chance marked."""

from __future__ import annotations

import html
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ..plotting import BLUE, GREY, axes, cut, head
from .known_metrics import LOG_LOSS, LOWER, RANKING
from .paired import PerUser, compared, intervals
from .usage import Usage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOTHING = {"value": math.nan, "low": math.nan, "high": math.nan}
BEST, TIED, WORSE, NONE = "best", "tied with best", "worse", "not measured"
LEFT = ("model", "vs best")         # columns of words
NOISE, INSTANT = 0.2, 0.1           # share of a time, and seconds: times that differ by less are equal
FAR = 10                            # times faster, for a model that is worse to be named
FEW_BATCHES = 10                    # an epoch: with fewer, a model of ratings may have taken too few steps
SMALL = 64                          # the batch size to try then


class Measured(NamedTuple):
    """One metric of one model on one fold, by user, whose codes are positions: sums, and how many are summed."""

    totals: np.ndarray
    shares: np.ndarray


class Run(NamedTuple):
    """What one model has reached on one fold."""

    label: str
    fold: Hashable
    measured: dict[str, Measured]
    usage: Usage
    baseline: bool


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Models beside each other, measured on the same held-out rows.

    - `table`: one row per model, best first: model, the first metric, which decides, with its interval (low, high) over
      users; difference from the best one, p_value (corrected: see `paired.compared`) and "vs best": "best", "tied with
      best" where the difference may be chance, or "worse"; the other metrics; seconds of the processor to train it on
      one fold, and the megabytes that took at most beyond the data (NaN where the system does not say).
    - `pairs`: every pair of models, for every metric: metric, a, b, difference, low, high, p_value, p_holm, users.
    - `folds`: one row per model and fold: fold, model, metrics, seconds, mb.
    - `left_out`: models that are not in it, and why. `large_batches`: models of ratings that had fewer than 10 batches
      in an epoch, and may do better with smaller ones. `interrupted`: whether Ctrl-C ended it early.
    - `taken`: the model to take, or None; `advice()` says why.
    - `learners`: with `keep=True`, {model: one learner per fold}.

    Intervals and tests are over users: they say whether other users of the same kind would decide alike. Over folds, a
    user's figures are summed; that the folds' training ratings overlap is not in the intervals (Bengio & Grandvalet
    2004), and neither are other seeds."""

    table: pd.DataFrame
    pairs: pd.DataFrame
    folds: pd.DataFrame
    metrics: list[str]
    measured_on: str
    n_users: int
    baselines: list[str]
    level: float = 0.95
    left_out: dict[str, str] = field(default_factory=dict)
    large_batches: list[str] = field(default_factory=list)
    interrupted: bool = False
    learners: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Sequence[Run], metrics: Sequence[str], *, k: int, n_users: int, level: float, seed: int,
           part: str, **rest: Any) -> Comparison:
        """Put the runs of all folds together."""
        labels = list(dict.fromkeys(run.label for run in runs))
        named = {name: f"{name}@{k}" if name in RANKING and name != "auc" else name for name in metrics}
        values, pairs = {}, []
        for name, shown in named.items():
            has = [label for label in labels if all(name in run.measured for run in runs if run.label == label)]
            per_user = _joined([[run for run in runs if run.label == label] for label in has], name, n_users)
            values[shown] = intervals(per_user, has, level, seed)
            pairs.append(compared(per_user, has, level, seed).assign(metric=shown))
        every = pd.concat(pairs, ignore_index=True)
        every.insert(0, "metric", every.pop("metric"))
        usage = {label: [run.usage for run in runs if run.label == label] for label in labels}
        folds = pd.DataFrame([{"fold": run.fold, "model": run.label,
                               **{shown: _value(run.measured.get(name), name) for name, shown in named.items()},
                               "seconds": run.usage.seconds, "mb": run.usage.mb} for run in runs])
        baselines = list(dict.fromkeys(run.label for run in runs if run.baseline))
        return cls(_table(labels, values, every, usage, level), every, folds, [*named.values()], part, n_users,
                   baselines, level, **rest)

    @property
    def best(self) -> str:
        """The model with the best first metric."""
        return str(self.table["model"].iloc[0])

    @property
    def tied(self) -> list[str]:
        """The best model, and those whose difference from it may be chance, best first."""
        return self.table.loc[self.table["vs best"].isin([BEST, TIED]), "model"].tolist()

    @property
    def _baselines_in_order(self) -> list[str]:
        """The baselines that have the first metric, best first."""
        return self.table.loc[(self.table["vs best"] != NONE) & self.table["model"].isin(self.baselines),
                              "model"].tolist()

    @property
    def no_better_than_baseline(self) -> list[str]:
        """The models whose first metric is not better than that of the best baseline by more than chance."""
        order = self._baselines_in_order
        if not order:
            return []
        pairs = self.pairs[self.pairs["metric"] == self.metrics[0]]
        sign = -1 if self.metrics[0] in LOWER else 1
        better = {row["a"] if sign * row["difference"] > 0 else row["b"] for row in pairs.to_dict("records")
                  if order[0] in (row["a"], row["b"]) and row["p_holm"] < 1 - self.level}
        measured = self.table.loc[self.table["vs best"] != NONE, "model"]
        return [label for label in measured if label not in {*better, *self.baselines}]

    @property
    def taken(self) -> str | None:
        """The model to take: of those tied with the best and better than the best baseline beyond chance, the one that
        takes the least time to train; None where no model is better. Of times that differ from the least by no more
        than 20% or 0.1 seconds, which a next run may turn round, the better first metric decides."""
        cost, behind = dict(zip(self.table["model"], self.table["seconds"])), self.no_better_than_baseline
        better = [label for label in self.tied if label not in {*behind, *self.baselines}]
        least = min((cost[label] for label in better), default=math.nan)
        return next((label for label in better if not _faster(least, cost[label])), None)

    def advice(self) -> list[str]:
        """What follows for the choice of a model, in sentences."""
        said, cost = [], dict(zip(self.table["model"], self.table["seconds"]))
        tied, taken = self.tied, self.taken
        baseline = next(iter(self._baselines_in_order), None)
        if len(tied) > 1:
            said.append(f"{_listed(tied)} are tied: the difference from the best may be chance.")
        if taken is None:
            models = {*self.table.loc[self.table["vs best"] != NONE, "model"]} - {*self.baselines}
            which = "No model" if models <= {*self.no_better_than_baseline} else "None of them"
            said.append(f"{which} is better than {baseline} by more than chance.")
        elif len(tied) > 1:
            faster = f", in {cost[taken]:.2g} s where {self.best} takes {cost[self.best]:.2g} s"
            better = f"better than {baseline} by more than chance" if baseline else "as good as the others"
            said.append(f"Take {taken}: it is {better}{faster * (taken != self.best)}.")
        else:
            said.append(f"Take {self.best}: it is better than all others by more than chance.")
            measured = self.table.loc[self.table["vs best"] != NONE, "model"]
            near = [label for label in measured[1:] if label not in self.baselines
                    and cost[label] * FAR < cost[self.best] and _faster(cost[label], cost[self.best])]
            if near:
                row = self.table[self.table["model"] == near[0]].iloc[0]
                said.append(f"{near[0]} has {row[self.metrics[0]]:.4f}, and takes {cost[near[0]]:.2g} s where "
                            f"{self.best} takes {cost[self.best]:.2g} s.")
        if taken is not None and (behind := self.no_better_than_baseline):
            said.append(f"Not better than {baseline} by more than chance: {_listed(behind)}.")
        return said

    def heading(self) -> str:
        """What was measured on what."""
        less = "less" if self.metrics[0] in LOWER else "more"
        return f"{_shown(self.metrics[0])} on {self.measured_on}, {self.n_users:,} users; {less} is better"

    def notes(self) -> list[str]:
        """What the columns mean, and what is not there."""
        said = [f"low, high: {self.level:.0%} of the bootstrap over users. p_value: paired by user, corrected for all "
                "pairs (Holm)."]
        said += [f"Not compared: {label}: {why}" for label, why in self.left_out.items()]
        if few := [label for label in self.large_batches if label not in self.left_out]:
            said.append(f"Trained in fewer than {FEW_BATCHES} batches an epoch: {_listed(few)}. On so few ratings "
                        f"smaller ones may do better: try bs={SMALL}.")
        return said + ["Interrupted: this is what was done."] * self.interrupted

    def __repr__(self) -> str:
        return "\n".join([self.heading(), "", _aligned(self.as_text()), "", *self.advice(), *self.notes()])

    def _repr_html_(self) -> str:
        shown = self.as_text()
        sides = ["left" if name in LEFT else "right" for name in shown]
        titles, *rows = ["".join(f"<{tag} style='text-align:{side}'>{html.escape(cell)}</{tag}>"
                                 for side, cell in zip(sides, cells))
                         for tag, cells in [("th", [*shown]), *(("td", row) for row in shown.to_numpy().tolist())]]
        said = "".join(f"<p>{html.escape(text)}</p>" for text in [*self.advice(), *self.notes()])
        return (f"<p>{html.escape(self.heading())}</p><table><thead><tr>{titles}</tr></thead><tbody>"
                + "".join(f"<tr>{row}</tr>" for row in rows) + f"</tbody></table>{said}")

    def as_text(self) -> pd.DataFrame:
        """The table as people read it: numbers with the digits that count."""
        shown = {}
        for name, column in self.table.items():
            if name in (*self.metrics, "low", "high"):
                shown[name] = [_number(v, ".4f") for v in column]
            elif name == "difference":
                shown[name] = [_number(v, "+.4f") if v else "" for v in column]
            elif name == "p_value":
                shown[name] = ["" if math.isnan(v) else "<.001" if v < 0.001 else f"{v:.3f}" for v in column]
            elif name in ("seconds", "mb"):
                digits = 2 if name == "seconds" else 0
                shown[name] = [_number(v, f",.{digits}f") for v in column]
            else:
                shown[str(name)] = column.tolist()
        if self.table["mb"].isna().all():
            del shown["mb"]
        return pd.DataFrame(shown)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The first metric of every model as a dot, with the interval of its difference from the best one: where that
        reaches the line, the difference may be chance. Models that are worse are grey."""
        name = self.metrics[0]
        rows = self.table[self.table["vs best"] != NONE].iloc[::-1].reset_index(drop=True)
        pairs, best = self.pairs[self.pairs["metric"] == name], self.best
        value = float(self.table[name].iloc[0])
        ax = axes(ax, size=(7.0, 1.2 + 0.32 * len(rows)))
        ax.axvline(value, color=GREY, linewidth=1, linestyle=":")
        for position, row in enumerate(rows.to_dict("records")):
            label, colour = row["model"], GREY if row["vs best"] == WORSE else BLUE
            low, high = _difference_interval(pairs, label, best)
            ax.plot([value + low, value + high], [position, position], color=colour, linewidth=2, solid_capstyle="butt")
            ax.plot(row[name], position, "o", color=colour, markersize=6)
        ax.set_yticks(range(len(rows)), [cut(str(label), 36) for label in rows["model"]], parse_math=False)
        ax.set_xlabel(_shown(name))
        head(ax, f"{_shown(name)}, and {self.level:.0%} intervals of the difference from the best")
        return ax


def _joined(runs: list[list[Run]], name: str, n_users: int) -> PerUser:
    """The runs of each model, on the same folds, summed by user."""
    totals, shares = np.zeros((n_users, len(runs))), np.zeros(n_users)
    for k, own in enumerate(runs):
        for run in own:
            found = run.measured[name]
            totals[:len(found.totals), k] += found.totals
            if not k:
                shares[:len(found.shares)] += found.shares
    asked = shares > 0
    return PerUser(totals[asked], shares[asked], name == "rmse")


def _value(found: Measured | None, name: str) -> float:
    return math.nan if found is None else float(PerUser(found.totals[:, None], found.shares, name == "rmse").value()[0])


def _table(labels: list[str], values: Mapping[str, pd.DataFrame], pairs: pd.DataFrame, usage: Mapping[str, list[Usage]],
           level: float) -> pd.DataFrame:
    first = next(iter(values))
    sign = 1 if first in LOWER else -1
    numbers = {name: {label: dict(zip(found, row)) for label, row in zip(found.index, found.to_numpy().tolist())}
               for name, found in values.items()}
    own = numbers[first]
    order = sorted(labels, key=lambda label: sign * own[label]["value"] if label in own else math.inf)
    best = order[0]
    pairs = pairs[pairs["metric"] == first]
    rows = []
    for label in order:
        p, word = math.nan, BEST
        if label not in own:
            word = NONE
        elif label != best:
            p = pairs.loc[pairs["a"].isin([label, best]) & pairs["b"].isin([label, best]), "p_holm"].tolist()[0]
            word = WORSE if p < 1 - level else TIED
        found = own.get(label, NOTHING)
        rows.append({"model": label, first: found["value"], "low": found["low"], "high": found["high"],
                     "difference": found["value"] - own[best]["value"], "p_value": p, "vs best": word,
                     **{name: of.get(label, NOTHING)["value"] for name, of in numbers.items() if name != first},
                     "seconds": float(np.mean([one.seconds for one in usage[label]])),
                     "mb": max(one.mb for one in usage[label])})
    return pd.DataFrame(rows)


def _faster(one: float, other: float) -> bool:
    """Whether a time is shorter than another by more than the noise of either."""
    return other - one > max(NOISE * one, INSTANT) + 1e-9


def _difference_interval(pairs: pd.DataFrame, label: str, best: str) -> tuple[float, float]:
    """(low, high) of label - best; (0, 0) of the best itself."""
    for row in pairs.to_dict("records"):
        if (row["a"], row["b"]) == (label, best):
            return float(row["low"]), float(row["high"])
        if (row["a"], row["b"]) == (best, label):
            return -float(row["high"]), -float(row["low"])
    return 0.0, 0.0


def _shown(metric: str) -> str:
    name, at, k = metric.partition("@")
    words = {"map": "MAP", "mrr": "MRR", "hit": "Hit rate", LOG_LOSS: "Log loss"}
    return words.get(name, name.capitalize() if len(name) > 4 else name.upper()) + at + k


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else f"{value:{form}}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _aligned(shown: pd.DataFrame) -> str:
    """Columns as lines of text: words to the left, numbers to the right."""
    columns = []
    for name, cells in shown.items():
        width = max(map(len, [str(name), *cells]))
        columns.append([text.ljust(width) if name in LEFT else text.rjust(width) for text in [str(name), *cells]])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns))

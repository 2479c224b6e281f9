"""RankingResult: what `evaluate` found, with intervals; compare: two of them, user by user."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..errors import warn
from .resampling import Draw, counts, resampled, signs


@dataclass(frozen=True, eq=False)
class Question:
    """What there was to find, and among what.

    `relevant` (m,) int64 is a hash of the raw ids of each user's relevant items, whatever their order and rows;
    `nameless` (m,) bool marks users some of whose items have no known id, so that the hash is incomplete. `exclude` is
    that of `evaluate`, `among` a hash of the ids that were ranked, None for all of them."""

    relevant: np.ndarray
    nameless: np.ndarray
    exclude: str | None
    among: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class RankingResult:
    """The metrics of the top `k` recommendations of the model `name`; for several k, a metric for each ("ndcg@5").

    - `per_user`: one row per user: user (raw id), n_relevant, and one column per metric.
    - `summary`: the mean of each metric over users, without those for whom it is not defined (NaN).
    - `left_out`: how many users had nothing relevant to find, and how many held-out ratings did not count, and why.
    - `baseline`: the result of `Popularity`, where it was wanted.
    - `question`: what there was to find, by which `compare` checks that two results go together."""

    name: str
    k: int | tuple[int, ...]
    per_user: pd.DataFrame
    summary: pd.Series
    left_out: dict[str, int]
    baseline: RankingResult | None = None
    question: Question | None = None

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics of every user."""
        return list(self.per_user.columns[2:])

    def at(self, k: int) -> RankingResult:
        """The result for one of several `k`, as `evaluate` gives it. Raises ValueError for another k."""
        if k == self.k:
            return self
        if not isinstance(self.k, tuple) or k not in self.k:
            raise ValueError(f"k={k!r} is not what was evaluated: k={self.k}")
        own = {name: str(name).partition("@")[0] for name in self.summary.index
               if "@" not in name or name.endswith(f"@{k}")}
        kept = [name for name in self.per_user if name in ("user", "n_relevant", *own)]
        return replace(self, k=k, per_user=self.per_user[kept].rename(columns=own),
                       summary=self.summary[[*own]].rename(own), baseline=self.baseline and self.baseline.at(k))

    def interval(self, level: float = 0.95, n: int = 2000, seed: int = 0) -> pd.DataFrame:
        """Each metric's mean and the percentile bootstrap interval around it (Efron 1979), from `n` resamples of the
        users: mean, low, high. It tells how much other users of the same kind may differ, not other training runs."""
        values = self.per_user[self.metrics].to_numpy()
        low, high = _interval(values, level, n, seed)
        return pd.DataFrame({"mean": self.summary[self.metrics], "low": low, "high": high})

    def __repr__(self) -> str:
        columns = {r.name: r.summary for r in (self, self.baseline) if r is not None}
        return (f"Top {', '.join(map(str, np.atleast_1d(self.k)))} of {len(self.per_user):,} users\n"
                f"{pd.DataFrame(columns).to_string(float_format='{:.4f}'.format)}\n"
                f"Left out: {said(self.left_out)}")


def said(left_out: dict[str, int]) -> str:
    """What was left out, in words."""
    return ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in left_out.items() if n) or "nothing"


def compare(a: RankingResult, b: RankingResult, n: int = 10_000, seed: int = 0, level: float = 0.95) -> pd.DataFrame:
    """Compare `a` with `b` over the users they share. One row per metric: a, b (means), difference (a - b), low, high
    (the percentile bootstrap interval of the difference), p_value, users.

    The p-value is two-sided, of a paired permutation test: if `a` and `b` were interchangeable, each user's difference
    would as likely have the other sign. It is (1 + the number of `n` random choices of signs with a mean at least as
    far from 0) / (1 + n): Smucker, Allan, Carterette 2007; Phipson, Smyth 2010.
    Raises ValueError for another k, other relevant items, another `exclude` or `among`, or where they share no
    user or metric. Items that were not trained on are compared by id where a table or a part of the data was
    evaluated, by number for other batches."""
    if a.k != b.k:
        raise ValueError(f"a was evaluated with k={a.k}, b with k={b.k}; evaluate both with the same k, or take "
                         "that of one with at(k)")
    _check_alike(a.question, b.question)
    metrics = [name for name in a.metrics if name in b.metrics]
    both = _with_question(a).merge(_with_question(b), on="user", suffixes=("_a", "_b"))
    if both.empty or not metrics:
        raise ValueError(f"a and b share {len(both)} users and {len(metrics)} metrics; evaluate both on the same "
                         "batches with the same metrics")
    n_users, alone = len(a.per_user) + len(b.per_user) - 2 * len(both), sorted({*a.metrics} ^ {*b.metrics})
    if n_users or alone:
        warn(f"not compared, since a or b alone has them: users {n_users:,}, metrics {', '.join(alone) or 'none'}; "
             "evaluate both on the same batches with the same metrics")
    named = ~(both["nameless_a"] | both["nameless_b"])
    other = (both["n_relevant_a"] != both["n_relevant_b"]) | (named & (both["relevant_a"] != both["relevant_b"]))
    if n_other := int(other.sum()):
        raise ValueError(f"{n_other:,} of {len(both):,} users had other relevant items in a than in b; evaluate both "
                         "on the same held-out rows, such as one table for both, with the same threshold, and with "
                         "unknown_items='miss' if their vocabs differ")
    left, right = (both[[f"{name}_{side}" for name in metrics]].to_numpy() for side in "ab")
    known = ~np.isnan(left - right)
    difference = _mean(left - right)
    low, high = _interval(left - right, level, n, seed)
    flipped = _resampled(left - right, n, seed, signs)
    extreme = np.abs(flipped) >= np.abs(difference) - 1e-12         # equal ones may differ in the last bits
    return pd.DataFrame({"a": _mean(np.where(known, left, np.nan)), "b": _mean(np.where(known, right, np.nan)),
                         "difference": difference, "low": low, "high": high,
                         "p_value": np.where(known.any(0), (1 + extreme.sum(0)) / (1 + n), np.nan),
                         "users": known.sum(0)}, index=metrics)


def _check_alike(a: Question | None, b: Question | None) -> None:
    if a is None or b is None:
        return
    if a.among != b.among:
        raise ValueError("a and b were evaluated among other items; evaluate both with the same `among`")
    if a.exclude != b.exclude:
        raise ValueError(f"a was evaluated with exclude={a.exclude!r}, b with exclude={b.exclude!r}; evaluate both "
                         "with the same")


def _with_question(result: RankingResult) -> pd.DataFrame:
    """The metrics of every user and what identifies the relevant items; ids as objects, since columns of numbers and
    of text would not be merged."""
    asked, table = result.question, result.per_user
    return table.assign(user=table["user"].astype(object), relevant=0 if asked is None else asked.relevant,
                        nameless=True if asked is None else asked.nameless)


def _interval(values: np.ndarray, level: float, n: int, seed: int) -> np.ndarray:
    """(low, high) per metric, shape (2, metrics); resamples in which no user has a metric do not count."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    means = pd.DataFrame(_resampled(values, n, seed, counts))
    return means.quantile([(1 - level) / 2, (1 + level) / 2]).to_numpy()


def _resampled(values: np.ndarray, n: int, seed: int, draw: Draw) -> np.ndarray:
    """(users, metrics) -> (n, metrics): means over users with drawn weights, ignoring NaN."""
    known = ~np.isnan(values)
    return resampled(np.where(known, values, 0), known, n, seed, draw)


def _mean(values: np.ndarray) -> np.ndarray:
    return pd.DataFrame(values).mean().to_numpy()

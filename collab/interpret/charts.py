"""Interactive charts (Altair): histograms that filter on a click, a map of the items, norms of models side by side.

Each returns an `altair` chart: a notebook shows it, and `chart.save("chart.html", inline=True)` writes a page that
needs no network. A click on a bar of the list of genres (or occupations) shows those alone; shift-click takes further
ones; a double click, all again. Needs `pip install altair`; a map, scikit-learn too."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.metadata import split_groups
from ..datasets.explore import item_table, user_table
from ..datasets.rating_set import RatingSet
from ..errors import DataError
from .maps import need

if TYPE_CHECKING:
    import altair as alt

    from .interpretation import CollabInterpretation

GROUPS = {"user": "occupation", "item": "genres"}
PICKED = r"!isDefined(pick.code) || test(regexp('\\|(' + join(pick.code, '|') + ')\\|'), datum.codes)"
COLOUR, PALE = "#4c78a8", "#dddddd"


def chart_counts(ml: RatingSet, by: str = "user", group: str | None = None) -> alt.HConcatChart:
    """How many users (or items) have how many ratings, and which mean, beside the list of their groups to click on.

    `group` is a column of `ml.users` (or `ml.items`) whose values may be joined by "|", by default "occupation" (or
    "genres"), where there is one. Grey bars are all, coloured ones those that were picked. What is drawn is counted
    beforehand, so that the page stays small for any number of ratings.
    Raises DataError for a column that is not there."""
    alt = need("altair")
    if not isinstance(ml, RatingSet):
        raise TypeError(f"expected a RatingSet, such as movielens() gives, got {type(ml).__name__}")
    if by not in GROUPS:
        raise ValueError(f"by={by!r} is neither 'item' nor 'user'")
    table = (user_table if by == "user" else item_table)(ml)
    if group is not None and group not in table:
        raise DataError(f"there is no column {group!r} in ml.{by}s; its columns are {[*table.columns]}")
    column = group or (GROUPS[by] if GROUPS[by] in table else None)
    table = table[table["n_ratings"] > 0]
    codes, groups = encode_groups(table[column] if column else pd.Series("", table.index))
    levels = np.unique(ml.ratings["rating"])
    step = np.diff(levels).min() / 4 if len(levels) > 1 else 1.0        # bars that end where ratings lie
    step *= max(1, np.ceil((levels[-1] - levels[0]) / step / 20))
    lows = levels[0] + step * np.floor((table["mean_rating"] - levels[0]) / step)
    doubling = np.log2(table["n_ratings"]).astype(int)
    pick = column is not None
    charts = [_histogram(alt, np.exp2(doubling), np.exp2(doubling + 1), codes, f"ratings of one {by}", by, "log", pick),
              _histogram(alt, lows, lows + step, codes, f"mean rating of one {by}", by, "linear", pick)]
    return alt.hconcat(*([_group_list(alt, groups, by, column)] if column else []), *charts)


def chart_map(self: CollabInterpretation, method: str = "tsne", by: str = "item", top: int | None = 1000,
              min_ratings: int = 0, seed: int = 0) -> alt.HConcatChart | alt.Chart:
    """The map that `map` gives, to move and zoom: one point an item (or user), larger with more ratings; title, year
    and genres on hover. Where the items' metadata have `genres` (joined by "|"), points are coloured by the rarest
    genre they have, which says most, and a list of genres filters them on click."""
    alt = need("altair")
    table = self.map(method, by, top, min_ratings, seed).astype({"id": str})
    tooltip = [c for c in ("title", "id", "year", "genres", "n_ratings") if c in table]
    colour: Any = alt.value(COLOUR)
    codes = None
    if "genres" in table:
        codes, groups = encode_groups(table["genres"])
        table["genre"] = rarest(table["genres"], groups)
        colour = alt.Color("genre:N", legend=alt.Legend(title="rarest genre"),
                           scale=alt.Scale(scheme="tableau20", domain=[*map(_plain, sorted(set(table["genre"])))]))
        table["codes"] = codes
    places = [alt.Scale(domain=_around(table[c]), zero=False, nice=False) for c in "xy"]
    sizes = alt.Scale(domain=[0, int(table["n_ratings"].max())], range=[15, 250])   # none moves with what is picked
    points = alt.Chart(_values(alt, table), width=620, height=520).mark_circle(opacity=0.75).encode(
        x=alt.X("x:Q", axis=None, scale=places[0]), y=alt.Y("y:Q", axis=None, scale=places[1]),
        size=alt.Size("n_ratings:Q", legend=None, scale=sizes), color=colour,
        tooltip=[alt.Tooltip(c, type="quantitative" if c == "n_ratings" else "nominal") for c in tooltip])
    if codes is None:
        return points.interactive()
    return alt.hconcat(_group_list(alt, groups, by, "genre"), points.transform_filter(PICKED).interactive())


def chart_norms(models: Mapping[str, CollabInterpretation], by: str = "item", min_ratings: int = 1) -> alt.HConcatChart:
    """The length of every embedding over its number of training ratings, one panel a model. A brush that is drawn in
    one panel marks the same ids in all of them. `models` maps a name to an interpretation.

    Raises ValueError for no models, or models that have no id in common."""
    alt = need("altair")
    if not isinstance(models, Mapping) or not models:
        raise ValueError("there are no models to compare; give interpretations by name: {'plain': interp, ...}")
    wide = pd.DataFrame()
    for k, interp in enumerate(models.values()):
        norms = interp.norms(by, min_ratings).set_index("id")
        keep = norms if k == 0 else norms[["norm"]]
        wide = keep.rename(columns={"norm": "norm0"}) if k == 0 else \
            wide.join(keep.rename(columns={"norm": f"norm{k}"}), how="inner")
    if wide.empty:
        raise ValueError(f"the models have no {by} in common with at least {min_ratings} training ratings")
    wide = wide.reset_index().astype({"id": str})
    brush = alt.selection_interval(name="brush", resolve="global")
    tooltip = [c for c in ("title", "id", "n_ratings") if c in wide]
    base = alt.Chart(_values(alt, wide), width=280, height=280).mark_circle(size=25, opacity=0.6).encode(
        color=alt.when(brush).then(alt.value(COLOUR)).otherwise(alt.value(PALE)))
    panels = [base.encode(x=alt.X("n_ratings:Q", scale=alt.Scale(type="log"), title="training ratings"),
                          y=alt.Y(f"norm{k}:Q", title=f"length of the {by}'s embedding"),
                          tooltip=[*(alt.Tooltip(c, type="nominal") for c in tooltip),
                                   alt.Tooltip(f"norm{k}:Q", title="norm", format=".3f")],
                          ).properties(title=_plain(name)) for k, name in enumerate(models)]
    with warnings.catch_warnings():     # of one brush in all panels, which is what is meant
        warnings.filterwarnings("ignore", "Automatically deduplicated", UserWarning)
        return alt.hconcat(*panels).add_params(brush)


# Groups: each row may belong to several, so that it carries their numbers as "|3|17|", which a pattern can find
# whatever characters the names hold.

def encode_groups(column: pd.Series) -> tuple[list[str], pd.DataFrame]:
    """The groups' numbers of every row, and a table of the groups, the largest first: code, group, n."""
    lists = split_groups(column)
    counts = pd.Series([name for names in lists for name in names], dtype=object).value_counts(sort=True)
    groups = pd.DataFrame({"code": range(len(counts)), "group": counts.index.astype(str), "n": counts.to_numpy()})
    number = dict(zip(groups["group"], groups["code"]))
    return ["|" + "".join(f"{number[name]}|" for name in names) for names in lists], groups


def rarest(column: pd.Series, groups: pd.DataFrame) -> list[str]:
    """The rarest group of every row, "none" for a row without any."""
    n = dict(zip(groups["group"], groups["n"]))
    return [min(names, key=n.__getitem__, default="none") for names in split_groups(column)]


def _group_list(alt: Any, groups: pd.DataFrame, by: str, column: str) -> Any:
    title = _plain(column)
    pick = alt.selection_point(name="pick", fields=["code"])
    return alt.Chart(_values(alt, groups), width=110, title=f"{title}: click, shift-click").mark_bar(
        cursor="pointer").encode(
        x=alt.X("n:Q", title=f"{by}s"), y=alt.Y("group:N", sort=[*map(_plain, groups["group"])], title=None),
        color=alt.when(pick).then(alt.value(COLOUR)).otherwise(alt.value(PALE)),
        tooltip=[alt.Tooltip("group:N", title=title), alt.Tooltip("n:Q", title=f"{by}s")]).add_params(pick)


def _histogram(alt: Any, low: Any, high: Any, codes: list[str], title: str, by: str, scale: str, pick: bool) -> Any:
    bars = pd.DataFrame({"low": low, "high": high, "codes": codes}).value_counts().rename("n").reset_index()
    axis = alt.Scale(type="log", nice=False) if scale == "log" else alt.Scale(zero=False, nice=False)
    base = alt.Chart(_values(alt, bars), width=260, height=260).mark_bar().encode(
        x=alt.X("low:Q", title=title, scale=axis, axis=alt.Axis(labelOverlap="greedy")), x2="high:Q",
        y=alt.Y("n:Q", aggregate="sum", title=f"{by}s"), tooltip=[
            alt.Tooltip("low:Q", title="from", format=".4~g"), alt.Tooltip("high:Q", title="to", format=".4~g"),
            alt.Tooltip("n:Q", aggregate="sum", title=f"{by}s")])
    if not pick:
        return base
    return alt.layer(base.encode(color=alt.value(PALE)),
                     base.transform_filter(PICKED).encode(color=alt.value(COLOUR)))


def _around(values: pd.Series) -> list[float]:
    """The values' range and 3% more at each end, where the largest points are whole."""
    low, high = float(values.min()), float(values.max())
    pad = 0.03 * (high - low) or 1.0
    return [low - pad, high + pad]


def _plain(text: str) -> str:
    """Text that cannot end the script it is written into, whoever writes the page: a space of no width after a "<"."""
    return text.replace("<", "<\u200b")


def _values(alt: Any, table: pd.DataFrame) -> Any:
    """The table inside the page; unlike a frame, of any length. Missing values are null."""
    values = table.astype(object).where(table.notna(), None).map(lambda v: _plain(v) if isinstance(v, str) else v)
    return alt.Data(values=values.to_dict("records"))

"""Interactive charts (Altair): histograms that filter on a click, a map of the items, norms of models side by side.

Each returns an `altair` chart: a notebook shows it, and `chart.save("chart.html", inline=True)` writes a page that
needs no network. A click on a row of the list of genres (or occupations) picks it; shift-click adds further ones; a
double click picks all again. What is not picked stays, pale. Needs `pip install altair`; a map, scikit-learn too."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..data.metadata import split_groups
from ..datasets.explore import item_table, user_table
from ..datasets.rating_set import RatingSet
from ..errors import DataError
from ..plotting import BLUE, GREY, HUES, LABEL, PALE, cut
from .maps import need

if TYPE_CHECKING:
    from types import ModuleType

    import altair as alt
    from altair import Chart

    from .interpretation import CollabInterpretation

GROUPS = {"user": "occupation", "item": "genres"}
PICKED = r"!isDefined(pick.code) || test(regexp('\\|(' + join(pick.code, '|') + ')\\|'), datum.codes)"
LISTED = 25                 # groups: the largest; more would fill several screens
BINS = 20                   # of a histogram of mean ratings, at most
HISTOGRAM = 260             # pixels
LETTER = 6.5                # pixels: the width of a letter of an axis
ROW = 18                    # pixels: the height of a row of a list


def chart_counts(ml: RatingSet, by: str = "user", *, group: str | None = None) -> alt.HConcatChart:
    """Draw how many users (or items) have how many ratings, and which mean, beside a list of their groups to click on.

    `group` is a column of `ml.users` (or `ml.items`) whose values may be joined by "|", by default "occupation" (or
    "genres"), where there is one; the list shows its 25 largest values, and says how many it leaves out. Grey bars are
    all, with their axis on the left; coloured ones those that were picked, on an axis of their own on the right. What
    is drawn is counted beforehand, so that the page stays small for any number of ratings.
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
    doubling = np.log2(table["n_ratings"]).astype(int)
    doubled = pd.DataFrame({"low": np.exp2(doubling), "high": np.exp2(doubling + 1), "codes": codes})
    means = _bins(table["mean_rating"], np.unique(ml.ratings["rating"])).assign(codes=codes)
    pick = column is not None
    charts = [_histogram(alt, doubled, f"ratings of one {by}", by, log=True, pick=pick),
              _histogram(alt, means, f"mean rating of one {by}", by, log=False, pick=pick)]
    return alt.hconcat(*([_group_list(alt, groups, by, column)] if column else []), *charts)


def chart_map(self: CollabInterpretation, method: str = "tsne", by: str = "item", *, top: int | None = 1000,
              min_ratings: int = 0, seed: int = 0) -> alt.HConcatChart | alt.Chart:
    """Draw the map that `map` gives, to move and zoom: one point an item (or user), larger with more ratings; the point
    next to the pointer shows title, year and genres. Where the items' metadata have `genres` (joined by "|"), a list of
    genres filters points on click, and they are coloured by the rarest genre they have, which says most: the eight
    that are most frequent so, and the rest in grey as "other"."""
    alt = need("altair")
    table = self.map(method, by, top=top, min_ratings=min_ratings, seed=seed).astype({"id": str})
    tooltip = _about({c: c for c in ("title", "id", "year", "genres", "n_ratings") if c in table})
    places = [alt.Scale(domain=_around(table[c]), zero=False, nice=False) for c in "xy"]
    sizes = alt.Scale(domain=[0, int(table["n_ratings"].max())], range=[15, 250])   # none moves with what is picked
    grouped = "genres" in table
    if grouped:
        table["codes"], groups = encode_groups(table["genres"])
        table["genre"] = few(rarest(table["genres"], groups))
    base = alt.Chart(_values(alt, table)).encode(
        x=alt.X("x:Q", axis=None, scale=places[0]), y=alt.Y("y:Q", axis=None, scale=places[1]),
        size=alt.Size("n_ratings:Q", legend=None, scale=sizes))
    points = _hovered(alt, base.encode(color=_hues(alt, table["genre"]) if grouped else alt.value(BLUE),
                                       tooltip=alt.value(tooltip)), "hover").interactive()
    page = {"width": 620, "height": 520}
    if not grouped:
        return points.properties(**page)
    pale = base.mark_circle(opacity=0.6).encode(color=alt.value(PALE))
    return alt.hconcat(_group_list(alt, groups, by, "genre"),
                       alt.layer(pale, points.transform_filter(PICKED)).properties(**page))


def chart_norms(models: Mapping[str, CollabInterpretation], by: str = "item", *,
                min_ratings: int = 1) -> alt.HConcatChart:
    """Draw the length of every embedding over its number of training ratings, one panel a model, all on one scale. A
    brush that is drawn in one panel marks the same ids in all of them. `models` maps a name to an interpretation.

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
    columns = [f"norm{k}" for k in range(len(models))]
    least, most = int(wide["n_ratings"].min()), int(wide["n_ratings"].max())
    ticks = [10 ** k for k in range(int(np.log10(most)) + 1)]
    x = alt.X("n_ratings:Q", title="training ratings", axis=_axis(alt, ticks), scale=alt.Scale(
        type="log", domain=[0.9 * max(least, 1), 1.1 * most], nice=False))
    longest = alt.Scale(domain=[0, 1.05 * float(wide[columns].to_numpy().max()) or 1.0], nice=False)
    brush = alt.selection_interval(name="brush", resolve="global")
    known = {c: c for c in ("title", "id", "n_ratings") if c in wide}
    base = alt.Chart(_values(alt, wide), width=280, height=280).encode(
        x=x, color=alt.when(brush).then(alt.value(BLUE)).otherwise(alt.value(PALE)), size=alt.value(25))
    panels = [_hovered(alt, base.encode(
        y=alt.Y(f"{column}:Q", title=f"length of the {by}'s embedding", scale=longest),
        tooltip=alt.value(_about(known, norm=column))), f"hover{k}").properties(
            title=_plain(cut(name, 40))) for k, (column, name) in enumerate(zip(columns, models))]
    with warnings.catch_warnings():     # of one brush in all panels, which is what is meant
        warnings.filterwarnings("ignore", "Automatically deduplicated", UserWarning)
        return alt.hconcat(*panels).add_params(brush)


# Groups: a row may belong to several, so it carries their numbers as "|3|17|", which a pattern finds whatever
# characters the names hold.

def encode_groups(column: pd.Series) -> tuple[list[str], pd.DataFrame]:
    """The group numbers of every row, and a table of the groups, the largest first: code, group, n."""
    lists = split_groups(column)
    counts = pd.Series([name for names in lists for name in names], dtype=object).value_counts(sort=True)
    groups = pd.DataFrame({"code": range(len(counts)), "group": counts.index.astype(str), "n": counts.to_numpy()})
    number = dict(zip(groups["group"], groups["code"]))
    return ["|" + "".join(f"{number[name]}|" for name in names) for names in lists], groups


def rarest(column: pd.Series, groups: pd.DataFrame) -> list[str]:
    """The rarest group of every row, "none" for a row without any."""
    n = dict(zip(groups["group"], groups["n"]))
    return [min(names, key=n.__getitem__, default="none") for names in split_groups(column)]


def few(groups: list[str], n: int = len(HUES)) -> list[str]:
    """The `n` most frequent of the groups, and "other" for the rest where there is more than one other."""
    counts = pd.Series(groups, dtype=object).value_counts(sort=True)
    kept = {*counts.index} if len(counts) <= n + 1 else {*counts.index[:n]}
    return [name if name in kept else "other" for name in groups]


def _hues(alt: ModuleType, groups: pd.Series) -> alt.Color:
    """A colour for each group, the last of more than there are hues in grey."""
    names = sorted(set(groups), key=lambda name: (name == "other", name))
    return alt.Color("genre:N", legend=alt.Legend(title="rarest genre"), scale=alt.Scale(
        domain=[*map(_plain, names)], range=[*HUES, GREY] if len(names) > len(HUES) else [*HUES[:len(names)]]))


def _about(columns: Mapping[str, str], **numbers: str) -> dict[str, str]:
    """A tooltip of columns, and of numbers to three digits, by the name to show.

    An expression, since Vega-Lite 6.4 looks for the columns of the point next to the pointer in the wrong place, the
    cell around it, whose datum is the point."""
    parts = [f"'{name}': (datum.datum || datum)['{column}']" for name, column in columns.items()]
    parts += [f"'{name}': format((datum.datum || datum)['{column}'], '.3f')" for name, column in numbers.items()]
    return {"expr": f"{{{', '.join(parts)}}}"}


def _hovered(alt: ModuleType, chart: alt.Chart, name: str) -> alt.Chart:
    """Points of which the one next to the pointer is outlined and shows its tooltip."""
    hover = alt.selection_point(name=name, nearest=True, on="pointerover", clear="pointerout", empty=False)
    outlined = alt.when(hover)
    return chart.mark_circle(opacity=0.75).encode(
        stroke=outlined.then(alt.value("black")).otherwise(alt.value(None)),
        strokeWidth=outlined.then(alt.value(1.5)).otherwise(alt.value(0))).add_params(hover)


def _group_list(alt: ModuleType, groups: pd.DataFrame, by: str, column: str) -> alt.LayerChart:
    """The largest groups as bars; the whole row of one, its name too, is there to click on."""
    title, shown = _plain(column), groups.head(LISTED)
    shown = shown.assign(label=[cut(name, LABEL) for name in shown["group"]])
    left_out = len(groups) - len(shown)
    more = [f"the {len(shown)} largest; {left_out:,} smaller ones are left out"] if left_out else []
    pick = alt.selection_point(name="pick", fields=["code"])
    base = alt.Chart(_values(alt, shown)).encode(
        y=alt.Y("group:N", sort=[*map(_plain, shown["group"])], title=None, scale=alt.Scale(paddingInner=0.15),
                axis=alt.Axis(labelLimit=LETTER * LABEL, labelExpr=f"length(datum.label) > {LABEL} ? "
                              f"slice(datum.label, 0, {LABEL - 1}) + '…' : datum.label", ticks=False)),
        tooltip=[alt.Tooltip("group:N", title=title), alt.Tooltip("n:Q", title=f"{by}s")])
    bars = base.mark_bar().encode(
        x=alt.X("n:Q", title=f"{by}s", axis=_axis(alt, count=3)),
        color=alt.when(pick).then(alt.value(BLUE)).otherwise(alt.value(PALE)))
    names = LETTER * int(shown["label"].str.len().max()) if len(shown) else 0
    rows = base.mark_rect(cursor="pointer", opacity=0).encode(x=alt.value(-names), x2=alt.value(110)).add_params(pick)
    return alt.layer(bars, rows).properties(width=110, height=alt.Step(ROW), title=alt.Title(
        title, subtitle=["click a row; shift-click adds,", "double-click shows all", *more], anchor="start"))


def _bins(means: pd.Series, levels: np.ndarray) -> pd.DataFrame:
    """The low and high end of the bin of each mean, by quarters of a level or coarser; the last one ends with the scale
    and holds the highest mean."""
    lowest, highest = float(levels[0]), float(levels[-1])
    step = float(np.diff(levels).min()) / 4 if len(levels) > 1 else 1.0
    step *= max(1, np.ceil((highest - lowest) / step / BINS))
    last = max(int(np.ceil((highest - lowest) / step - 1e-9)) - 1, 0)
    lows = lowest + step * np.floor((means - lowest) / step + 1e-9).clip(upper=last)
    return pd.DataFrame({"low": lows, "high": np.minimum(lows + step, highest) if highest > lowest else lows + step})


def _histogram(alt: ModuleType, bars: pd.DataFrame, title: str, by: str, *, log: bool,
               pick: bool) -> alt.Chart | alt.LayerChart:
    bars = bars.value_counts().rename("n").reset_index()
    ends = [float(bars["low"].min()), float(bars["high"].max())]
    ticks = [2 ** k for k in range(int(np.log2(ends[0])), int(np.log2(ends[1])) + 1)] if log else None
    scale = alt.Scale(type="log", domain=ends, nice=False) if log else alt.Scale(zero=False, domain=ends, nice=False)

    data = _values(alt, bars)

    def layer(colour: str, counted: str, opacity: float, side: str) -> Chart:
        count = alt.Tooltip("n:Q", aggregate="sum", title=counted)
        return alt.Chart(data, width=HISTOGRAM, height=HISTOGRAM).mark_bar(
            color=colour, opacity=opacity, stroke="white", strokeWidth=0.5).encode(
            x=alt.X("low:Q", title=title, scale=scale, axis=_axis(alt, ticks)), x2="high:Q",
            y=alt.Y("n:Q", aggregate="sum", title=counted, axis=alt.Axis(
                orient=side, grid=side == "left", titleColor=GREY if side == "left" and pick else colour)),
            tooltip=[alt.Tooltip("low:Q", title="from", format=".4~g"),
                     alt.Tooltip("high:Q", title="to", format=".4~g"), count])

    if not pick:
        return layer(BLUE, f"{by}s", 1, "left")
    return alt.layer(layer(PALE, f"all {by}s", 1, "left"),
                     layer(BLUE, f"picked {by}s", 0.6, "right").transform_filter(PICKED)).resolve_scale(y="independent")


def _axis(alt: ModuleType, values: list[int] | None = None, *, count: int | None = None) -> alt.Axis:
    """An axis of plain numbers, of which those that would touch are left out."""
    given = {"values": values} if values else {"tickCount": count} if count else {}
    return alt.Axis(format=",.6~r", labelOverlap="greedy", labelSeparation=8, labelFlush=False, **given)


def _around(values: pd.Series) -> list[float]:
    """The values' range and 3 % more at each end, so that the largest points are not clipped."""
    low, high = float(values.min()), float(values.max())
    pad = 0.03 * (high - low) or 1.0
    return [low - pad, high + pad]


def _plain(text: str) -> str:
    """Text that cannot end the script it stands in, whichever program writes the page: "<" gets a zero-width space."""
    return text.replace("<", "<\u200b")


def _values(alt: ModuleType, table: pd.DataFrame) -> alt.Data:
    """The table as data inside the page; unlike a frame, of any length. Missing values are null."""
    return alt.Data(values=[{name: _plain(v) if isinstance(v, str) else None if pd.isna(v) else v
                             for name, v in row.items()} for row in table.to_dict("records")])

"""The report: a self-contained HTML page about a trained learner."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Hashable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from ..data.batches import TensorBatches
from ..errors import DataError
from ..evaluate import evaluate
from ..evaluate.accuracy import errors_and_remark
from ..evaluate.held_out import NobodyToRank
from ..evaluate.result import said
from ..files import write_bytes
from ..plotting import CURVE, SCATTER
from .curves import panels
from .maps import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .interpretation import CollabInterpretation

K = 10              # recommendations that a ranking is measured by
PANEL = (5.0, 3.2)  # inches: of one of several curves
MIN_RATINGS = 5     # ids with fewer are left out of the components, whose ends they would fill by chance


class Plot(Protocol):
    """Draws on `ax`."""

    def __call__(self, *, ax: Axes) -> Axes: ...


def report(self: CollabInterpretation, path: str | Path, part: TensorBatches | pd.DataFrame | None = None, *,
           users: Sequence[Hashable] | None = None, title: str = "What the model has learned") -> Path:
    """Write one HTML page that opens without a network: the training curves, the error beside two baselines (for a
    model that ranks, its metrics beside the most popular items), both ends of the biases, three principal components,
    an interactive map of the items, and recommendations for `users`.

    `part` are held-out ratings, batches or a table, by default the validation part; without any, and where the model
    has no such part, a sentence says so. `users` are by default those with most, median and fewest ratings.
    Raises ImportError without the charts extra, UnknownId for a user who is not known, OSError where `path` cannot be
    written; the old file, if any, is then left as it was."""
    vl_convert, version = need("vl_convert"), ".".join(need("altair").SCHEMA_VERSION.split(".")[:2])
    held_out = self.data.valid if part is None else self.data.part(part)
    users = _three_users(self) if users is None else list(users)
    for user in users:
        _ = self.data.users[user]       # an unknown user is an error before work starts
    goodness, measure = ("Ranking", _ranking) if self.learn.ranks else ("Error", _error)
    sections = {"Training": lambda: _training(self), goodness: lambda: measure(self, held_out),
                "Biases": lambda: _biases(self), "Principal components": lambda: _components(self),
                "Map of the items": lambda: _map(self),
                "Recommendations": lambda: "".join(_recommendations(self, user) for user in users)}
    body = "".join(f"<section><h2>{name}</h2>{_or_sentence(make)}</section>" for name, make in sections.items())
    bundle = vl_convert.javascript_bundle(vl_version=version)
    style = files(__package__).joinpath("report.css").read_text()
    page = ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(title)}</title>'
            f'<link rel="icon" href="data:,"><style>{style}</style><script>{_without_ends(bundle)}</script></head>'
            f"<body><h1>{escape(title)}</h1><p>{_facts(self)}</p>{body}</body></html>\n")
    return write_bytes(Path(path), page.encode())


def _facts(self: CollabInterpretation) -> str:
    data, model = self.data, self.learn.collab_model
    factors = model.config.get("n_factors")
    source = self.learn.notes.get("source")
    n = len(self.learn.recorder.rows)
    how = f"solved in {n} sweep{'s' * (n != 1)}" if model.solved else f"trained for {n} epochs"
    return (f"{model.kind}{f' with {factors} factors' if factors else ''}, {how} on {data.train.n:,} "
            f"ratings of {data.n_items - 1:,} items by {data.n_users - 1:,} users"
            f"{escape(f' from {source}') if source else ''}.")


def _training(self: CollabInterpretation) -> str:
    recorder = self.learn.recorder
    if not len(recorder.losses):
        raise DataError("the learner has no history of training")
    if self.learn.ranks or self.learn.collab_model.solved:
        return f"<div class=row>{''.join(_picture(draw, PANEL, 'panel') for draw in panels(self.learn))}</div>"
    metrics = set(recorder.frame()) - {"epoch", "train_loss", "valid_loss", "seconds", *recorder.parts}
    plots = [recorder.plot_loss, *([recorder.plot_metrics] if metrics else [])]
    return f"<div class=row>{''.join(map(_picture, plots))}</div>"


def _error(self: CollabInterpretation, part: TensorBatches | None) -> str:
    if part is None:
        raise DataError("no ratings were held out, or they are not known any more, so there is no error to report")
    table, remark = errors_and_remark(self.learn, part)
    return (f"<p>On {part.n:,} held-out ratings, in units of the rating.</p>{_table(table, 4)}"
            f"{'' if remark is None else f'<p>{escape(remark)}.</p>'}")


def _ranking(self: CollabInterpretation, part: TensorBatches | None) -> str:
    if part is None:
        raise DataError("no ratings were held out, or they are not known any more, so there is no ranking to report")
    try:
        result = evaluate(self.learn, part, K)
    except NobodyToRank as nobody:
        raise DataError(f"there is no ranking to report: {nobody.why}") from nobody
    beside = result.baseline
    columns = {r.name: r.summary.to_numpy() for r in (result, beside) if r is not None}
    table = pd.DataFrame({"metric": result.summary.index, **columns})
    return (f"<p>On {part.n:,} held-out ratings: the first {K} recommendations to each of {len(result.per_user):,} "
            f"users, beside the most popular items. Left out: {said(result.left_out)}.</p>{_table(table, 4)}")


def _biases(self: CollabInterpretation) -> str:
    ends = [self.biases("item", 10, largest) for largest in (True, False)]
    named = "".join(f"<div><h4>{name}</h4>{_table(end)}</div>" for name, end in zip(("Largest", "Smallest"), ends))
    what = "chosen more often, and less often, than tastes" if self.learn.ranks else \
        "liked more, and less, than the tastes of those who rated it"
    return (f"<p>What is {what} explain.</p>"
            f"<div class=row>{named}</div>")


def _components(self: CollabInterpretation) -> str:
    n = min(3, self.learn.weight().shape[1])
    second = int(np.sort(self._counts("item"))[-2:][0])     # so that in small data two items are left at least
    pca = self.pca(n, min_ratings=min(MIN_RATINGS, second))
    blocks = []
    for k, ratio in enumerate(pca.explained_variance_ratio):
        blocks.append(f"<div><h3>Component {k}: {ratio:.1%} of the variance</h3>{_table(pca.table(k))}</div>")
    return (f"<p>Both ends of the strongest directions of the {len(pca.scores):,} most rated items.</p>"
            f"<div class=row>{''.join(blocks)}</div>{_picture(pca.plot, SCATTER, 'scatter') if n > 1 else ''}")


def _map(self: CollabInterpretation) -> str:
    spec = json.dumps(self.chart_map().to_dict(), default=str).replace("<", "\\u003c")
    genres = ("; click a genre, shift-click further ones, double-click for all"
              if "genres" in self.data.item_table else "")
    return (f"<p>Neighbours have similar factors. Hover for names, drag to move, scroll to zoom{genres}.</p>"
            f'<div id="map"></div><script>vegaEmbed("#map", {spec}, {{actions: false}})'
            ".then(result => { window.view = result.view; });</script>")


def _recommendations(self: CollabInterpretation, user: Hashable) -> str:
    rated, found = self.learn.rated(user), self.learn.recommend(user, n=8, unknown="error")
    liked, part = ("Chosen", "train") if self.data.implicit else ("Rated highest", "known")
    chosen = self.learn.rated(user, n=8, part=part)
    return (f"<h3>User {escape(str(user))}, {len(rated):,} known ratings</h3><div class=row><div><h4>{liked}</h4>"
            f"{_table(chosen)}</div><div><h4>Recommended, of what is not among them</h4>{_table(found)}</div></div>")


def _three_users(self: CollabInterpretation) -> list[Hashable]:
    counts = self._counts("user")
    order = np.argsort(-counts, kind="stable")
    chosen = list(dict.fromkeys(order[[0, len(order) // 2, -1]].tolist()))      # there may be fewer than three
    return list(self.data.users.decode(np.array(chosen) + 1))


def _or_sentence(make: Callable[[], str]) -> str:
    """The section, or a sentence where the model or the data lack what it shows."""
    try:
        return make()
    except DataError as error:
        return f"<p class=missing>{escape(str(error))}.</p>"


def _table(frame: pd.DataFrame, decimals: int = 3) -> str:
    if frame.empty:
        return "<p class=missing>There is nothing to list.</p>"
    shown = pd.DataFrame({name: [f"{v:.{decimals}f}" if isinstance(v, float) else str(v) for v in column]
                          for name, column in frame.items()})
    page = shown.to_html(index=False, border=0, justify="left")
    numeric = [k for k, column in enumerate(frame, start=1) if pd.api.types.is_numeric_dtype(frame[column])]
    return page.replace("dataframe", " ".join(["dataframe", *(f"n{k}" for k in numeric)]), 1)


def _picture(plot: Plot, size: tuple[float, float] = CURVE, kind: str = "curve") -> str:
    """The picture that `plot` draws, as an image inside the page, `size` in inches."""
    import matplotlib as mpl
    import matplotlib.style as mpl_style
    from matplotlib.figure import Figure
    with mpl_style.context("default"), mpl.rc_context({"svg.hashsalt": "collab"}):      # one page, whatever the style
        figure, drawn = Figure(figsize=size, layout="constrained"), io.BytesIO()
        plot(ax=figure.subplots())
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return f'<img alt="" class={kind} src="data:image/svg+xml;base64,{base64.b64encode(drawn.getvalue()).decode()}">'


def _without_ends(script: str) -> str:
    """The script without text that would end its HTML element."""
    return re.sub(r"</(script)", r"<\\/\1", script, flags=re.IGNORECASE).replace("<!--", "<\\!--")

"""The report: a self-contained HTML page about a trained learner."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..data.batches import TensorBatches
from ..errors import DataError, counted
from ..evaluate import compare, evaluate
from ..evaluate.accuracy import errors_and_remark
from ..evaluate.evaluation import ACCURACY
from ..evaluate.held_out import NobodyToRank
from ..evaluate.result import RankingResult, said
from ..files import write_bytes
from ..learner.evidence import faint
from ..models.base import Unsupported
from ..models.ensemble import Ensemble
from .calibration import has_levels
from .coverage import coverage_in_words
from .curves import panels
from .maps import need
from .report_page import packed, page, row, table
from .report_pictures import PANEL, Pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .interpretation import CollabInterpretation

K = 10              # recommendations that a ranking is measured by
DRAWS = 2000        # resamples of the users
INTERVAL = 0.8      # the probability of the intervals of recommendations
CHANCE = 0.05       # p-value from which on a difference may be chance
MIN_RATINGS = 5     # ids with fewer are left out of the components, whose ends they would fill by chance
PAGES = (".html", ".htm")
ALIKE, NEAREST = 4, 6       # items whose nearest are listed, and how many


def report(self: CollabInterpretation, path: str | Path, part: TensorBatches | pd.DataFrame | None = None, *,
           users: Sequence[Hashable] | None = None, title: str = "What the model has learned") -> Path:
    """Write one HTML page that opens without a network: the error beside two baselines (for a model that ranks, its
    metrics beside the most popular items, with intervals), the training curves, recommendations for `users`, similar
    items, an interactive map of the items, both ends of the biases, and three principal components. What the model
    lacks is listed at the end. Its tables can be copied as CSV; it follows the reader's light or dark mode.

    `part` are held-out ratings, batches or a table, by default the validation part; without any, and where the model
    has no such part, a sentence says so. `users` are by default those with most, median and fewest ratings.
    Raises DataError for another ending than .html or .htm, ImportError without the charts extra, UnknownId for a user
    who is not known, OSError where `path` cannot be written; the old file, if any, is then left as it was."""
    check_ending(path)
    vl_convert, version = need("vl_convert"), ".".join(need("altair").SCHEMA_VERSION.split(".")[:2])
    held_out = self.data.valid if part is None else self.data.part(part)
    users = _three_users(self) if users is None else list(users)
    for user in users:
        _ = self.data.users[user]       # an unknown user is an error before work starts
    made = Sections(self, held_out, users)
    sections = made.all()
    bundle = vl_convert.javascript_bundle(vl_version=version) if made.has_map else None
    return write_bytes(Path(path), page(title, _facts(self), made.tiles, sections, bundle).encode())


def check_ending(path: str | Path) -> None:
    """Raise DataError for a file that by its name is no page: a PDF with HTML in it opens nowhere."""
    if (ending := Path(path).suffix).lower() not in PAGES:
        raise DataError(f"{path}: a report is a page of HTML, and {f'ends in {ending}' if ending else 'has no ending'} "
                        "here; take a name that ends in .html")


class Sections:
    """The sections of a report, and the figures at its head."""

    def __init__(self, interp: CollabInterpretation, part: TensorBatches | None, users: Sequence[Hashable]):
        self.interp, self.learn, self.data, self.part, self.users = interp, interp.learn, interp.data, part, users
        self.pictures = Pictures()
        self.figures: dict[str, tuple[str, str]] = {}       # how good the model is
        self.has_map = False

    @property
    def tiles(self) -> dict[str, tuple[str, str]]:
        data = self.data
        per = data.train.n / max(data.n_users - 1, 1)
        name = "training choices" if data.implicit else "training ratings"
        return {**self.figures, name: (f"{data.train.n:,}", f"{per:,.0f} a user"),
                "users": (f"{data.n_users - 1:,}", ""), "items": (f"{data.n_items - 1:,}", "")}

    @property
    def doubt(self) -> str:
        """A further sentence where factors may be noise."""
        said = faint(self.learn.recipe)
        return said and escape(f" {said[0].upper()}{said[1:]}.")

    def all(self) -> dict[str, str]:
        """By heading, HTML. What the model lacks is in the last one; what the data lack is said in its place."""
        ranks, model = self.learn.ranks, self.learn.collab_model
        parts: dict[str, Callable[[], str]] = {
            "Ranking" if ranks else "Error": self.ranking if ranks else self.error,
            **({"Calibration": self.calibration} if self.part is not None and (
                has_levels(model) or model.gives_intervals) else {}),
            "Training": self.training, "Recommendations": self.recommendations, "Similar items": self.similar,
            "Map of the items": self.map, "Biases": self.biases, "Principal components": self.components}
        made: dict[str, str] = {}
        lacking: dict[str, list[str]] = {}      # sections by the reason why they are not here
        for name, make in parts.items():
            try:
                made[name] = make()
            except Unsupported as error:
                lacking.setdefault(str(error), []).append(name)
            except DataError as error:
                made[name] = f"<p class=missing>{escape(str(error))}.</p>"
        if lacking:
            made["Not on this page"] = "<ul class=missing>" + "".join(
                f"<li>{escape(', '.join(names))}: {escape(why)}.</li>" for why, names in lacking.items()) + "</ul>"
        return made

    def error(self) -> str:
        part = self.part
        if part is None:
            raise DataError("no ratings were held out, or they are not known any more, so there is no error to report")
        frame, remark = errors_and_remark(self.learn, part)
        rmse = frame.set_index("model")["rmse"]
        self.figures["RMSE"] = f"{rmse.iloc[-1]:.4f}", f"mean and biases alone: {rmse.loc['mean and biases']:.4f}"
        boxes = self.pictures.draw(partial(self.interp.plot_predictions, part), PANEL, alt=(
            f"Boxes of the predictions for {part.n:,} ratings, one for each true rating, beside the diagonal on which "
            "they would be equal."))
        return (f"<p>On {part.n:,} held-out ratings, in units of the rating.</p>"
                f"{'' if remark is None else f'<p>{escape(remark)}.</p>'}"
                + row([table(frame, "Error on held-out ratings", decimals=4, own=len(frame) - 1), boxes]))

    def ranking(self) -> str:
        part = self.part
        if part is None:
            raise DataError("no ratings were held out, or they are not known any more, so there is no ranking to "
                            "report")
        try:
            result = evaluate(self.learn, part, K, metrics=(*ACCURACY, "coverage", "novelty"))
        except NobodyToRank as nobody:
            raise DataError(f"there is no ranking to report: {nobody.why}") from nobody
        beside = result.baseline
        assert beside is not None
        frame, ndcg = _beside(result, beside), result.summary["ndcg"]
        self.figures[f"NDCG@{K}"] = f"{ndcg:.4f}", f"the most popular items: {beside.summary['ndcg']:.4f}"
        test = compare(result, beside, DRAWS).loc["ndcg"]
        better = "a higher" if test["difference"] > 0 else "no higher"
        chance = (", by a difference that may be chance" if test["p_value"] >= CHANCE else
                  ", by more than chance" if test["difference"] > 0 else "")
        return (f"<p>On {part.n:,} held-out {'choices' if self.data.implicit else 'ratings'}: the first {K} "
                f"recommendations to each of {len(result.per_user):,} users, beside the most popular items. "
                f"{escape(result.name)} has {better} NDCG than these{chance} (p = {test['p_value']:.2g}, a paired "
                f"permutation test over users). Left out: {said(result.left_out)}.</p>"
                + table(frame, f"Ranking of held-out items, top {K}", decimals=4)
                + "<p class=note>Low and high: the 95 % bootstrap interval over users of the model's metric, and of "
                "the difference between the two.</p>")

    def calibration(self) -> str:
        interp, part, model = self.interp, self.part, self.learn.collab_model
        text, pictures = "", []
        if has_levels(model):
            text, picture = self.reliability()
            pictures.append(picture)
        if model.gives_intervals:
            text += f"<p>{escape(coverage_in_words(interp, part))} Below the diagonal the model is too sure.</p>"
            pictures.append(self.pictures.draw(partial(interp.plot_coverage, part), (4.6, 4.2), "panel"))
        return text + (row(pictures) if len(pictures) > 1 else pictures[0])

    def reliability(self) -> tuple[str, str]:
        """A sentence on probabilities, and their picture."""
        interp, part = self.interp, self.part
        error = interp.calibration(part=part).attrs["ece"]

        def draw(*, ax: Axes) -> Axes:
            ax.set_title("Observed share by predicted probability")     # the error is in the sentence above
            return interp.plot_calibration(part=part, ax=ax)
        return (f"<p>Whether ratings that get a probability of 70 % come in 70 % of cases: the expected calibration "
                f"error is {error:.3f}.</p>", self.pictures.draw(
                    draw, (4.6, 4.2), "panel lit", alt="Observed share by predicted "
                    "probability, a line for each rating, beside the diagonal of a calibrated model; calibration "
                    f"error {error:.3f}."))

    def training(self) -> str:
        recorder, learn = self.learn.recorder, self.learn
        if not len(recorder.losses):
            raise DataError("the learner has no history of training")
        draw = partial(self.pictures.draw, size=PANEL)
        if learn.ranks or learn.collab_model.solved:
            return row([draw(panel) for panel in panels(learn)])
        metrics = set(recorder.frame()) - {"epoch", "train_loss", "valid_loss", "seconds", *recorder.parts}
        return row([draw(recorder.plot_loss), *([draw(recorder.plot_metrics)] if metrics else [])])

    def recommendations(self) -> str:
        liked, part = ("Chosen", "train") if self.data.implicit else ("Rated highest", "known")
        text = ""
        share = INTERVAL if self.learn.collab_model.gives_intervals else None
        for user in self.users:
            rated = self.learn.rated(user)
            found = self.learn.recommend(user, n=8, unknown="error", interval=share)
            name, did = f"user {user}", "chosen" if self.data.implicit else "rated"
            text += (f"<h3>User {escape(str(user))}, {counted(len(rated), 'known rating')}</h3>"
                     + row([table(self.learn.rated(user, n=8, part=part), f"{liked} by {name}"),
                            table(found, f"Recommended to {name}, without what was {did} already")]))
        if share is not None:
            text += f"<p class=note>Low and high: the rating lies between them with a probability of {share:.0%}.</p>"
        return text

    def similar(self) -> str:
        order = self.interp._most_rated("item", None, 0)[:ALIKE]
        labels = self.interp._labels("item", order)
        names = labels["title"].where(labels["title"] != "", labels["id"].astype(str)) if "title" in labels else \
            labels["id"].astype(str)
        blocks = [table(self.learn.similar_items(id, n=NEAREST), f"Nearest to {name}")
                  for id, name in zip(labels["id"].tolist(), names)]
        return f"<p>The items nearest to the {len(blocks)} most rated ones.{self.doubt}</p>" + row(blocks, "four")

    def map(self) -> str:
        spec = json.dumps(self.interp.chart_map().to_dict(), default=str)
        genres = ("; click a genre, shift-click further ones, double-click for all"
                  if "genres" in self.data.item_table else "")
        self.has_map = True
        return (f"<p>Neighbours have similar factors. Hover for names, drag to move, scroll to zoom{genres}."
                f"{self.doubt}</p>"
                '<div class="chart"><div id="map" role="img" aria-label="A map of the most rated items: neighbours '
                'have similar factors. '
                'The tables of similar items say the same in words."></div></div>'
                + packed(spec, "spec") +
                "<noscript><p class=note>The map needs JavaScript.</p></noscript>")

    def biases(self) -> str:
        what = "chosen more often, and less often, than tastes" if self.learn.ranks else \
            "liked more, and less, than the tastes of those who rated it"
        ends = [self.interp.biases("item", 10, largest) for largest in (True, False)]
        return f"<p>What is {what} explain.</p>" + row(
            [table(end, name) for name, end in zip(("Largest biases", "Smallest biases"), ends)])

    def components(self) -> str:
        n = min(3, self.learn.weight().shape[1])
        second = int(np.sort(self.interp._counts("item"))[-2:][0])     # so that in small data two items are left
        pca = self.interp.pca(n, min_ratings=min(MIN_RATINGS, second))
        blocks = [table(pca.table(k), f"Component {k}: {ratio:.1%} of the variance")
                  for k, ratio in enumerate(pca.explained_variance_ratio)]
        return (f"<p>Both ends of the strongest directions of the {len(pca.scores):,} most rated items."
                f"{self.doubt}</p>"
                + row(blocks) + (self.pictures.twice(pca.plot) if n > 1 else ""))


def _beside(result: RankingResult, popular: RankingResult) -> pd.DataFrame:
    """Each metric of the model and of the most popular items, the interval of the first, the difference and its
    interval; a metric of all users together has no interval."""
    own, other = result.interval(n=DRAWS), compare(result, popular, DRAWS)
    frame = pd.DataFrame({"metric": result.summary.index, result.name: result.summary.to_numpy(),
                          popular.name: popular.summary.to_numpy()}).set_index("metric")
    frame = frame.assign(low=own["low"], high=own["high"], difference=frame[result.name] - frame[popular.name])
    frame = frame.join(other[["low", "high"]].rename(columns={"low": "its low", "high": "its high"}))
    return frame.reset_index()


def _facts(self: CollabInterpretation) -> str:
    data, model = self.data, self.learn.collab_model
    factors = model.config.get("n_factors")
    source = self.learn.notes.get("source")
    n = len(self.learn.recorder.rows)
    how = (f"solved in {n} sweep{'s' * (n != 1)} on" if model.solved and n else
           f"trained for {n} epoch{'s' * (n != 1)} on" if n else "without a record of its training, over")
    made = f" of {', '.join(part.kind for part in model.parts)}" if isinstance(model, Ensemble) else ""
    return (f"{model.kind}{made}{f' with {factors} factors' if factors else ''}, {how} {data.train.n:,} "
            f"{'choices' if data.implicit else 'ratings'} of {data.n_items - 1:,} items by {data.n_users - 1:,} users"
            f"{escape(f' from {source}') if source else ''}.")


def _three_users(self: CollabInterpretation) -> list[Hashable]:
    counts = self._counts("user")
    order = np.argsort(-counts, kind="stable")
    chosen = list(dict.fromkeys(order[[0, len(order) // 2, -1]].tolist()))      # there may be fewer than three
    return list(self.data.users.decode(np.array(chosen) + 1))

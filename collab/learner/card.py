"""The model card: a page of Markdown beside an export, of what is known of the model, and nothing else.

It begins with the front matter that the Hugging Face hub reads (library, tags, results), and ends with a checksum, by
which a card that was written here, and not changed since, is known and may be replaced."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from ..errors import counted, they, warn
from ..evaluate.result import RankingResult, said
from ..files import write_bytes
from ..models.ensemble import Ensemble
from ..train.inspection import Text
from ..version import __version__
from .facts import facts
from .front_matter import front_matter
from .settings import settings_of

if TYPE_CHECKING:
    from .collab_learner import CollabLearner

Results = pd.DataFrame | RankingResult
FEW = 5             # training ratings of an item, below which little is known of it
NOT_SETTINGS = ("model", "n_train", "n_valid", "n_users", "n_items", "implicit", "threshold", "source", "split",
                "valid_pct", "device", "batches_per_epoch")
PARTS = {"valid": "validation", "test": "test"}
TRACE = re.compile(r"<!-- Written by collab, [^>]*; sha256 ([0-9a-f]{64}) -->\n\Z")


def card(self: CollabLearner, results: Results | None = None, *, notes: Mapping[str, Any] | None = None,
         part: str | None = None, file: str | Path = "model.safetensors") -> Text:
    """The card of this learner, as Markdown: data, split, settings, results beside baselines, how to load it, limits.

    `results` are figures that were measured already: the table that `interp.errors()` gives, or the result of
    `evaluate(learn)`. Without any, the card has what the last epoch of training recorded on the validation part, if
    anything. `part` is the part that `results` are of, "valid" or "test". `notes` are added to the learner's own
    (source, split, ...), and `file` is the name of its file. The same learner with the same results gives the same
    text. Raises ValueError for another part."""
    if part not in (None, *PARTS):
        raise ValueError(f"part {part!r} is neither 'valid' nor 'test'")
    notes, file = {**self.notes, **(notes or {})}, Path(file).name
    source = _source(notes)
    task, figures, table = _results(self, results, part)
    model = self.collab_model.kind
    index: dict[str, Any] = {"library_name": "collab", "tags": [
        "recommender-system", "collaborative-filtering", "ranking" if self.ranks else "rating-prediction", model]}
    of = "valid" if results is None else part
    split = {} if of is None else {"split": PARTS[of]}
    if figures:
        index["model-index"] = [{"name": Path(file).stem, "results": [{
            "task": {"type": "other", "name": task},
            "dataset": {"type": source or "unknown", "name": source or "not recorded", **split},
            "metrics": [{"type": name, "name": _metric(name), "value": value} for name, value in figures.items()]}]}]
    sections = {"Data": _data(self, source), "Split": _split(self, notes), "Settings": _settings(self),
                "Results": table, "How to load": _loading(self, file), "Limits": _limits(self, notes)}
    body = "".join(f"\n## {name}\n\n{text}\n" for name, text in sections.items())
    title = _plain(model) + (f" on {_plain(source)}" if source else "")
    text = f"{front_matter(index)}\n# {title}\n\n{_what(self)}\n{body}\n"
    text = text.encode(errors="replace").decode()       # names of files may be no text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Text(f"{text}<!-- Written by collab, which replaces this file unless it was changed; sha256 {digest} -->\n")


def card_path(path: str | Path) -> Path:
    """Where the card of an export lies: model.md beside model.safetensors."""
    path = Path(path)
    return path.with_suffix(".md") if path.suffix == ".safetensors" else path.with_name(path.name + ".md")


def write_card(path: Path, text: str) -> Path | None:
    """Write a card whole or not at all. A file that was not written as a card, or was changed since, is left as it is,
    with a CollabWarning, and None is returned."""
    if path.exists() and not _is_ours(path):
        warn(f"{path} was not written by collab, or was changed since, and is left as it is, so that this model has no "
             "card; move that file away, or leave the card out with card=False")
        return None
    return write_bytes(path, text.encode(errors="replace"))


def remove_card(path: Path) -> None:
    """Remove a card that was written here and not changed since; any other file is left."""
    if _is_ours(path):
        path.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return False
    found = TRACE.search(text)
    return found is not None and hashlib.sha256(text[:found.start()].encode()).hexdigest() == found[1]


# Sections ---------------------------------------------------------------------------------------------------------

def _what(learn: CollabLearner) -> str:
    model, n = learn.collab_model, learn.data.train.n
    factors = model.config.get("n_factors")
    rounds = len(learn.recorder.rows)
    what = "ranks items for a user" if learn.ranks else "predicts what a user would rate an item"
    made = f" of {_members(learn)}" if isinstance(learn.model, Ensemble) else ""
    how = ("No training of it is recorded." if not rounds else f"It was solved in {rounds} sweep{'s' * (rounds != 1)}."
           if model.solved else f"It was trained for {rounds} epoch{'s' * (rounds != 1)}.")
    return (f"`{model.kind}`{made}{f' with {factors} factors' if factors else ''} {what}, learned from {n:,} "
            f"{'choices' if learn.data.implicit else 'ratings'}. {how}")


def _members(learn: CollabLearner) -> str:
    return ", ".join(_code(part.kind) for part in learn.model.parts) if isinstance(learn.model, Ensemble) else ""


def _data(learn: CollabLearner, source: str | None) -> str:
    data = learn.data
    name = "choices" if data.implicit else "ratings"
    rows: dict[str, object] = {"source": _code(source) if source else "not recorded",
                               f"training {name}": f"{data.train.n:,}", "users": f"{data.n_users - 1:,}",
                               "items": f"{data.n_items - 1:,}"}
    if data.implicit:
        rows["what counts"] = ("every row" if data.threshold is None else f"rows rated above {data.threshold:g}")
    else:
        scale = f"{data.scale[0]:g} to {data.scale[1]:g}, " if data.scale else ""
        rows["ratings"] = f"{scale}mean {data.mean:.4g}"
    rows["columns"] = ", ".join(f"{role} = {_code(column)}" for role, column in data.schema.roles().items())
    rows["titles of items"] = "no" if data.title_name is None else "yes"
    return _table(["", ""], rows.items())


def _split(learn: CollabLearner, notes: Mapping[str, Any]) -> str:
    data, test = learn.data, notes.get("test")
    name = "choices" if data.implicit else "ratings"
    loaded = len(data.aside.joined()[2]) if data.aside.is_of_file else 0        # whose parts are not told apart
    n, n_test = (0 if part is None else part.n for part in (data.valid, data.test))
    has_test = bool(n_test) or test is not None
    split, pct, seed = (notes.get(key) for key in ("split", "valid_pct", "seed"))
    if loaded and has_test and not n and pct == 0:
        loaded, n_test = 0, loaded
    how = "" if split is None else f" by {_code(split)}"
    if how and not re.fullmatch(r"last|u[1-5]", str(split)):
        first = has_test and not isinstance(test, str)
        how += "" if pct is None else f", {float(pct):.4g} of {'what the test part left' if first else 'all'}"
        how += "" if seed is None or split == "time" else f", seed {seed}"
    unknown = " How they were chosen is not recorded." if split is None else ""
    share = (f", those of {_code(_last(test))}," if isinstance(test, str) else
             f", {test:.4g} of all," if isinstance(test, float) else "")
    if not n and loaded:
        parts = ", in a validation part and a test part" if has_test else ""
        return f"{loaded:,} {name} were held out{parts}{how}.{unknown}"
    if not n and n_test:
        return f"{n_test:,} {name}{share} were held out as a test part, and none for validation."
    if not n:
        return "Nothing was held out."
    own = f"{n:,} {name} were held out{how}.{unknown}"
    if not n_test:
        return own
    chosen = (" are a test part." if isinstance(test, str) else " were held out before as a test part." if share else
              " are a test part; how they were chosen is not recorded.")
    return f"{own} {n_test:,} further {name}{share}{chosen}"


def _settings(learn: CollabLearner) -> str:
    idle = () if learn.recorder.rows else ("optimizer", "lr", "wd", "loss", "bs")       # of training there was none
    known = {name: value for name, value in facts(learn).items() if name not in (*NOT_SETTINGS, *idle)}
    rows: dict[str, object] = {_code(name): _code(_value(value)) for name, value in known.items() if value is not None}
    rows["versions"] = f"collab {__version__}, torch {torch.__version__.partition('+')[0]}"
    return (f"{_plain(learn.recipe)}\n\n" if learn.recipe else "") + _table(["setting", "value"], rows.items())


def _results(learn: CollabLearner, results: Results | None, part: str | None) -> tuple[str, dict[str, float], str]:
    """The task, the model's figures by metric, as they are printed, and the section."""
    of = "" if part is None else PARTS[part]
    if isinstance(results, RankingResult):
        columns = [r for r in (results, results.baseline) if r is not None]
        at = f"@{results.k}" if not isinstance(results.k, tuple) else ""
        names = {name: name if name in ("auc", "coverage") or "@" in str(name) else f"{name}{at}"
                 for name in results.summary.index}
        table = _table(["metric", *(_code(r.name) for r in columns)],
                       [[names[m], *(_figure(r.summary[m]) for r in columns)] for m in names], right=True)
        own = {names[m]: results.summary[m] for m in names}
        beside = ", beside the most popular items" if results.baseline is not None else ""
        return "Recommendation", _finite(own), (
            f"Ranking of all items for each of {len(results.per_user):,} users by what was held out"
            f"{of and f' in the {of} part'}{beside}.\n\n{table}\n\nLeft out: {said(results.left_out)}.")
    if isinstance(results, pd.DataFrame):
        metrics = [str(name) for name in results if name != "model"]
        table = _table(["model", *map(_metric, metrics)],
                       [[_code(row["model"]), *(_figure(row[m]) for m in metrics)]
                        for row in results.to_dict("records")], right=True)
        n = results.attrs.get("n")
        return "Rating prediction", _finite({m: results.iloc[-1][m] for m in metrics}), (
            f"Error on {of and 'the '}{f'{n:,} ' if n else ''}held-out ratings{of and f' of the {of} part'}, in units "
            f"of the rating, beside two baselines.\n\n{table}")
    rows, k = learn.recorder.rows, learn.recorder.epoch_of_weights
    if rows and k is None:
        return "", {}, "None were measured: the weights changed after the last epoch that was recorded."
    row = {} if k is None else rows[k]
    left_out = {"epoch", "train_loss", "seconds", *learn.recorder.parts}
    own = {name: value for name, value in row.items() if name not in left_out}
    if not own:
        return "", {}, "None were measured."
    table = _table(["metric", "value"], [[_code(name), _figure(value)] for name, value in own.items()], right=True)
    unit = "sweep" if learn.collab_model.solved else "epoch"
    when = (f"the last {unit}" if row is rows[-1] else
            f"{unit} {row['epoch'] + 1:.0f} of {len(rows)}, whose weights were put back")
    return ("Recommendation" if learn.ranks else "Rating prediction",
            _finite({name: value for name, value in own.items() if name != "valid_loss"}),
            f"On the validation part after {when}; baselines were not measured.\n\n{table}")


def _loading(learn: CollabLearner, file: str) -> str:
    plain = learn.collab_model.stored_config() is not None
    model = "" if plain else ", model=..."
    own = "" if plain else (f"\n\n{_code(learn.collab_model.kind)} is not a class that the file can name: build the "
                            "model with the same arguments, and pass it.")
    return (f"```python\nfrom collab import load_learner          # pip install collab-torch\n\n"
            f"learn = load_learner({file!r}{model})\n"
            f"user = next(iter(learn.data.users))      # or any other user's id\nlearn.recommend(user, n=10)\n```{own}")


def _limits(learn: CollabLearner, notes: Mapping[str, Any]) -> str:
    data = learn.data
    counts = data.counts()[1:]
    few = int((counts < FEW).sum())
    lost = settings_of(learn)["lost"]
    lines = [
        f"It knows {data.n_users - 1:,} users and {data.n_items - 1:,} items; any other is scored as the average one.",
        f"{counted(few, 'item')} {they(few, 'has', 'have')} fewer than {FEW} training "
        f"{'choices' if data.implicit else 'ratings'}: little is known of {they(few, 'it', 'them')}.",
        f"{_held_out(notes)}.", "How results differ from seed to seed is not recorded.",
        "The file holds the ratings that it was trained on, and those held out: share it as you would share these. "
        "Under which terms they may be used is not recorded."]
    if lost:
        lines.append(f"The file does not hold {_plain(', '.join(lost))}.")
    return "\n".join(f"- {line}" for line in lines)


def _held_out(notes: Mapping[str, Any]) -> str:
    """Of what was held out: where it comes from, and what was chosen by it."""
    test, tuned = notes.get("test"), notes.get("tuned")
    origin = ("The validation part comes from the same table as the training part, the test part from another"
              if isinstance(test, str) else "What was held out comes from the same table as the training part")
    if not isinstance(tuned, Mapping):
        return f"{origin}; whether settings were chosen by it is not recorded"
    part = PARTS["valid" if test is None else "test"]
    n = tuned.get("trials", 0)
    return (f"{origin}. {counted(n, 'trial')} of other settings {they(n, 'was', 'were')} compared by "
            f"{_code(tuned.get('metric'))} on a part of the training ratings; whether the best of them replace the "
            f"model's own was decided on the {part} part")


# Markdown ---------------------------------------------------------------------------------------------------------

def _source(notes: Mapping[str, Any]) -> str | None:
    """The name of the data; of a path the last part, since folders are private."""
    source = notes.get("source")
    return _last(source) if source else None


def _last(path: object) -> str:
    return re.split(r"[/\\]", str(path).rstrip("/\\"))[-1]


def _table(header: list[str], rows: Any, right: bool = False) -> str:
    rule = ["---", *(["--:" if right else "---"] * (len(header) - 1))]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (header, rule, *rows))


def _code(value: object) -> str:
    """A value as code, whatever characters it has, for a cell of a table."""
    text = " ".join(str(value).split()).replace("|", "\\|")
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}" if text else "(empty)"


def _plain(text: str) -> str:
    """Text in which Markdown and HTML find nothing."""
    return re.sub(r"([\\`*_\[\]<>#|&])", r"\\\1", " ".join(text.split()))


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(_value, value)) if isinstance(value, list | tuple) else str(value)


def _metric(name: object) -> str:
    text = str(name)
    return text.upper() if re.fullmatch(r"rmse|mae|mse|auc|(ndcg|map|mrr)(@\d+)?", text) else text


def _figure(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "not defined"


def _finite(figures: Mapping[Any, float]) -> dict[str, float]:
    """The figures that are numbers, rounded as they are shown."""
    return {str(name): round(float(value), 4) for name, value in figures.items() if math.isfinite(value)}

"""What the shell completes: values that are known without loading the library. File names are left to the shell."""

from __future__ import annotations

from pathlib import Path

from .model_help import MODEL_HELP

Completions = list[tuple[str, str]]     # (value, what it is)

SETS = ("ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small")
SPLITS = {"random": "some of all ratings", "time": "the latest", "per-user": "some of each user",
          "last": "the last of each user", "users": "whole users",
          **{f"u{k}": "a fold of ml-100k" for k in range(1, 6)}}
MODELS = dict(entry.removeprefix("For ratings: ").removeprefix("For ranking: ").split(", ", 1)
              for part in MODEL_HELP.rstrip(".").split(". ") for entry in part.split("; "))
FORMATS = {"csv": "between commas", "tsv": "between tabs", "::": "between two colons", "parquet": "Apache Parquet",
           "recbole": "RecBole's .inter"}
ENCODINGS = {"utf-8": "the default", "latin-1": "western Europe", "cp1252": "western Europe, of Windows",
             "utf-16": "of Windows", "shift_jis": "Japanese", "gb18030": "Chinese"}
DUPLICATES = {"keep": "each row counts", "last": "the latest row", "first": "the earliest row",
              "mean": "one row with their mean", "error": "refuse the table"}


def data_names(incomplete: str) -> Completions:
    """MovieLens sets and, beside them, files and folders here that begin alike; nothing where no set does, so that the
    shell completes paths."""
    sets = _beginning(dict.fromkeys(SETS, "MovieLens"), incomplete)
    if not sets:
        return []
    here = [path.name + "/" * path.is_dir() for path in sorted(Path().iterdir()) if not path.name.startswith(".")]
    return sets + _beginning(dict.fromkeys(here, "a file"), incomplete)


def models(incomplete: str) -> Completions:
    return _beginning(MODELS, incomplete)


def splits(incomplete: str) -> Completions:
    return _beginning(SPLITS, incomplete)


def splits_or_none(incomplete: str) -> Completions:
    return splits(incomplete) + _beginning({"none": "all rows"}, incomplete)


def formats(incomplete: str) -> Completions:
    return _beginning(FORMATS, incomplete)


def encodings(incomplete: str) -> Completions:
    return _beginning(ENCODINGS, incomplete)


def duplicates(incomplete: str) -> Completions:
    return _beginning(DUPLICATES, incomplete)


def _beginning(known: dict[str, str], incomplete: str) -> Completions:
    """Those of the known values that begin with what was typed."""
    return [(value, about) for value, about in known.items() if value.startswith(incomplete)]

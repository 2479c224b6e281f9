"""Features: metadata of users and items, encoded once per id instead of once per rating."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import DataError, warn
from .metadata import guess_title, split_groups

NAMES = ("title", "name")       # columns that tell ids apart
COUNT = "popularity"            # the feature that counts training ratings


@dataclass(frozen=True, eq=False)
class Features:
    """The metadata of the n rows of a vocab as sparse rows: row r has the features `codes[r]` with `weights[r]`.

    codes: int64 (n, width), positions in `labels`; weights: float32 (n, width), 0 where a place is not used.
    labels: (column, value) of each feature; the value of a number is "". A category weighs 1, each of the m members of
    a bag 1 / m, a number its scaled value. Row 0, and an id that the table lacks, has no features."""

    codes: Tensor
    weights: Tensor
    labels: list[tuple[str, str]]
    scaling: str = "quantile"

    @classmethod
    def of(cls, table: pd.DataFrame, ids: Iterable[Hashable], counts: np.ndarray, columns: Iterable[str] | str = "auto",
           scaling: str = "quantile") -> Features:
        """Encode `columns` of `table` (indexed by raw id) for rows 0 (unknown) to n - 1 of `ids`.

        Text with "|" in it is a bag (genres); other text, booleans and categories are categories; numbers are numbers.
        "auto" takes numbers, and text with fewer different words than a tenth of the rows, but no titles. "popularity",
        unless the table has a column of that name, is log(1 + the number of training ratings), of `counts` (n,); "auto"
        does not take it, since it says nothing of an id without ratings. Values that no id with training ratings has
        are left out. Numbers are scaled over the ids with training ratings to mean 0: by their rank, uniform between
        -sqrt(3) and sqrt(3) ("quantile"), or by their standard deviation ("standard").

        Raises DataError for columns that are not there, and where there is nothing to encode."""
        if scaling not in ("quantile", "standard"):
            raise DataError(f"scaling {scaling!r} is neither 'quantile' nor 'standard'")
        if isinstance(columns, str) and columns != "auto":
            raise DataError(f"features are a list of columns or 'auto', got {columns!r}")
        rows = table.reindex(pd.Index(np.fromiter(ids, dtype=object), tupleize_cols=False))
        if COUNT not in rows:
            rows = rows.assign(**{COUNT: np.log1p(counts)})
        wanted = telling(table) if isinstance(columns, str) else list(columns)
        if missing := [c for c in wanted if c not in rows]:
            raise DataError(f"there is no column {missing[0]!r} to make a feature of; the columns are "
                            f"{[*table.columns]}, and 'popularity' counts ratings")
        trained, labels, parts = counts > 0, list[tuple[str, str]](), []
        for name in wanted:
            encode = _number if _is_number(rows[name]) else _words
            values, codes, weights = encode(rows[name], trained, scaling)
            parts.append((codes + len(labels), weights))
            labels += [(str(name), value) for value in values]
        if not labels:
            raise DataError(f"the metadata hold nothing to make features of in the columns {wanted or [*table.columns]}"
                            "; name columns that say what ids have in common, such as item_features=['genres']")
        codes, weights = (np.concatenate(part, axis=1) for part in zip(*parts))
        weights[0] = 0      # popularity has a value in every row
        return cls(torch.from_numpy(codes * (weights != 0)), torch.from_numpy(weights.astype(np.float32)), labels,
                   scaling)

    @property
    def column(self) -> Tensor:
        """The number of each feature's column, in the order of columns, int64 (n_features,)."""
        columns = list(dict.fromkeys(column for column, _ in self.labels))
        return torch.tensor([columns.index(column) for column, _ in self.labels])

    def by_column(self) -> list[tuple[Tensor, Tensor, int]]:
        """(codes, weights, number of features) of each column separately, in their order."""
        of, parts = self.column, []
        for k in range(int(of.max()) + 1):
            first, n = int(torch.nonzero(of == k)[0]), int((of == k).sum())
            used = (self.weights != 0) & (of[self.codes] == k)
            wide = used.any(0)
            codes, weights = (self.codes - first).where(used, 0), self.weights.where(used, 0.0)
            parts.append((codes[:, wide].contiguous(), weights[:, wide].contiguous(), n))
        return parts


Encoded = tuple[list[str], np.ndarray, np.ndarray]      # values, codes (n, width), weights (n, width)


def _number(column: pd.Series, trained: np.ndarray, scaling: str) -> Encoded:
    values = column.to_numpy(np.float64, na_value=np.nan)
    if n := int(np.isinf(values).sum()):
        warn(f"column {column.name!r}: {n:,} of {len(values) - 1:,} values are infinite, and count as missing; correct "
             "them")
    known = np.sort(values[trained & np.isfinite(values)])
    scaled = np.zeros(len(values))
    if len(known) > 1 and known[0] < known[-1]:
        if scaling == "quantile":       # mid-rank of equal values, uniform on +- sqrt(3)
            rank = (np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")) / 2 / len(known)
            scaled = (2 * rank - 1) * np.sqrt(3)
        else:
            scaled = (values - known.mean()) / known.std()
    return [""], np.zeros((len(values), 1), np.int64), np.where(np.isfinite(values), scaled, 0)[:, None]


def _words(column: pd.Series, trained: np.ndarray, _: str) -> Encoded:
    lists = [[word.strip() for word in words if word.strip()] for words in split_groups(column)]
    values = sorted({word for words, known in zip(lists, trained) if known for word in words})
    number = {value: k for k, value in enumerate(values)}
    coded = [[number[word] for word in words if word in number] for words in lists]
    codes = np.zeros((len(coded), max(map(len, coded))), np.int64)
    weights = np.zeros(codes.shape)
    for row, own in enumerate(coded):
        codes[row, :len(own)], weights[row, :len(own)] = own, 1 / max(len(own), 1)
    return values, codes, weights


def telling(table: pd.DataFrame) -> list[Hashable]:
    """The columns of metadata that "auto" encodes."""
    return [c for c in table if c not in (*NAMES, guess_title(table)) and _tells(table[c])]


def _tells(column: pd.Series) -> bool:
    """Whether a column groups rows: it is numeric, or its words repeat."""
    if _is_number(column):
        return True
    words = column.dropna().astype(str).str.split("|").explode()
    return 1 < words.nunique() <= max(2, len(column) // 10)


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)

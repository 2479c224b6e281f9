"""Allowed: the items a list may hold, by id, by title, and by what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..errors import DataError
from ..given import is_real
from .catalogue import Catalogue
from .vocab import UNKNOWN
from .where import Where, in_text, meeting, names_column

Chosen = Hashable | Iterable[Hashable | Mapping[Hashable, object]] | Mapping[Hashable, object]
"""Items by id or title, one or several; or by what is known of them, {column: condition} as in `Where`; or both, in a
list. A list of several means the items that any of its members names. A mapping whose keys are items, such as a user's
{item: rating}, means these items; so does one of numbers, or None, under names that no column has."""


class Allowed(NamedTuple):
    """What `allowed` gave, for a service that keeps to the same rules with every request: it may stand for `among`."""

    rows: np.ndarray    # bool (n,)


def allowed(catalogue: Catalogue, table: Callable[[], pd.DataFrame], *, among: Chosen | None = None,
            without: Chosen | None = None, where: Where | None = None, unknown: str = "average") -> np.ndarray | None:
    """Which rows a list may hold, bool (n,), row 0 never; None where all others may. `table` gives what is known of the
    items, by id, and is asked for conditions alone.

    Ids in `among` that are not known are left out, with a warning, or raise UnknownId with `unknown` "error" or where
    there are no others; in `without` they leave out nothing. Raises DataError for conditions that `meeting` refuses,
    and for text such as "genres=War", which is a condition in `where` alone."""
    if among is None and without is None and where is None:
        return None
    kept = among.rows.copy() if isinstance(among, Allowed) else np.full(len(catalogue.vocab), among is None)
    if among is not None and not isinstance(among, Allowed):
        ids, conditions = _parted(catalogue, table, among, "among")
        if ids is not None:
            kept[catalogue.known(ids, "in among=", unknown)] = True
        for condition in conditions:
            kept |= meeting(table(), catalogue.vocab, condition, "among")
    if without is not None:
        ids, conditions = _parted(catalogue, table, without, "without")
        if ids is not None:
            kept[catalogue.excluded(ids)] = False
        for condition in conditions:
            kept &= ~meeting(table(), catalogue.vocab, condition, "without", some=False)
    if where is not None:
        kept &= meeting(table(), catalogue.vocab, where)
    kept[UNKNOWN] = False
    return kept


def typed(catalogue: Catalogue, table: pd.DataFrame | None, text: str) -> Hashable | Mapping[Hashable, object]:
    """Turn what a person typed into an item's id or title or, where no item has these, into a condition on a column of
    the `table`, such as "genres=War"; leave other text as it is."""
    condition: Mapping[Hashable, object] | None = None
    if table is not None and not catalogue.has(text):
        condition = in_text(table, text)
    return catalogue.typed(text) if condition is None else condition


def _parted(catalogue: Catalogue, table: Callable[[], pd.DataFrame], chosen: Chosen,
            option: str) -> tuple[Hashable | Iterable[Hashable] | None, list[Mapping[Hashable, object]]]:
    """Ids, None where there are only conditions; and the conditions."""
    if isinstance(chosen, Mapping):
        return (chosen, []) if _of_ids(catalogue, table, chosen) else (None, [chosen])
    if not isinstance(chosen, str | list | tuple):
        return chosen, []
    listed = [chosen] if isinstance(chosen, str) else chosen
    for text in listed:
        if isinstance(text, str) and any(sign in text for sign in "=<>") and text not in catalogue and (
                condition := in_text(_columns(table), text)):
            form = {name: str(wanted).lstrip("=") for name, wanted in condition.items()}
            raise DataError(f"{option}={text!r} is not an item; for the items that meet this condition, pass {form}")
    if not any(isinstance(one, Mapping) for one in listed):
        return chosen, []
    ids = [one for one in listed if not isinstance(one, Mapping)]
    return ids or None, [one for one in listed if isinstance(one, Mapping)]


def _of_ids(catalogue: Catalogue, table: Callable[[], pd.DataFrame], chosen: Mapping[Hashable, object]) -> bool:
    """Whether the keys of a mapping are items, and not columns."""
    if all(value is None for value in chosen.values()) or not any(isinstance(key, str) for key in chosen):
        return True
    if any(key in catalogue for key in chosen):
        return True
    return all(value is None or is_real(value) for value in chosen.values()) and not any(
        names_column(_columns(table), key) for key in chosen)


def _columns(table: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The columns for conditions; none where there is no table, as in the index files of earlier versions."""
    try:
        return table()
    except DataError:
        return pd.DataFrame()

"""Allowed: the items a list may hold, by id, by title, and by what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from .catalogue import Catalogue
from .vocab import UNKNOWN
from .where import Where, in_text, meeting

Chosen = Hashable | Iterable[Hashable | Mapping[Hashable, object]] | Mapping[Hashable, object]
"""Items by id or title, one or several; or by what is known of them, {column: condition} as in `Where`; or both, in a
list. A list of several means the items that any of its members names; a mapping whose keys are items, such as a user's
{item: rating}, these items."""


class Allowed(NamedTuple):
    """What `allowed` gave, for a service that keeps to the same rules with every request: it may stand for `among`."""

    rows: np.ndarray    # bool (n,)


def allowed(catalogue: Catalogue, table: Callable[[], pd.DataFrame], *, among: Chosen | None = None,
            without: Chosen | None = None, where: Where | None = None, unknown: str = "average") -> np.ndarray | None:
    """Which rows a list may hold, bool (n,), row 0 never; None where all others may. `table` gives what is known of the
    items, by id, and is asked for conditions alone.

    Ids in `among` that are not known are left out, with a warning, or raise UnknownId with `unknown` "error" or where
    there are no others; in `without` they leave out nothing. Raises DataError for conditions that `meeting` refuses."""
    if among is None and without is None and where is None:
        return None
    kept = among.rows.copy() if isinstance(among, Allowed) else np.full(len(catalogue.vocab), among is None)
    if among is not None and not isinstance(among, Allowed):
        ids, conditions = _parted(catalogue, among)
        if ids is not None:
            kept[catalogue.known(ids, "in among=", unknown)] = True
        for condition in conditions:
            kept |= meeting(table(), catalogue.vocab, condition, "among")
    if without is not None:
        ids, conditions = _parted(catalogue, without)
        if ids is not None:
            kept[catalogue.excluded(ids)] = False
        for condition in conditions:
            kept &= ~meeting(table(), catalogue.vocab, condition, "without", some=False)
    if where is not None:
        kept &= meeting(table(), catalogue.vocab, where)
    kept[UNKNOWN] = False
    return kept


def typed(catalogue: Catalogue, table: pd.DataFrame | None, text: str) -> Hashable | Mapping[Hashable, object]:
    """What a person means by `text`: an item's id or title or, where there is no such item, a condition on a column,
    such as "genres=War", of the `table`; otherwise the text itself."""
    condition: Mapping[Hashable, object] | None = None
    if table is not None and not catalogue.has(text):
        condition = in_text(table, text)
    return catalogue.typed(text) if condition is None else condition


def _parted(catalogue: Catalogue,
            chosen: Chosen) -> tuple[Hashable | Iterable[Hashable] | None, list[Mapping[Hashable, object]]]:
    """Ids, None where there are only conditions; and the conditions. The keys of {item: anything} are ids."""
    if isinstance(chosen, Mapping):
        of_ids = all(value is None for value in chosen.values()) or not any(isinstance(key, str) for key in chosen)
        return (chosen, []) if of_ids or any(key in catalogue for key in chosen) else (None, [chosen])
    if not isinstance(chosen, list | tuple) or not any(isinstance(one, Mapping) for one in chosen):
        return chosen, []
    ids = [one for one in chosen if not isinstance(one, Mapping)]
    return ids or None, [one for one in chosen if isinstance(one, Mapping)]

"""Table: a DataFrame that prints whole rows, titles too."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd


class AnyFrame(type):
    """Every DataFrame counts as one, so that `pandas.testing` finds a plain one equal to a Table."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, pd.DataFrame)


class Table(pd.DataFrame, metaclass=AnyFrame):
    """A DataFrame in all but one thing: as text it keeps its columns and their titles whole.

    pandas fits a printed frame to the terminal, or to 80 characters in a pipe, and leaves out the columns in the
    middle, which is where titles stand. Where `display.max_columns` was set to a number, that is obeyed."""

    @property
    def _constructor(self) -> Callable[..., Table]:
        return Table        # what is made of a table, such as its first rows, is one

    def __repr__(self) -> str:
        if pd.get_option("display.max_columns"):
            return super().__repr__()
        with pd.option_context("display.max_columns", None, "display.max_colwidth", None,
                               "display.expand_frame_repr", False):
            return super().__repr__()

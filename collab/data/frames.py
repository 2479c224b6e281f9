"""Any table in: pandas, polars, pyarrow and whatever speaks Arrow become a DataFrame of plain columns."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from ..errors import DataError

if TYPE_CHECKING:
    import narwhals as nw  # imported where something comes that is not pandas': with its plugins it takes 40 ms

NO_FRAMES = (__name__.partition(".")[0], "builtins", "datetime", "decimal", "numpy", "torch", "uuid")
"""Packages whose types narwhals does not know."""
COPIES = int(pd.__version__.split(".")[0]) < 3
"""Whether a frame made of another's columns must copy them, lest changing the one changes the other: later versions of
pandas copy what is changed."""
if not COPIES:
    from pandas.api.internals import create_dataframe_from_blocks
ArrowStringArray = pd.arrays.ArrowStringArray

TableLike = object
"""A DataFrame of pandas, polars, pyarrow, or anything else that speaks Arrow: `as_frame` raises for the rest."""


def as_frame(table: TableLike, what: str = "ratings") -> pd.DataFrame:
    """Convert `table` to a pandas DataFrame with columns of numpy's and pandas' own types: Arrow's dictionaries become
    their values, decimals, dates and bytes Python's objects, integers with gaps Int64. A DataFrame without Arrow types
    is returned as it is, and none is changed.

    Takes the frames that narwhals knows (polars, pyarrow, modin, cuDF; a lazy one is collected) and anything with
    `__arrow_c_stream__` or `__dataframe__`. Raises DataError, which says `what` the table should hold, for anything
    else."""
    if isinstance(table, pd.DataFrame):
        return _without_arrow(table)
    import narwhals as nw
    try:
        frame = _with_narwhals(table)
    except nw.exceptions.DuplicateError as error:
        said = " ".join(str(error).split())
        raise DataError(f"the table of {what} has a column name more than once ({said}); rename all but one") from None
    if frame is table and _speaks(table, "__arrow_c_stream__"):
        readers: tuple[Literal["pyarrow", "polars"], ...] = ("pyarrow", "polars")
        backend = next((name for name in readers if importlib.util.find_spec(name)), None)
        if backend is None:
            raise DataError(f"reading {what} from a {type(table).__name__}, by the Arrow interface, needs pyarrow: "
                            "pip install pyarrow")
        try:
            frame = nw.from_arrow(table, backend=backend)
        except (TypeError, ValueError) as error:        # a stream of single values, such as an array
            raise DataError(f"expected a table of {what}, got {type(table).__name__} ({error})") from None
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, nw.DataFrame):
        columns = [_column(frame[:, k]) for k in range(len(frame.columns))]
        return pd.DataFrame(dict(enumerate(columns))).set_axis([*frame.columns], axis=1)
    if frame is table and _speaks(table, "__dataframe__"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # pandas recommends Arrow instead, which this table does not speak
            return _without_arrow(pd.api.interchange.from_dataframe(table))
    hint = "; pass its .ratings" if isinstance(getattr(table, "ratings", None), pd.DataFrame) else ""
    raise DataError(f"expected a table of {what} (a pandas DataFrame, or any other that speaks Arrow), got "
                    f"{type(table).__name__}{hint}; a file is read with CollabDataBunch.from_csv(path)")


def is_table(thing: object) -> bool:
    """Whether `as_frame` takes it: a table, not one column."""
    if isinstance(thing, pd.DataFrame):
        return True
    if _plain_object(thing):
        return False
    import narwhals as nw
    known = _with_narwhals(thing)
    return isinstance(known, nw.DataFrame | nw.LazyFrame) or (
        known is thing and (_speaks(thing, "__arrow_c_stream__") or _speaks(thing, "__dataframe__")))


def as_column(values: object) -> pd.Series | None:
    """Convert a column of polars or pyarrow to a pandas one of plain values; None for anything else."""
    if _plain_object(values):
        return None
    import narwhals as nw
    known = _with_narwhals(values)
    if isinstance(known, nw.Series):
        return _column(known)
    to_list = getattr(values, "to_pylist", None)        # an array of pyarrow, which narwhals does not take for a column
    return None if to_list is None else pd.Series(to_list(), dtype=object).infer_objects()


def plain(column: pd.Series) -> pd.Series:
    """Replace Arrow types and float16, which cannot be looked up, by the types nearest to them; a categorical column
    keeps its categories, themselves made plain."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = plain(pd.Series(column.cat.categories))
        same = categories.dtype == column.cat.categories.dtype
        return column if same else column.cat.rename_categories(pd.Index(categories, tupleize_cols=False))
    if isinstance(column.dtype, pd.ArrowDtype):
        import narwhals as nw
        values = _column(nw.from_native(column, series_only=True))
        return pd.Series(values.array, index=column.index, name=column.name)
    return column.astype("float32") if column.dtype == "float16" else column


def without_categories(column: pd.Series) -> pd.Series:
    """Replace categories by their values, and all of them by `plain` ones."""
    column = plain(column)
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return column
    return column.astype(object if column.hasnans else column.cat.categories.dtype)


# Inside -----------------------------------------------------------------------------------------------------------

def _plain_object(thing: object) -> bool:
    """Whether it cannot be a frame or a column, which is told without asking narwhals."""
    return isinstance(thing, type) or type(thing).__module__.partition(".")[0] in NO_FRAMES


def _with_narwhals(thing: object) -> object:
    """A frame or series of narwhals, or the thing itself where narwhals does not know it."""
    import narwhals as nw
    return thing if _plain_object(thing) else nw.from_native(thing, pass_through=True, allow_series=True)


def _speaks(thing: object, way: str) -> bool:
    return not isinstance(thing, type) and callable(getattr(thing, way, None))


def _without_arrow(table: pd.DataFrame) -> pd.DataFrame:
    columns = [column for _, column in table.items()]
    made = [plain(column) if isinstance(column.dtype, pd.ArrowDtype | pd.CategoricalDtype) else column
            for column in columns]
    if all(new is old for new, old in zip(made, columns)):
        return table
    frame = pd.DataFrame(dict(enumerate(made)), index=table.index)
    return frame.set_axis(table.columns, axis=1)


def _column(series: nw.Series[Any]) -> pd.Series:
    """One column, indexed from 0."""
    import narwhals as nw
    kind, gaps = series.dtype, series.null_count() > 0
    if kind.is_integer():
        return pd.Series(series.to_list(), dtype=str(kind)) if gaps else pd.Series(series.to_numpy())
    if kind == nw.Boolean:
        return pd.Series(series.to_list(), dtype="boolean") if gaps else pd.Series(series.to_numpy(), dtype=bool)
    if kind in (nw.Float32, nw.Float64):
        return pd.Series(series.to_numpy())
    if isinstance(kind, nw.Datetime):
        zone = kind.time_zone       # numpy's times have none: they are those of UTC
        times = pd.DatetimeIndex((series if zone is None else series.dt.convert_time_zone("UTC")).to_numpy())
        return pd.Series(times if zone is None else times.tz_localize("UTC").tz_convert(zone))
    return pd.Series(series.to_list(), dtype=object).infer_objects()


# Frames out ------------------------------------------------------------------------------------------------------

Column = np.ndarray | pd.api.extensions.ExtensionArray


def frame_of(columns: dict[str, Column], kind: type[pd.DataFrame] = pd.DataFrame) -> pd.DataFrame:
    """`kind(columns, copy=False)` of new arrays of one length, in a fifth of the time where these are numbers and
    Arrow's text: pandas does not find out that names are text and numbers are numbers."""
    if COPIES:
        return kind(columns, copy=False)
    blocks = [(_stored(values), np.array([k])) for k, values in enumerate(columns.values())]
    frame: pd.DataFrame = create_dataframe_from_blocks(blocks, pd.RangeIndex(len(next(iter(columns.values())))),
                                                       _names(*columns).view())
    frame.__class__ = kind      # a Table has the same attributes, and making one of a frame would double the time
    return frame


@cache
def _names(*names: str) -> pd.Index:
    """The names of columns; each frame has its own view."""
    return pd.Index(names)


def _stored(values: Column) -> Column:
    """One column in the type that pandas finds for it, numbers as they are."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        return values[None]
    array = pd.Series(values, copy=False).array if isinstance(values, np.ndarray) else values
    return array.to_numpy()[None] if type(array) is pd.arrays.NumpyExtensionArray else array      # text is a subclass


class Table(pd.DataFrame):
    """A DataFrame that prints all of its columns, and whole titles.

    pandas fits a printed frame to the terminal, or to 80 characters in a pipe, and leaves out the columns in the
    middle, where the titles are. A number in `display.max_columns` is obeyed. `pandas.testing.assert_frame_equal`
    takes it as the first frame, or with check_frame_type=False."""

    @property
    def _constructor(self) -> Callable[..., Table]:
        return Table        # what is made of a table, such as its first rows, is one

    def __repr__(self) -> str:
        if pd.get_option("display.max_columns"):
            return super().__repr__()
        with pd.option_context("display.max_columns", None, "display.max_colwidth", None,
                               "display.expand_frame_repr", False):
            return super().__repr__()

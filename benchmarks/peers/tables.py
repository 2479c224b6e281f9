"""Tables of ratings for the scripts beside this file: CSV files, or .npz files with an array for each column."""

import numpy as np
import pandas as pd


def read(path: str, columns: list[str]) -> pd.DataFrame:
    """The columns of a table, in the order asked for."""
    if path.endswith(".npz"):
        with np.load(path) as file:
            return pd.DataFrame({name: file[name] for name in columns})
    return pd.read_csv(path)[columns]

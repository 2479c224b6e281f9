"""The kernel of `signal`: a sparse matrix times a few vectors."""

from __future__ import annotations

from typing import Any

from numba import njit

from ..simd import add

compiled: Any = njit(cache=True, nogil=True, error_model="numpy")


@compiled
def multiply(rows: Any, columns: Any, values: Any, vectors: Any, into: Any, lanes: Any) -> None:
    """into[r] += x vectors[c] for every entry (r, c, x)."""
    for k in range(len(values)):
        add(into, rows[k], values[k], vectors, columns[k], lanes)

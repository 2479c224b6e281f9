"""Compiled kernels: whether numba can run them, and why not where it cannot.

Files of kernels (`*_kernels.py`) import numba at their top, and are imported where they are used: `import collab` does
without numba. Their functions are of the module, with `cache=True`, so that a process compiles none that an earlier one
has compiled."""

from __future__ import annotations

from functools import cache


@cache
def not_compiled() -> str | None:
    """Why kernels cannot be compiled here, in words; None where they can."""
    try:
        from numba import config
    except ImportError as error:
        return f"numba cannot be imported ({error}); pip install numba"
    return "NUMBA_DISABLE_JIT is set" if getattr(config, "DISABLE_JIT", 0) else None      # made at run time

"""Who is watching: a notebook, a terminal, or nobody."""

from __future__ import annotations

import sys


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def bars_wanted() -> bool:
    """Whether somebody watches: a notebook, or a terminal on standard output. In a pipe there are no bars."""
    return in_notebook() or sys.stdout.isatty()

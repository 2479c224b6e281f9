"""Where output goes: a notebook, a terminal, or a pipe."""

from __future__ import annotations

import sys


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def bars_wanted() -> bool:
    """Whether to show progress bars: in a notebook and on a terminal, but not in a pipe."""
    return in_notebook() or sys.stdout.isatty()

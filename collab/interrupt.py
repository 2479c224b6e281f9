"""Ctrl-C while the command line loads torch, which takes seconds: the program ends at once and without a traceback."""

from __future__ import annotations

import signal
import sys
from pathlib import Path


def is_command() -> bool:
    """Whether this process is the command line, and not a script or a notebook that imports the package."""
    return Path(sys.argv[0]).stem == "collab" or sys.orig_argv[1:3] == ["-m", "collab"]


def loaded() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt again, so that what is under way can be cleaned up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# On import, which is why the package imports this module first. A shell that has set Ctrl-C aside (nohup) is obeyed.
if is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

"""Make Ctrl-C end the command line at once and without a traceback while torch loads, which takes seconds."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

_PRESSES = 0


def is_command() -> bool:
    """Whether this process is the command line, rather than a script or notebook that imports the package."""
    return Path(sys.argv[0]).stem == "collab" or sys.orig_argv[1:3] == ["-m", "collab"]


def loaded() -> None:
    """Make Ctrl-C raise KeyboardInterrupt again, so that running work can clean up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, _raised)


def pressed() -> bool:
    """Whether Ctrl-C has been pressed since the command line was loaded, also where a library made another error of
    it."""
    return _PRESSES > 0


def _raised(number: int, frame: FrameType | None) -> None:
    global _PRESSES
    _PRESSES += 1
    signal.default_int_handler(number, frame)


# On import, which is why the package imports this module first. Where Ctrl-C is ignored (nohup), it stays ignored.
if is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

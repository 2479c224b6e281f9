"""What has to be done whole, whenever Ctrl-C comes."""

from __future__ import annotations

from collections.abc import Callable


def whole(step: Callable[[], object]) -> None:
    """Do a step that may be begun anew, as often as Ctrl-C cuts it off; KeyboardInterrupt is raised when it is done.

    A Ctrl-C within the first instruction of this function comes before anything can catch it."""
    stopped: KeyboardInterrupt | None = None
    while True:
        try:
            step()
            break
        except KeyboardInterrupt as stop:
            stopped = stop
    if stopped is not None:
        raise stopped

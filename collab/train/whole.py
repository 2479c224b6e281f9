"""Steps that are completed even if Ctrl-C comes."""

from __future__ import annotations

from collections.abc import Callable


def whole(step: Callable[[], object]) -> None:
    """Repeat a step that Ctrl-C cuts off until it is complete, and then raise KeyboardInterrupt. The step must allow to
    be begun anew.

    A Ctrl-C within the first instruction of this function cannot be caught."""
    stopped: KeyboardInterrupt | None = None
    while True:
        try:
            step()
            break
        except KeyboardInterrupt as stop:
            stopped = stop
    if stopped is not None:
        raise stopped

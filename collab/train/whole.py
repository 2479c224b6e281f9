"""Steps that are completed even if Ctrl-C comes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


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


@contextmanager
def held_interrupt() -> Iterator[None]:
    """Let Ctrl-C wait until the end of a `with`, which should be short. It does nothing in another thread than the main
    one, which alone gets Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
        if came:
            signal.raise_signal(signal.SIGINT)

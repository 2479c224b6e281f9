"""Callback: a class whose methods are named after events, and the table that calls them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from .events import CANCEL, EVENTS, VERBS, Cancel

if TYPE_CHECKING:
    from .learner import Learner

PREFIXES = ("before_", "after_", "cleanup_")


class Callback:
    """Define methods named after events (`events.EVENTS`) or verbs (`events.VERBS`); read and write `self.learn`.

    Callbacks are called by ascending `order`; those of one order in the order in which they were added. `run_before`
    and `run_after`, tuples of callback classes, come before either.
    `looks` says whether it is also called by `validate` and `get_preds`, which otherwise call no callback.
    An error in `before_fit` refuses the fit: the callbacks before clean up, and all have the attributes they had.
    A method that is named like an event, but is not one, raises TypeError when the class is made."""

    order: float = 0
    run_before: tuple[type[Callback], ...] = ()
    run_after: tuple[type[Callback], ...] = ()
    looks: bool = False
    learn: Learner

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for name in dir(cls):
            if name in EVENTS or name in VERBS or hasattr(Callback, name) or not callable(getattr(cls, name)):
                continue
            near = difflib.get_close_matches(name, EVENTS, n=1, cutoff=0.85)
            if near or name.startswith(PREFIXES):
                hint = f"did you mean {near[0]!r}?" if near else f"the events are {', '.join(EVENTS)}"
                raise TypeError(f"{cls.__name__}.{name} is not an event; {hint}")

    def state_dict(self) -> dict[str, Any]:
        """What must be saved so that training can be resumed: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    def __repr__(self) -> str:
        return type(self).__name__


def as_list(cbs: Iterable[Callback] | Callback | None) -> list[Callback]:
    """None, one callback or several, as a list."""
    if cbs is None:
        return []
    return list(cbs) if isinstance(cbs, Iterable) else [cbs]


def in_order(cbs: Iterable[Callback]) -> list[Callback]:
    """By `order`, then as given; but none before a callback that it must run after.

    Raises TypeError for demands that go round in a circle."""
    waiting, placed = sorted(cbs, key=lambda cb: cb.order), []
    while waiting:
        free = next((cb for cb in waiting if not any(_precedes(other, cb) for other in waiting)), None)
        if free is None:
            raise TypeError(f"run_before and run_after of these callbacks go round in a circle: {waiting}")
        waiting.remove(free)
        placed.append(free)
    return placed


def _precedes(one: Callback, other: Callback) -> bool:
    return one is not other and (isinstance(other, one.run_before) or isinstance(one, other.run_after))


class Dispatch:
    """Event -> the methods to call, built once a fit, so that what nobody listens to costs next to nothing.

    The verbs are attributes (`dispatch.predict()` ...): a callback's, where one defines it, else the default; `owners`
    says whose they are. `callers` are the callbacks whose methods are in `table`, event by event; `entered` names the
    scopes whose `before_` event nothing has cut off. While cleanups run, `cut_off` is the error or the wider Cancel
    that ended their scope, None where it ended by itself or its own Cancel.
    Raises TypeError where two callbacks define the same verb."""

    predict: Callable[[], None]
    get_loss: Callable[[], None]
    backward: Callable[[], None]
    step: Callable[[], None]
    zero_grad: Callable[[], None]
    calling: Callable[[], None] | None = None
    cut_off: BaseException | None = None

    def __init__(self, cbs: Iterable[Callback], defaults: Callback):
        self.cbs = in_order(cbs)
        self.entered: set[str] = set()
        self.callers = {event: [cb for cb in self.cbs if callable(getattr(cb, event, None))] for event in EVENTS}
        self.table = {event: [_method(cb, event) for cb in callers] for event, callers in self.callers.items()}
        self.owners: dict[str, Callback] = {}
        for verb in VERBS:
            owners = [cb for cb in self.cbs if callable(getattr(type(cb), verb, None))]
            if len(owners) > 1:
                raise TypeError(f"{owners[0]} and {owners[1]} both replace the verb {verb!r}; remove one of them")
            self.owners[verb] = owners[0] if owners else defaults
            setattr(self, verb, getattr(self.owners[verb], verb))

    def emit(self, event: str) -> None:
        """Call the event's methods in order."""
        for self.calling in self.table[event]:
            self.calling()

    def emit_from(self, cb: Callback, event: str) -> None:
        """Call the event's methods in order, from that of `cb` on."""
        begun = False
        for caller, method in zip(self.callers[event], self.table[event]):
            begun = begun or caller is cb
            if begun:
                method()

    def emit_to_all(self, event: str) -> None:
        """Call the event's methods in order, all of them although one may cancel; then raise the first Cancel."""
        cancelled = None
        for method in self.table[event]:
            try:
                method()
            except Cancel as cancel:
                cancelled = cancelled or cancel
        if cancelled is not None:
            raise cancelled

    def clean_up(self, event: str, entered: bool, error: BaseException | None = None) -> None:
        """Call the event's methods, whatever one of them raises: all of them, or if the scope's `before_` event was cut
        off (`entered` is False) those of the callbacks that it reached, but for one that refused by an error.

        `error` is what ended the scope, other than its own Cancel. The first error is raised, with those that follow as
        its notes; Ctrl-C gives way to an error, a Cancel to either, and a Cancel in a cleanup is an error itself."""
        first = None if isinstance(error, Cancel) else error
        reached = self.cbs if entered else self._reached(event.replace("cleanup", "before"), error)
        self.cut_off = error
        for cb, method in zip(self.callers[event], self.table[event]):
            if entered or any(cb is one for one in reached):
                try:
                    method()
                except BaseException as raised:
                    first = _joined(first, raised, f"{event} of {cb}")
        self.cut_off = None
        if first is not None and first is not error:
            raise first

    def _reached(self, event: str, error: BaseException | None) -> list[Callback]:
        """The callbacks in order up to the one in whose method `error` came; with it, unless it refused."""
        for cb, method in zip(self.callers[event], self.table[event]):
            if method is self.calling:
                refused = not (error is None or isinstance(error, (Cancel, KeyboardInterrupt)))
                return self.cbs[:next(k for k, one in enumerate(self.cbs) if one is cb) + (not refused)]
        return []


def _method(cb: Callback, event: str) -> Callable[[], None]:
    """An object of its own, also where the callbacks of a class share a static method or a function."""
    method: Callable[[], None] = getattr(cb, event)
    return method if getattr(method, "__self__", None) is cb else partial(method)


def _joined(first: BaseException | None, raised: BaseException, where: str) -> BaseException:
    """The one of two errors that is raised, with a note of the other."""
    if isinstance(raised, Cancel):
        cancel, raised = raised, RuntimeError(f"{type(raised).__name__} was raised in {where}: a cleanup cannot cancel")
        raised.__cause__ = cancel
    if first is None:
        return raised
    if isinstance(first, KeyboardInterrupt) and not isinstance(raised, KeyboardInterrupt):
        raised.add_note(f"in {where}, after a {type(first).__name__}")
        return raised
    first.add_note(f"and then, in {where}, {type(raised).__name__}: {raised}")
    return first


def scope(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Bracket a method of the learner: before_, the method, after_; a Cancel of this scope ends it wherever it is
    raised; cleanup_ always runs, for every callback that before_ reached. A Cancel in after_ waits for the others."""
    cancel, before, after, cleanup = CANCEL[name], f"before_{name}", f"after_{name}", f"cleanup_{name}"

    def bracket(method: Callable[..., None]) -> Callable[..., None]:
        @wraps(method)
        def scoped(self: Learner, *args: Any) -> None:
            run, entered = self.run, False
            try:
                run.emit(before)
                entered = True
                run.entered.add(name)
                method(self, *args)
                run.emit_to_all(after)
            except cancel:
                run.clean_up(cleanup, entered)
            except BaseException as error:
                run.clean_up(cleanup, entered, error)
                raise
            else:
                if run.table[cleanup]:
                    run.clean_up(cleanup, entered)
        return scoped
    return bracket

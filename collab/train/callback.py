"""Callback, a class whose methods are named after events, and Dispatch, the table that calls them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from ..errors import renamed
from .callbacks.order import Order
from .events import CANCEL, EVENTS, VERBS, Cancel

if TYPE_CHECKING:
    from .learner import Learner

PREFIXES = ("before_", "after_", "cleanup_")
State = dict[str, Any]      # tensors and plain values by name, in nested dicts and lists


class Callback:
    """Define methods named after events (`events.EVENTS`) or verbs (`events.VERBS`); read and write `self.learn`.

    Callbacks are called by ascending `order` (see `callbacks.order.Order` for those that ship); equal orders, as they
    were added. `run_before` and `run_after`, tuples of callback classes, take precedence over both.
    With `takes_sparse`, gradients of large tables may be sparse though it listens after their computation or a step.
    With `main_only`, that is in the first of several processes alone, for what it writes or shows.
    With `in_eval`, `validate`, `get_preds` and `lr_find` call it too; otherwise only a fit does.
    An error in `before_fit` refuses the fit: the callbacks before it clean up, and all get back their attributes.
    A method whose name looks like an event but is not one raises TypeError when the class is made."""

    order: float = Order.DEFAULT
    run_before: tuple[type[Callback], ...] = ()
    run_after: tuple[type[Callback], ...] = ()
    in_eval: bool = False
    main_only: bool = False
    takes_sparse: bool = False
    learn: Learner

    def __init_subclass__(cls, **kwargs: object):
        super().__init_subclass__(**kwargs)
        if "looks" in vars(cls):
            renamed(f"{cls.__name__}.looks", "in_eval")
            cls.in_eval = vars(cls)["looks"]
            del cls.looks
        for name in dir(cls):
            if name in EVENTS or name in VERBS or hasattr(Callback, name) or not callable(getattr(cls, name)):
                continue
            near = difflib.get_close_matches(name, EVENTS, n=1, cutoff=0.85)
            if near or name.startswith(PREFIXES):
                hint = f"did you mean {near[0]!r}?" if near else f"the events are {', '.join(EVENTS)}"
                raise TypeError(f"{cls.__name__}.{name} is not an event; {hint}")

    @property
    def looks(self) -> bool:
        """The old name of `in_eval`."""
        renamed("Callback.looks", "in_eval")
        return self.in_eval

    @looks.setter
    def looks(self, value: bool) -> None:
        renamed("Callback.looks", "in_eval")
        self.in_eval = value

    def state_dict(self) -> State:
        """What must be saved so that training can be resumed: tensors and plain values."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Take back what `state_dict` gave."""

    def __repr__(self) -> str:
        return type(self).__name__


Cbs = Iterable[Callback] | Callback | None


def as_list(cbs: Cbs) -> list[Callback]:
    """A list of none, one or several callbacks."""
    if cbs is None:
        return []
    return list(cbs) if isinstance(cbs, Iterable) else [cbs]


def in_order(cbs: Iterable[Callback]) -> list[Callback]:
    """Sort by `order`, then as given, but with `run_before` and `run_after` obeyed.

    Raises TypeError if these contradict each other."""
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
    """The methods to call at each event, looked up once a fit, so that an event without listeners costs almost nothing.

    The verbs are attributes (`dispatch.predict()` ...): a callback's if one defines it, otherwise the default; `owners`
    maps each verb to the object whose method it is. `callers` holds the callbacks whose methods are in `table`, event
    by event; `entered` the names of the scopes whose `before_` event was completed. While cleanups run, `cut_off` is
    the error or the wider Cancel that ended their scope; None if it ended by itself or by its own Cancel.
    Raises TypeError if two callbacks define the same verb."""

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
        """Call the event's methods in order, beginning with that of `cb`."""
        begun = False
        for caller, method in zip(self.callers[event], self.table[event]):
            begun = begun or caller is cb
            if begun:
                method()

    def emit_to_all(self, event: str) -> None:
        """Call all of the event's methods in order, even if one of them cancels; then raise the first Cancel."""
        cancelled = None
        for method in self.table[event]:
            try:
                method()
            except Cancel as cancel:
                cancelled = cancelled or cancel
        if cancelled is not None:
            raise cancelled

    def clean_up(self, event: str, entered: bool, error: BaseException | None = None) -> None:
        """Call the event's methods, whatever any of them raises: all of them, or, if the scope's `before_` event was
        cut off (`entered` is False), those of the callbacks that it reached, without one that refused by an error.

        `error` is what ended the scope, other than its own Cancel. The first error is raised, with later ones as its
        notes; an error replaces Ctrl-C, either replaces a Cancel, and a Cancel in a cleanup is itself an error."""
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
        """The callbacks in order, up to and including the one whose method raised `error`; without it if it refused."""
        for cb, method in zip(self.callers[event], self.table[event]):
            if method is self.calling:
                refused = not (error is None or isinstance(error, (Cancel, KeyboardInterrupt)))
                return self.cbs[:next(k for k, one in enumerate(self.cbs) if one is cb) + (not refused)]
        return []


def _method(cb: Callback, event: str) -> Callable[[], None]:
    """The method as an object of its own, even if several callbacks share one static method or function."""
    method: Callable[[], None] = getattr(cb, event)
    return method if getattr(method, "__self__", None) is cb else partial(method)


def _joined(first: BaseException | None, raised: BaseException, where: str) -> BaseException:
    """Choose which of two errors is raised, and add the other to it as a note."""
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
    """Bracket a method of the learner: emit before_, call it, emit after_. A Cancel of this scope ends it wherever
    it is raised; one in after_ waits for the other callbacks. cleanup_ always runs, for all that before_ reached."""
    cancel, before, after, cleanup = CANCEL[name], f"before_{name}", f"after_{name}", f"cleanup_{name}"

    def bracket(method: Callable[..., None]) -> Callable[..., None]:
        @wraps(method)
        def scoped(self: Learner, *args: object) -> None:
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

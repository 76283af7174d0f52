"""Several callbacks as one, and what they ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastdqn.callbacks.callback import EVENTS, Callback
from fastdqn.config.checks import shown
from fastdqn.errors import ConfigError

OnLog = Callable[[Mapping[str, float]], bool | None]


class CallbackList:
    """Tells each of them what it wants to hear, in their order.

    Args:
        callbacks: As of :func:`as_callbacks`.
    """

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        callbacks = as_callbacks(callbacks)
        self.stopped_by: str | None = None  # the event at which one first asked to stop
        self._listeners = {
            event: [getattr(c, event) for c in callbacks if _hears(c, event)] for event in EVENTS
        }

    def hear(self, event: str) -> bool:
        """Whether anyone does."""
        return bool(self._listeners[event])

    def tell(self, event: str, *what: Any) -> None:
        """Tell all who want to hear it; each is told, whatever the ones before ask for."""
        for listener in self._listeners[event]:
            if _asks_to_stop(listener, listener(*what)) and self.stopped_by is None:
                self.stopped_by = event


class FromFunction(Callback):
    """The ``on_log`` of somebody who wants no more than that."""

    def __init__(self, on_log: OnLog) -> None:
        self.on_log = on_log  # type: ignore[assignment, method-assign]


def _asks_to_stop(listener: Callable[..., Any], answer: Any) -> bool:
    try:
        return bool(answer)
    except (TypeError, ValueError, RuntimeError):  # of an array, of a tensor
        name = getattr(listener, "__qualname__", repr(listener))
        raise ConfigError(
            f"{name} returned {shown(answer)}; return True to stop the run, or nothing."
        ) from None


def _hears(callback: Callback, event: str) -> bool:
    own = getattr(callback, event)
    return getattr(own, "__func__", own) is not getattr(Callback, event)


def as_callbacks(callbacks: Any, on_log: Any = None) -> list[Callback]:
    """What was passed to ``train``, as a list of callbacks.

    Args:
        callbacks: Instances of subclasses of :class:`Callback`, or one.
        on_log: A function of a row of metrics.csv, or None.

    Raises:
        ConfigError: Where one is something else.
    """
    if isinstance(on_log, Callback):
        raise ConfigError("on_log is a callback; pass it in callbacks.")
    if on_log is not None:
        if not callable(on_log):
            raise ConfigError(
                f"on_log = {on_log!r} is no function; pass one of a row of metrics.csv."
            )
        return [FromFunction(on_log), *as_callbacks(callbacks)]
    if isinstance(callbacks, Callback):
        return [callbacks]  # one alone has one meaning
    if isinstance(callbacks, str) or not isinstance(callbacks, Iterable):
        raise ConfigError(f"callbacks = {shown(callbacks)} is no list of callbacks; pass one.")
    found = list(callbacks)
    for callback in found:
        if isinstance(callback, type) and issubclass(callback, Callback):
            raise ConfigError(
                f"callbacks has the class {callback.__name__}; pass an instance of it: "
                f"{callback.__name__}(...)."
            )
        if not isinstance(callback, Callback):
            raise ConfigError(
                f"callbacks has {shown(callback)}, which is no fastdqn.Callback; pass functions of "
                f"a row as on_log."
            )
    return found

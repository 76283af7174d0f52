"""A stream whose calls a watchdog looks at."""

from __future__ import annotations

from typing import Any, cast

from fastdqn.envs.stream import EnvStream
from fastdqn.system.watchdog import Watchdog
from fastdqn.types import Array, TimeStep


def watched(envs: EnvStream, watchdog: Watchdog, name: str) -> EnvStream:
    """``envs`` with every call watched; ``name`` is theirs, for the message."""
    return cast(EnvStream, WatchedStream(envs, watchdog, name))


class WatchedStream:
    """A stream whose calls a watchdog looks at; everything else is the stream's own.

    Args:
        envs: The stream.
        watchdog: Who looks.
        name: Of the envs, for the message.
    """

    def __init__(self, envs: EnvStream, watchdog: Watchdog, name: str) -> None:
        self._watched, self._watchdog = envs, watchdog
        self._names = {call: f"{call}() of {name}" for call in ("reset", "send", "recv", "close")}
        self._names["recv"] = f"A step of {name}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watched, name)

    def reset(self, *, seed: int | None = None) -> TimeStep:
        """Start every env anew."""
        dog = self._watchdog
        dog.what, dog.since = self._names["reset"], dog.now
        try:
            return self._watched.reset(seed=seed)
        finally:
            dog.since = None

    def send(self, actions: Array) -> None:
        """Hand over actions."""
        dog = self._watchdog
        dog.what, dog.since = self._names["send"], dog.now
        try:
            self._watched.send(actions)
        finally:
            dog.since = None

    def recv(self) -> TimeStep:
        """Wait for the rows."""
        dog = self._watchdog
        dog.what, dog.since = self._names["recv"], dog.now
        try:
            return self._watched.recv()
        finally:
            dog.since = None

    def step(self, actions: Array) -> TimeStep:
        """Both."""
        self.send(actions)
        return self.recv()

    def close(self) -> None:
        """Release the envs."""
        dog = self._watchdog
        dog.what, dog.since = self._names["close"], dog.now
        try:
            self._watched.close()
        finally:
            dog.since = None

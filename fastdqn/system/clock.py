"""Seconds of a whole run, and of training alone; and those in which a process was awake."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Awake:
    """Seconds in which this process was not stopped (by Ctrl-Z, or with the whole machine).

    It must be looked at often: what goes by between two looks counts for two ticks at the most.

    Args:
        tick_s: How often somebody looks.
    """

    def __init__(self, tick_s: float) -> None:
        self.tick_s, self._seconds = tick_s, 0.0
        self._last = time.monotonic()

    def look(self) -> float:
        """The seconds since it was made."""
        now = time.monotonic()
        self._seconds += min(now - self._last, 2 * self.tick_s)
        self._last = now
        return self._seconds


class Clock:
    """Counts wall time from when it is made, training time between start and pauses.

    Both go on after a resume.

    Args:
        train_s: Training time before a resume.
        wall_s: Wall time before a resume.
    """

    def __init__(self, train_s: float = 0.0, wall_s: float = 0.0) -> None:
        self._train_s, self._wall_s = train_s, wall_s
        self._began = self._resumed = time.perf_counter()
        self._running = False

    def start(self) -> None:
        """Count as training from now on."""
        self._resumed, self._running = time.perf_counter(), True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count this as training."""
        self._train_s, self._running = self.train_s, False
        try:
            yield
        finally:
            self.start()

    @property
    def train_s(self) -> float:
        """Seconds of training."""
        running = time.perf_counter() - self._resumed if self._running else 0.0
        return self._train_s + running

    @property
    def wall_s(self) -> float:
        """Seconds of the whole run."""
        return self._wall_s + time.perf_counter() - self._began

    def state_dict(self) -> dict[str, float]:
        """Both times."""
        return {"train_s": self.train_s, "wall_s": self.wall_s}

"""What may end a run before its time: a signal, or the seconds that it was given."""

from __future__ import annotations

import math
import time

from fastdqn.system.signals import EXIT_CODES, StopSignals

OUT_OF_TIME = "max_wall_s"
"""What :attr:`StopRequest.name` says once ``max_wall_s`` is over."""

GO_ON_CODES = {**EXIT_CODES, OUT_OF_TIME: 124}
"""Exit codes of runs that were stopped and want to go on; 124 is that of timeout(1)."""


class StopRequest:
    """Whether somebody or something wants a run to stop after its current step, and what.

    Args:
        max_wall_s: Seconds from now on; None: as long as it takes.
    """

    def __init__(self, max_wall_s: float | None = None) -> None:
        self.signals: StopSignals | None = None
        self._end = math.inf if max_wall_s is None else time.monotonic() + max_wall_s

    @property
    def signal(self) -> str | None:
        """The signal that asks to stop, if one has arrived."""
        return None if self.signals is None else self.signals.name

    @property
    def name(self) -> str | None:
        """That signal, else ``"max_wall_s"`` where the time is up; None: go on."""
        if (name := self.signal) is not None:
            return name
        return OUT_OF_TIME if time.monotonic() >= self._end else None

    def signal_came(self) -> bool:
        """Whether a signal has arrived, or does so soon; see :meth:`StopSignals.came`."""
        return self.signals is not None and self.signals.came()

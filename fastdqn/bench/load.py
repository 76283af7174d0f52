"""Who else keeps the CPUs busy while a case is timed: Linux's counters less our own time."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fastdqn.system.host import ROOT, read_text, usable_cpus

BUSY_SHARE = 0.1
"""Of the usable CPUs; where others take more, the figures are doubtful."""
_SHORTEST_S = 0.3  # the kernel counts hundredths of a second, of each CPU
_IDLE, _IOWAIT, _GUEST, _GUEST_NICE = 3, 4, 8, 9  # guests are part of user time, too


class CpuWatch:
    """How many CPUs others keep busy, of those that this process may run on.

    What a hypervisor takes away counts as others'. Child processes count as others until they
    end.

    Args:
        root: Where ``proc`` is, for tests.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._last = self._now()

    def lap(self) -> float | None:
        """Mean over the time since the last lap; None where it is too short, or nobody counts."""
        before, self._last = self._last, self._now()
        elapsed = self._last[0] - before[0]
        if elapsed < _SHORTEST_S or before[1] is None or self._last[1] is None:
            return None
        ours = self._last[2] - before[2]
        return max(0.0, (self._last[1] - before[1] - ours) / elapsed)

    def _now(self) -> tuple[float, float | None, float]:
        return time.perf_counter(), busy_seconds(self._root), time.process_time()


def busy_seconds(root: Path = ROOT) -> float | None:
    """CPU seconds spent since the machine started, on the CPUs that we may use; None: unknown."""
    try:
        own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        tick = os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError):  # not Linux
        return None
    ticks, found = 0, False
    for line in read_text(root / "proc/stat").splitlines():
        name, *counts = line.split()
        if name in own:
            found = True
            kinds = (_IDLE, _IOWAIT, _GUEST, _GUEST_NICE)
            ticks += sum(int(count) for kind, count in enumerate(counts) if kind not in kinds)
    return ticks / tick if found and ticks else None


def is_busy(other_cpus: float | None) -> bool:
    """Whether others take so much that figures are doubtful."""
    return other_cpus is not None and other_cpus > BUSY_SHARE * usable_cpus()


def load_average(root: Path = ROOT) -> float | None:
    """Processes that ran or waited to run, on average over the last minute; None: unknown."""
    words = read_text(root / "proc/loadavg").split()
    return float(words[0]) if words else None


def said_before(root: Path = ROOT) -> str | None:
    """A line about a machine that is busy already; None: it is not."""
    load, cpus = load_average(root), usable_cpus()
    if load is None or load <= max(0.5, BUSY_SHARE * cpus):
        return None
    return (
        f"others may be busy: a load of {load:.1f} over the last minute on {cpus} CPUs; "
        "it takes longer, and figures are doubtful"
    )

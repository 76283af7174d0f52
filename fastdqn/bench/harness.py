"""Timing: warm up, then windows of the cases in turns, so that a slow minute hits all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastdqn.bench.workload import Workload

WINDOWS = 20
MIN_WINDOWS = 5
WARM_UP_FRACTION = 0.2  # of the time given to the windows

Timer = Callable[[Workload, int], float]  # seconds of so many repeats


@dataclass(frozen=True)
class Timing:
    """Microseconds per unit over the windows."""

    median: float
    p10: float
    p90: float
    windows: int
    repeats: int  # in each window
    us: tuple[float, ...] = ()  # of each window

    def to_json(self) -> dict[str, float]:
        """For the record."""
        return {"median": self.median, "p10": self.p10, "p90": self.p90}


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear between the two nearest ranks, as numpy's default."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def summarise(seconds: Sequence[float], repeats: int, units: int) -> Timing:
    """Seconds of each window as microseconds per unit."""
    return _timing([1e6 * s / (repeats * units) for s in seconds], repeats)


def together(rounds: Sequence[Timing]) -> Timing:
    """The windows of several rounds as those of one."""
    return _timing([us for timing in rounds for us in timing.us], rounds[-1].repeats)


def _timing(us: Sequence[float], repeats: int) -> Timing:
    p10, median, p90 = (percentile(us, percent) for percent in (10, 50, 90))
    return Timing(median, p10, p90, len(us), repeats, tuple(us))


def repeats_per_window(seconds_per_repeat: float, window_s: float) -> int:
    """How many fill a window, at least 1."""
    return max(1, round(window_s / max(seconds_per_repeat, 1e-9)))


def warm_up(workload: Workload, timer: Timer, seconds: float) -> float:
    """Run for so long, at least twice; seconds per repeat of the last, longest stretch."""
    deadline = time.perf_counter() + seconds
    repeats = 1
    taken = timer(workload, repeats)
    while True:
        taken = timer(workload, repeats)
        if time.perf_counter() >= deadline:
            return taken / repeats
        if taken < seconds / 8:
            repeats *= 2


def measure(
    workloads: Mapping[str, Workload],
    timer: Timer,
    *,
    seconds: float,
    windows: int = WINDOWS,
    smoke: bool = False,
) -> dict[str, Timing]:
    """Time workloads against each other: A B A B.

    Args:
        workloads: By name; they take turns in this order.
        timer: Seconds of so many repeats of one of them.
        seconds: For the windows of each; a workload of which one repeat takes longer than a
            window gets fewer windows, but at least five.
        windows: Of each, at most.
        smoke: Two windows of one repeat each, and no warming up.
    """
    plan: dict[str, tuple[int, int]] = {}  # windows, repeats
    for name, workload in workloads.items():
        if smoke:
            plan[name] = (2, 1)
            continue
        each = warm_up(workload, timer, seconds * WARM_UP_FRACTION)
        repeats = repeats_per_window(each, seconds / windows)
        fit = int(seconds / (each * repeats))
        plan[name] = (max(MIN_WINDOWS, min(windows, fit)), repeats)
    for workload in workloads.values():
        workload.begin()
    taken: dict[str, list[float]] = {name: [] for name in workloads}
    for turn in range(max(most for most, _ in plan.values())):
        for name, workload in workloads.items():
            most, repeats = plan[name]
            if turn < most:
                taken[name].append(timer(workload, repeats))
    return {
        name: summarise(taken[name], plan[name][1], workload.units)
        for name, workload in workloads.items()
    }

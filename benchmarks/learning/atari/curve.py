"""A run's learning curve, row by row of its metrics.csv, and what is read off it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastdqn.errors import ConfigError
from fastdqn.runs.reader import read_columns

Curve = Mapping[str, Sequence[float | None]]
"""Columns ``env_steps``, ``updates``, ``wall_s``, at the end of each period, and of the training
episodes that ended within it how many (``episodes``) and their mean return (None: none did)."""


def read_curve(metrics: Path, window: int) -> Curve:
    """The curve of a run whose mean return is that of all its episodes so far.

    Args:
        metrics: The run's metrics.csv.
        window: Its ``stop_window``.

    Raises:
        ConfigError: Where it played more episodes than that.
    """
    columns: dict[str, list[float | None]] = {
        name: [] for name in ("env_steps", "updates", "wall_s", "episodes", "return")
    }
    found = read_columns(metrics)
    count, total = 0, 0.0
    names = ("env_steps", "updates", "wall_s", "episodes", "return_mean")
    for steps, updates, wall_s, episodes, mean in zip(
        *(found.get(name, []) for name in names), strict=True
    ):
        now = int(episodes)
        if now > window:
            raise ConfigError(f"{now} episodes are more than stop_window = {window}; raise it.")
        sum_now = now * mean if now else 0.0
        new = now - count
        columns["env_steps"].append(int(steps))
        columns["updates"].append(int(updates))
        columns["wall_s"].append(round(wall_s, 1))
        columns["episodes"].append(new)
        # metrics.csv has seven digits: what is left of the sums' is about three.
        columns["return"].append(round((sum_now - total) / new, 3) if new else None)
        count, total = now, sum_now
    return columns


def mean_return(curve: Curve, first: float, last: float) -> float:
    """Of the episodes that ended after ``first`` and up to ``last`` env steps; NaN: none did."""
    episodes = total = 0.0
    for steps, count, value in zip(
        curve["env_steps"], curve["episodes"], curve["return"], strict=True
    ):
        if steps is not None and first < steps <= last and count and value is not None:
            episodes += count
            total += count * value
    return total / episodes if episodes else math.nan


def first_at(curve: Curve, level: float, episodes: int = 20) -> int | None:
    """The row at which the mean of the newest episodes reaches a level for the first time.

    The newest are those of the fewest last rows that have so many together; None: never.
    """
    periods = list(zip(curve["episodes"], curve["return"], strict=True))
    for row in range(len(periods)):
        count = total = 0.0
        for number, value in reversed(periods[: row + 1]):
            if number and value is not None:
                count += number
                total += number * value
            if count >= episodes:
                break
        if count >= episodes and total / count >= level:
            return row
    return None

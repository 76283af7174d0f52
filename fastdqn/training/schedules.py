"""Values that depend on the clock: pure functions of a step count (epsilon, beta, step size)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, SupportsFloat

import numpy as np

from fastdqn.config.arguments import check_argument
from fastdqn.config.checks import shown
from fastdqn.config.config import Config
from fastdqn.config.ranges import Range
from fastdqn.errors import ConfigError

_NAMES = ("step", "start", "end", "begin", "duration")


def linear_schedule(step: float, start: float, end: float, begin: float, duration: float) -> float:
    """From ``start`` at ``begin`` to ``end`` at ``begin + duration``, constant outside.

    Args:
        step: Where on the clock, e.g. env steps so far.
        start: The value up to ``begin``.
        end: The value from ``begin + duration`` on.
        begin: Where the change begins.
        duration: How long it takes; 0 or less: none, the value jumps.

    Raises:
        ConfigError: Where an argument is no number.
    """
    try:
        if duration <= 0:
            return end if step >= begin else start
        fraction = min(max((step - begin) / duration, 0.0), 1.0)
        return (1.0 - fraction) * start + fraction * end  # exact at both ends
    except (TypeError, ValueError):  # the latter of arrays
        raise _no_number(step, start, end, begin, duration) from None


def exponential_schedule(
    step: float, start: float, end: float, begin: float, duration: float
) -> float:
    """``end + (start - end) exp(-(step - begin) / duration)``, constant before ``begin``.

    Args:
        step: Where on the clock, e.g. env steps so far.
        start: The value up to ``begin``.
        end: What it comes close to: 63 % of the way after one ``duration``, 95 % after three.
        begin: Where the change begins.
        duration: Time constant, above 0.

    Raises:
        ConfigError: Where an argument is no number, or the duration not above 0.
    """
    try:
        if duration > 0:
            return end + (start - end) * math.exp(-max(step - begin, 0.0) / duration)
    except (TypeError, ValueError):  # the latter of arrays
        raise _no_number(step, start, end, begin, duration) from None
    raise ConfigError(f"duration = {duration!r} is out of range; use a number above 0.")


def _no_number(*numbers: object) -> ConfigError:
    given = zip(_NAMES, numbers, strict=True)
    for name, value in given:
        if not isinstance(value, SupportsFloat) or np.ndim(value):  # type: ignore[arg-type]
            return ConfigError(f"{name} = {shown(value)} is no number; use one.")
    return ConfigError(f"{', '.join(_NAMES)} = {shown(numbers)} are no numbers; use some.")


Schedule = Callable[[int], float]
"""Of the env steps so far."""

_RANGES = {"epsilon": Range(0.0, 1.0), "beta": Range(0.0, 1.0), "learning_rate": Range(0.0)}

SCHEDULES = {"linear": linear_schedule, "exponential": exponential_schedule}


class Schedules:
    """What a run's clock determines, from its configuration alone, or as somebody assigns it."""

    COLUMNS = ("epsilon",)

    epsilon: Schedule
    beta: Schedule
    learning_rate: Schedule

    def __init__(self, config: Config) -> None:
        self.config = config
        self.end = config.schedules_end_env_steps
        """Env step at which those end that last as long as the run."""
        # Those of the configuration are in range, and free.
        vars(self).update(epsilon=self._epsilon, beta=self._beta, learning_rate=self._learning_rate)

    def __setattr__(self, name: str, value: Any) -> None:
        """Take somebody's schedule, a function or a number; what it returns is checked."""
        super().__setattr__(name, _checked(name, value) if name in _RANGES else value)

    def _epsilon(self, env_steps: int) -> float:
        """Chance of a random action."""
        c = self.config
        schedule = SCHEDULES[c.epsilon_schedule]
        begin, duration = c.learning_starts_env_steps, c.epsilon_duration_env_steps
        return schedule(env_steps, c.epsilon_start, c.epsilon_end, begin, duration)

    def _beta(self, env_steps: int) -> float:
        """Exponent of the importance weights."""
        c = self.config
        return linear_schedule(env_steps, c.priority_beta_start, c.priority_beta_end, 0, self.end)

    def _learning_rate(self, env_steps: int) -> float:
        """Step size."""
        c = self.config
        if c.learning_rate_final is None:
            return c.learning_rate
        return linear_schedule(env_steps, c.learning_rate, c.learning_rate_final, 0, self.end)


def _checked(name: str, schedule: Any) -> Schedule:
    """Somebody's schedule; it raises a ConfigError where it is none or leaves its range."""

    def number(said: str, value: Any) -> float:
        if getattr(value, "ndim", None) == 0:  # numpy's and torch's
            value = value.item()
        return float(check_argument(said, value, float, _RANGES[name]))

    if not callable(schedule):
        value = number(f"schedules.{name}", schedule)
        return lambda env_steps: value
    return lambda env_steps: number(f"schedules.{name}({env_steps})", schedule(env_steps))

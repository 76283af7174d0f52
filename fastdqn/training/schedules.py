"""Values that depend on the clock: pure functions of a step count (epsilon, beta, step size)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import SupportsFloat

import numpy as np

from fastdqn.config.checks import shown
from fastdqn.config.config import Config
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

SCHEDULES = {"linear": linear_schedule, "exponential": exponential_schedule}


class Schedules:
    """What a run's clock determines, from its configuration alone."""

    COLUMNS = ("epsilon",)

    def __init__(self, config: Config) -> None:
        self.config = config
        # Attributes, so that somebody may assign another: see LiveRun.
        self.epsilon: Schedule = self._epsilon
        self.beta: Schedule = self._beta
        self.learning_rate: Schedule = self._learning_rate
        self.end = config.schedules_end_env_steps
        """Env step at which those end that last as long as the run."""

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

"""Values that depend on the clock: pure functions of a step count (epsilon, beta, step size)."""

from __future__ import annotations

import math


def linear_schedule(step: float, start: float, end: float, begin: float, duration: float) -> float:
    """From ``start`` at ``begin`` to ``end`` at ``begin + duration``, constant outside."""
    if duration <= 0:
        return end if step >= begin else start
    fraction = min(max((step - begin) / duration, 0.0), 1.0)
    return (1.0 - fraction) * start + fraction * end  # exact at both ends


def exponential_schedule(
    step: float, start: float, end: float, begin: float, duration: float
) -> float:
    """``end + (start - end) exp(-(step - begin) / duration)``, constant before ``begin``."""
    return end + (start - end) * math.exp(-max(step - begin, 0.0) / duration)


SCHEDULES = {"linear": linear_schedule, "exponential": exponential_schedule}

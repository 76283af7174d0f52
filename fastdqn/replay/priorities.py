"""Bounds within which every leaf, every sum of leaves and every weight is a normal float32.

A leaf is ``(priority + epsilon)^alpha`` with alpha from 0 to 1. Epsilon is at least 1e-12, above
2^-40, and a priority counts as at most 2^86, so a leaf lies between 2^-40 and 2^86. As many leaves
as a replay may have, 2^40, sum to at most 2^126. A weight, ``(smallest / leaf)^beta`` with beta
from 0 to 1, is at least 2^-126, the smallest float32 that no processor flushes to 0.

Nothing is lost: alpha is 0.5 to 0.7 in the literature (Schaul 2016), where above 1 the largest
errors would crowd out all others, and a TD error of 2^86 is that of a network gone astray.
"""

from __future__ import annotations

from fastdqn.config.arguments import check_argument
from fastdqn.errors import ConfigError

LARGEST_PRIORITY = 2.0**86
_RANGES = {"alpha": (0.0, 1.0), "priority_epsilon": (1e-12, 1.0)}


def check_exponent_and_epsilon(alpha: float, priority_epsilon: float) -> None:
    """Raise ConfigError where one of them is out of its range."""
    values = {"alpha": alpha, "priority_epsilon": priority_epsilon}
    for name, (low, high) in _RANGES.items():
        if not isinstance(values[name], float):
            check_argument(name, values[name], float)
        if not low <= values[name] <= high:  # also refuses NaN
            raise ConfigError(
                f"{name} = {values[name]!r} is out of range; use a number from {low:g} to {high:g}."
            )

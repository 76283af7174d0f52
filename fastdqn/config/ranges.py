"""The numbers that a field may hold; a range stands with its field, in the type's annotation."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, both allowed.

    Args:
        low: The lowest number.
        high: The highest; infinity: any finite number from ``low`` on.
        open_low: Only numbers above ``low``.
    """

    low: float
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        """Whether the number lies in it; NaN never does."""
        return (self.low < value if self.open_low else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        """As an error message says it."""
        if self.open_low:
            end = "" if math.isinf(self.high) else f" and at most {_number(self.high)}"
            return f"a number above {_number(self.low)}{end}"
        end = "" if math.isinf(self.high) else f" to {_number(self.high)}"
        return f"a number from {_number(self.low)}{end}"


ABOVE_ZERO = Range(0.0, open_low=True)
TEMPERATURES = Range(1e-6, 1e6)
"""Of soft policies, in float32."""


def are_apart(low: float, high: float, count: int) -> bool:
    """Whether so many numbers from ``low`` to ``high``, evenly spaced, differ in float32."""
    return (high - low) / (count - 1) > max(1e-30, 2**-23 * max(abs(low), abs(high)))


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:g}"

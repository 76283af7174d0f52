"""Whether a case has changed: a t interval for the ratio of two times, from rounds apart in time.

A result holds the median of each round of a case. Rounds are minutes apart and make everything
anew, so that they differ by what two launches of the same code differ by, too: the windows of one
round, which are seconds apart, differ by less.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SMALLEST_SD = 0.01
"""Of the log of a round's median: what a few rounds show by chance is never taken for less."""
# Student's t, 97.5 %, by degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Change:
    """Time of the new over time of the old, with its interval of 95 %."""

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``faster``, ``slower``, or ``within noise`` where the interval holds 1."""
        if self.low <= 1 <= self.high:
            return "within noise"
        return "faster" if self.high < 1 else "slower"


def change(old: Sequence[float], new: Sequence[float]) -> Change | None:
    """Student's two-sample interval on the logs of the rounds: one variance for both.

    ``log ratio = mean(log new) - mean(log old)``, plus and minus
    ``t(n + m - 2) * s * sqrt(1/n + 1/m)``, with ``s`` the pooled standard deviation, at least
    :data:`SMALLEST_SD`.

    Args:
        old: Medians of its rounds.
        new: Likewise.

    Returns:
        None where both have one round: nothing is known of the noise.
    """
    logs = [[math.log(us) for us in rounds] for rounds in (old, new)]
    freedom = len(old) + len(new) - 2
    if freedom < 1:
        return None
    squares = sum((x - statistics.fmean(rounds)) ** 2 for rounds in logs for x in rounds)
    deviation = max(SMALLEST_SD, math.sqrt(squares / freedom))
    half = student(freedom) * deviation * math.sqrt(1 / len(old) + 1 / len(new))
    log = statistics.fmean(logs[1]) - statistics.fmean(logs[0])
    return Change(math.exp(log), math.exp(log - half), math.exp(log + half))


def student(freedom: int) -> float:
    """Of how many standard errors 95 % of estimates are within."""
    return _T[min(freedom, len(_T)) - 1]

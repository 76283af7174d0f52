"""What several runs say together: mean, median, interquartile mean, and how sure that is.

As in Agarwal 2021, "Deep reinforcement learning at the edge of the statistical precipice" (arXiv
2108.13264). x[g, k] is the score of run k of game g, of R runs and G games:

* mean: 1/G sum_g (1/R sum_k x[g, k])
* median: of one game that of its runs; of several the median over g of 1/R sum_k x[g, k]
* interquartile mean (IQM): the mean of the middle half of all G R scores; floor(G R / 4) of them
  are left out at each end, so that of fewer than four it is the mean

Intervals are percentiles of a bootstrap (Efron 1979) that draws the R runs of each game anew, with
replacement, and keeps the games (stratified): 2.5 % and 97.5 % of the statistic's values. They are
the same at every call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_RUNS = 3
"""Of an interval: what one or two runs would do anew is not known."""

RESAMPLES = 20_000

Scores = Sequence[float] | np.ndarray
Statistic = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Maps scores [..., R] of each game, whose R may differ, to [...]."""


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95 % interval; NaN where there are too few runs for one."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        """Whether there were enough runs for one."""
        return math.isfinite(self.low + self.high)


def mean(games: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over games of the mean over runs, [..., R] each to [...]."""
    return np.mean([scores.mean(axis=-1) for scores in games], axis=0)


def median(games: Sequence[np.ndarray]) -> np.ndarray:
    """Of one game the median of its runs; of several that of their means, [..., R] to [...]."""
    if len(games) == 1:
        return np.median(games[0], axis=-1)
    return np.median([scores.mean(axis=-1) for scores in games], axis=0)


def interquartile_mean(games: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the middle half of all scores, of every game and run alike, [..., R] to [...]."""
    ordered = np.sort(np.concatenate(games, axis=-1), axis=-1)
    out = ordered.shape[-1] // 4
    return ordered[..., out : ordered.shape[-1] - out].mean(axis=-1)


def estimate(games: Sequence[Scores], statistic: Statistic) -> Estimate:
    """A statistic of the scores, with its interval where every game has enough runs.

    Args:
        games: The scores of each game, one for each of its runs.
        statistic: :func:`mean`, :func:`median` or :func:`interquartile_mean`.
    """
    value = float(statistic([np.asarray(scores, float) for scores in games]))
    if min(map(len, games)) < FEWEST_RUNS:
        return Estimate(value)
    return Estimate(value, *interval(games, statistic))


def interval(
    games: Sequence[Scores],
    statistic: Statistic,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % stratified bootstrap interval of a statistic.

    Args:
        games: The scores of each game, one for each of its runs.
        statistic: Of them.
        resamples: How often runs are drawn anew.
        seed: Of these draws.
    """
    generator = np.random.default_rng(seed)
    drawn = [
        np.asarray(scores, float)[generator.integers(len(scores), size=(resamples, len(scores)))]
        for scores in games
    ]
    low, high = np.percentile(statistic(drawn), [2.5, 97.5])
    return float(low), float(high)


def mean_intervals(values: np.ndarray, *, resamples: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % bootstrap interval of the mean at every point of a curve, the runs drawn whole.

    Args:
        values: Of R runs at P points, [R, P].
        resamples: How often runs are drawn anew.

    Returns:
        Its lower and its upper end, [P] each.
    """
    runs = len(values)
    drawn = np.random.default_rng(0).integers(runs, size=(resamples, runs))
    weights = np.stack([np.bincount(row, minlength=runs) for row in drawn]) / runs
    low, high = np.percentile(weights @ values, [2.5, 97.5], axis=0)
    return low, high

"""Scores of several games as one number: human-normalised, interquartile means, intervals.

As in rliable (Agarwal 2021, arXiv 2108.13264).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# Mean scores of random play and of a person (Mnih 2015; Wang 2016).
RANDOM_AND_HUMAN = {
    "Boxing": (0.1, 12.1),
    "Breakout": (1.7, 30.5),
    "Freeway": (0.0, 29.6),
    "Krull": (1598.0, 2665.5),
    "Pong": (-20.7, 14.6),
    "RoadRunner": (11.5, 7845.0),
}


def human_normalised(game: str, score: float) -> float:
    """0 for random play, 1 for a person."""
    random, human = RANDOM_AND_HUMAN[game]
    return (score - random) / (human - random)


def interquartile_mean(scores: Sequence[float] | np.ndarray) -> float:
    """The mean of the middle half of all scores, of every game and seed alike.

    A quarter of them, rounded down, is left out at each end, as scipy's ``trim_mean`` does.
    """
    ordered = np.sort(np.asarray(scores, float), axis=None)
    out = len(ordered) // 4
    return float(ordered[out : len(ordered) - out].mean())


def interval(
    games: Mapping[str, Sequence[float]], repetitions: int = 20_000, seed: int = 0
) -> tuple[float, float]:
    """95 % of the interquartile means where the seeds of each game are drawn anew (stratified).

    Percentiles of a bootstrap (Efron 1979), the same at every call.
    """
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            np.asarray(scores, float)[
                generator.integers(len(scores), size=(repetitions, len(scores)))
            ]
            for scores in games.values()
        ],
        axis=1,
    )
    ordered = np.sort(drawn, axis=1)
    out = ordered.shape[1] // 4
    means = ordered[:, out : ordered.shape[1] - out].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)

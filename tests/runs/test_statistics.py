"""Mean, median, interquartile mean and their intervals: by hand, by plain loops, by properties."""

import itertools
import math
import random
import statistics as plain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdqn.runs.statistics import (
    Estimate,
    estimate,
    interquartile_mean,
    interval,
    mean,
    mean_intervals,
    median,
)

FINITE = st.floats(-1e6, 1e6)
GAMES = st.lists(st.lists(FINITE, min_size=1, max_size=7), min_size=1, max_size=4)


def arrays(games):
    return [np.array(scores) for scores in games]


# --- oracles: plain loops from the formulas -------------------------------------------------------


def naive_iqm(games):
    scores = sorted(score for game in games for score in game)
    out = int(0.25 * len(scores))
    kept = scores[out : len(scores) - out]
    return math.fsum(kept) / len(kept)


def naive_mean(games):
    return plain.fmean(plain.fmean(game) for game in games)


def naive_median(games):
    return plain.median(games[0] if len(games) == 1 else [plain.fmean(game) for game in games])


NAIVE = {mean: naive_mean, median: naive_median, interquartile_mean: naive_iqm}


@pytest.mark.parametrize("statistic", NAIVE)
@given(games=GAMES)
def test_point_estimates_are_those_of_plain_loops(statistic, games):
    assert float(statistic(arrays(games))) == pytest.approx(NAIVE[statistic](games), abs=1e-6)


@pytest.mark.parametrize("statistic", NAIVE)
def test_many_resamples_at_once_are_one_by_one(statistic):
    rng = np.random.default_rng(0)
    games = [rng.normal(size=(6, runs)) for runs in (3, 5)]
    together = statistic(games)
    assert together.shape == (6,)
    for row, found in enumerate(together):
        expected = NAIVE[statistic]([list(game[row]) for game in games])
        assert found == pytest.approx(expected)


def test_interquartile_means_by_hand():
    # 9 scores: floor(9 / 4) = 2 left out at each end.
    assert interquartile_mean(arrays([[9, 1, 2, 3, 4, 5, 6, 7, 100]])) == 5
    assert interquartile_mean(arrays([[1, 2, 30]])) == 11, "of three it is the mean"
    assert interquartile_mean(arrays([[0, 2, 4, 100]])) == 3
    assert interquartile_mean(arrays([[0, 100], [2, 4]])) == 3, "whatever game they are of"


def test_means_and_medians_of_several_games_by_hand():
    games = arrays([[0, 2], [10], [100, 200, 300]])  # means 1, 10, 200
    assert mean(games) == pytest.approx(211 / 3)
    assert median(games) == 10
    assert median(arrays([[5, 1, 3]])) == 3


# --- intervals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", NAIVE)
def test_an_interval_is_that_of_every_resample(statistic):
    """All 4^4 resamples of one game, by plain loops."""
    scores = [0.0, 1.0, 5.0, 20.0]
    every = [NAIVE[statistic]([draw]) for draw in itertools.product(scores, repeat=4)]
    low, high = np.percentile(every, [2.5, 97.5])
    assert interval([scores], statistic) == pytest.approx((low, high), abs=0.3)


def test_runs_are_drawn_within_their_game():
    """Against a plain bootstrap of two games, whose scores a mixture would confuse."""
    games = [[0.0, 1.0, 2.0], [100.0, 130.0, 160.0, 190.0]]
    generator = random.Random(0)
    every = [
        naive_mean([generator.choices(game, k=len(game)) for game in games]) for _ in range(20_000)
    ]
    low, high = np.percentile(every, [2.5, 97.5])
    assert interval(games, mean) == pytest.approx((low, high), abs=1.0)
    assert interval([[0.0], [1.0]], interquartile_mean) == (0.5, 0.5), "nothing to draw"
    # Of game a: 0 and 0, one of each, 0.4 and 0.4; the middle two of four scores are a's larger
    # one and a 1, where games are not mixed.
    found = interval([[0.0, 0.4], [1.0, 1.0]], interquartile_mean)
    assert found == pytest.approx((0.5, 0.7))


def test_an_interval_is_the_same_at_every_call():
    scores = [[0.0, 1.0, 5.0]]
    assert interval(scores, mean, resamples=500) == interval(scores, mean, resamples=500)
    assert interval(scores, mean, resamples=50) != interval(scores, mean, resamples=50, seed=1)


def test_of_three_runs_the_mean_may_lie_anywhere_between_them():
    """All resamples alike are 1 in 27, more than 2.5 %: the page says so."""
    low, high = interval([[1.0, 2.0, 7.0]], mean)
    assert (low, high) == (1, 7)


@pytest.mark.parametrize(
    ("games", "has"),
    [([[1.0]], False), ([[1.0, 2.0]], False), ([[1.0, 2.0, 3.0]], True),
     ([[1.0, 2.0, 3.0], [1.0, 2.0]], False), ([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], True)],
)  # fmt: skip
def test_too_few_runs_get_no_interval(games, has):
    found = estimate(games, interquartile_mean)
    assert found.value == pytest.approx(naive_iqm(games))
    assert found.has_interval is has
    if has:
        assert found.low <= found.value <= found.high


def test_an_estimate_without_an_interval():
    assert not Estimate(1.0).has_interval and Estimate(1.0, 0.0, 2.0).has_interval


@given(
    scores=st.lists(FINITE, min_size=3, max_size=6),
    scale=st.floats(0.1, 10),
    shift=st.floats(-10, 10),
)
def test_an_interval_lies_within_the_scores_and_moves_with_them(scores, scale, shift):
    low, high = interval([scores], mean, resamples=200)
    slack = 1e-6
    assert min(scores) - slack <= low <= high <= max(scores) + slack
    moved = interval([[scale * score + shift for score in scores]], mean, resamples=200)
    assert moved == pytest.approx((scale * low + shift, scale * high + shift), abs=1e-3)


def test_the_interval_of_a_curve_draws_runs_whole():
    values = np.array([[0.0, 10.0], [1.0, 9.0], [2.0, 8.0], [3.0, 7.0], [4.0, 6.0]])
    low, high = mean_intervals(values)
    # What a resample adds at one point it takes away at the other.
    assert low[0] + high[1] == pytest.approx(10) and high[0] + low[1] == pytest.approx(10)
    assert low[0] < 2 < high[0]

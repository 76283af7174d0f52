"""docs/howto/papers-and-seeds.md: its commands and options exist, its numbers hold."""

import re
from pathlib import Path

import numpy as np
from helpers.advice_checks import options_of

from fastdqn.cli.main import COMMANDS
from fastdqn.reporting.films import MOST_BYTES
from fastdqn.runs.statistics import FEWEST_RUNS, interval, mean

PAGE = (Path(__file__).parents[1] / "docs/howto/papers-and-seeds.md").read_text(encoding="utf-8")


def test_commands_and_options_exist():
    commands = re.findall(r"^ *fastdqn (\w+) (.*)$", PAGE, flags=re.M)
    assert {name for name, _ in commands} == {"train", "plot", "report", "compare"} <= set(COMMANDS)
    for name, rest in commands:
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in options_of(name), (name, option)
    assert "--atari-protocol" in options_of("train")


def test_limits_are_those_of_the_code():
    assert FEWEST_RUNS == 3 and "of fewer than three runs, each run" in PAGE
    assert f"up to {MOST_BYTES // 10**6} MB in all" in PAGE


def test_intervals_hold_the_mean_as_often_as_the_table_says():
    """That of 4 runs, within the error of 400 tries: three times sqrt(.79 * .21 / 400)."""
    runs, shares = (
        [int(cell) for cell in re.findall(r"\| (\d+)", line)]
        for line in re.findall(r"^\| (?:runs|of 100 intervals) .*$", PAGE, flags=re.M)
    )
    table = dict(zip(runs, shares, strict=True))
    generator = np.random.default_rng(2)
    held = 0
    for scores in generator.normal(size=(400, 4)):
        low, high = interval([scores], mean, resamples=1_000)
        held += low <= 0 <= high
    assert abs(held / 400 - table[4] / 100) < 0.06

"""The page on Atari says what the result file holds."""

import json
from pathlib import Path

from benchmarks.learning.atari.curve import mean_return
from benchmarks.learning.atari.table import table
from benchmarks.result_file import RESULTS

PAGE = (Path(__file__).parent.parent / "docs" / "atari.md").read_text(encoding="utf-8")
RUNS = json.loads((RESULTS / "atari.json").read_text(encoding="utf-8"))["runs"]


def test_the_table_is_that_of_the_result_file():
    found = PAGE.split("<!-- table -->\n")[1].split("\n<!-- end of table -->")[0]
    assert found == table(RUNS)


def test_the_comparison_of_padding_is_that_of_the_result_file():
    for task, padding in (("dqn-breakout", "valid"), ("dqn-breakout-padded", "same")):
        (run,) = [run for run in RUNS if (run["task"], run["seed"]) == (task, 1)]
        first = mean_return(run["curve"], 0, 250_000)
        line = f"| `init = xavier` | {padding} | {first:.2f} | {run['value']:.2f} |"
        assert f"{line} {run['env_steps'] / run['wall_s']:.0f} |" in PAGE

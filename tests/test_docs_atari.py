"""The page on Atari says what the result file holds."""

import json
import math
from pathlib import Path

from benchmarks.learning.atari.curve import mean_return
from benchmarks.learning.atari.table import table
from benchmarks.result_file import RESULTS

PAGE = (Path(__file__).parent.parent / "docs" / "atari.md").read_text(encoding="utf-8")
TUNING = json.loads((RESULTS / "pong-tuning.json").read_text(encoding="utf-8"))["runs"]
RUNS = json.loads((RESULTS / "atari.json").read_text(encoding="utf-8"))["runs"]
FIRST = (80_000, 140_000, 200_000, 240_000)


def test_the_table_is_that_of_the_result_file():
    found = PAGE.split("<!-- table -->\n")[1].split("\n<!-- end of table -->")[0]
    assert found == table(RUNS)


def test_the_comparison_of_padding_is_that_of_the_result_file():
    for task, padding in (("dqn-breakout", "valid"), ("dqn-breakout-padded", "same")):
        (run,) = [run for run in RUNS if (run["task"], run["seed"]) == (task, 1)]
        first = mean_return(run["curve"], 0, 250_000)
        line = f"| `init = xavier` | {padding} | {first:.2f} | {run['value']:.2f} |"
        assert f"{line} {run['env_steps'] / run['wall_s']:.0f} |" in PAGE


def test_the_rows_that_miss_in_one_seed_are_those_of_the_result_file():
    for task, run_of, millions in (
        ("dqn-breakout-3m", "DQN, Breakout", 3),
        ("qr-boxing", "QR-DQN, Boxing", 2),
    ):
        runs = [run for run in RUNS if run["task"] == task]
        assert [run["met"] for run in runs].count(False) == 1 and len(runs) == 2
        for run in runs:
            starts = range(0, millions * 250_000, 250_000)
            means = [mean_return(run["curve"], first, first + 250_000) for first in starts]
            cells = " | ".join(f"{value:.2f}" for value in means)
            assert f"| {run_of} | {run['seed']} | {cells} |" in PAGE
    one, three = (run["curve"] for run in RUNS if run["task"] == "dqn-breakout-3m")
    late = [mean_return(curve, 350_000, 400_000) for curve in (three, one)]
    assert "({:.1f} over 350,000-400,000, seed 1 {:.1f})".format(*late) in PAGE
    assert f"later: {mean_return(three, 700_000, 750_000):.1f} over its last 50,000" in PAGE
    more = [
        mean_return(run["curve"], 260_000, 500_000) - mean_return(run["curve"], 250_000, 490_000)
        for run in RUNS
        if run["task"] == "qr-boxing"
    ]
    assert "are {:.1f} (seed 1) and {:.1f} (seed 2) above".format(*more) in PAGE


def test_the_comparison_of_weights_on_road_runner_is_that_of_the_result_files():
    (plain,) = [run for run in RUNS if run["task"] == "der-roadrunner-torch"]
    (xavier,) = json.loads((RESULTS / "der-tuning.json").read_text(encoding="utf-8"))["runs"]
    (same_seed,) = [run for run in RUNS if (run["task"], run["seed"]) == ("der-roadrunner", 1)]
    finals = [(plain, "value"), (same_seed, "value"), (xavier, "eval_return_mean")]
    for run, name in finals:
        starts = range(0, 100_000, 20_000)
        means = [mean_return(run["curve"], first, first + 20_000) for first in starts]
        cells = " | ".join(f"{value:,.0f}" for value in (*means, run[name]))
        assert f"| `init = {run['config']['init']}` | {run['seed']} | {cells} |" in PAGE


def test_the_first_millions_of_frames_of_pong_are_those_of_the_result_file():
    runs = [run for run in RUNS if run["task"] == "pong"]
    (classic,) = [run for run in RUNS if run["task"] == "pong-classic"]
    for million in range(3):
        first, last = million * 250_000, (million + 1) * 250_000
        cells = " | ".join(f"{mean_return(run['curve'], first, last):.1f}" for run in runs)
        frames = f"{million}M-{million + 1}M" if million else "0-1M"
        (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {frames} |")]
        assert line.startswith(f"| {frames} | {cells} | ")
        assert line.endswith(f" | {mean_return(classic['curve'], first, last):.1f} |")


def test_what_sticky_actions_cost_is_that_of_the_result_file():
    rows = json.loads((RESULTS / "pong-sticky.json").read_text(encoding="utf-8"))["rows"]
    assert [row["sticky_actions"] for row in rows] == [0.0, 0.1, 0.25, 0.5]
    lines = [
        f"| {row['sticky_actions']:g} | {row['mean']:.1f} | {sum(r < 18 for r in row['returns'])} |"
        for row in rows
    ]
    assert "\n".join(lines) in PAGE
    (kept,) = [run for run in RUNS if (run["task"], run["seed"]) == ("pong", 6)]
    assert rows[2]["seed"] == kept["seed"] and rows[2]["mean"] == kept["value"]


def test_what_pong_was_chosen_from_is_that_of_the_result_file():
    lines = PAGE.split("\n| frames, network |")[1].split("\n\n")[0].splitlines()[2:]
    for line, run in zip(lines, TUNING, strict=True):
        curve, end = run["curve"], run["curve"]["env_steps"][-1]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        size, network = run["config"]["atari_frame_size"], run["config"]["network"]
        assert cells[0] == f"{size} x {size}, `{network}`"
        assert cells[2] == str(run["seed"])
        means = [mean_return(curve, first, first + 20_000) for first in FIRST]
        assert cells[3:7] == ["-" if math.isnan(mean) else f"{mean:.1f}" for mean in means]
        assert cells[7] == f"{end / curve['wall_s'][-1]:.0f}"

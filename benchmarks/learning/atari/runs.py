"""One run of a row: the command line of fastdqn in a directory, and its row of the result file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.learning import jobs
from benchmarks.learning.atari.curve import first_at, mean_return, read_curve
from benchmarks.learning.atari.rows import ROWS, Row
from fastdqn import Config

# Where and on what a run is, not what it learns.
_ELSEWHERE = (
    "seed", "run_dir", "resume", "lock_timeout_s", "device", "mode", "precision", "torch_threads",
    "env_threads",
)  # fmt: skip
FRAMES = 4  # per env step, in every row


def identity(config: Config) -> dict[str, Any]:
    """What a run must share with another to count as the same."""
    values = json.loads(config.to_json())
    return {name: value for name, value in values.items() if name not in _ELSEWHERE}


def is_done(rows: Sequence[jobs.Row], name: str, seed: int, config: Config) -> bool:
    """Whether a row of this run is there, of the same configuration.

    Unlike in the shorter benchmarks the code may have changed: hours are not spent again for a
    comment. The row holds the commit that it ran on.
    """
    return any(
        (row["task"], row["seed"]) == (name, seed) and identity_of(row) == identity(config)
        for row in rows
    )


def identity_of(row: jobs.Row) -> dict[str, Any]:
    """:func:`identity` of a row's configuration, with today's defaults of fields it lacks."""
    return identity(Config.from_json(json.dumps(row["config"])))


def run(name: str, seed: int, runs: Path, config: Config | None = None) -> jobs.Row:
    """Train one seed in ``runs/<name>-seed<seed>``, or go on there, and return its row.

    Raises:
        SystemExit: Where the run did not come to its end.
    """
    row, directory = ROWS[name], runs / f"{name}-seed{seed}"
    config = config or row.config
    if not is_over(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        file = directory.with_suffix(".json")
        file.write_text(config.replace(seed=seed).to_json(), encoding="utf-8")
        command = [sys.executable, "-m", "fastdqn", "train", "--config", str(file)]
        command += ["--run-dir", str(directory), "--resume", "auto"]
        with directory.with_suffix(".log").open("a", encoding="utf-8") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    if not is_over(directory):
        raise SystemExit(f"{name}, seed {seed}, did not end; see {directory.with_suffix('.log')}.")
    return row_of(name, seed, directory, config)


def is_over(directory: Path) -> bool:
    """Whether a run came to its last env step there."""
    path = directory / "summary.json"
    return path.exists() and json.loads(path.read_text())["stopped_by"] == "total_env_steps"


def row_of(name: str, seed: int, directory: Path, config: Config) -> jobs.Row:
    """What the result file holds of a run.

    Raises:
        SystemExit: Where another configuration ran in the directory.
    """
    ran = Config.from_json((directory / "config.json").read_text())
    if identity(ran) != identity(config) or ran.seed != seed:
        raise SystemExit(f"{directory} holds a run of another configuration; move it away.")
    summary = json.loads((directory / "summary.json").read_text())
    curve = read_curve(directory / "metrics.csv", ran.stop_window)
    found: jobs.Row = {"task": name, "seed": seed, "config": identity(ran)}
    session = json.loads((directory / "run.json").read_text())["sessions"][-1]
    found |= {"date": session["started"][:10], "git_commit": session["git_commit"]}
    found |= {"environment": {**session["host"], "versions": session["versions"]}}
    found |= {key: summary[key] for key in jobs.KEPT} | {"curve": curve}
    found["value"] = value = value_of(ROWS[name], summary, curve)
    bar = ROWS[name].bar
    found["met"] = None if bar is None else value >= bar
    if bar is not None and ROWS[name].window is None:
        found["reached_at"] = at(curve, first_at(curve, bar))
    return found


def value_of(row: Row, summary: dict[str, Any], curve: Any) -> float:
    """The number that is held against the published one."""
    if row.window is None:
        return float(summary["eval_return_mean"])
    first, last = (frames / FRAMES for frames in row.window)
    return mean_return(curve, first, last)


def at(curve: Any, place: int | None) -> dict[str, Any] | None:
    """Env steps, updates and seconds at a row of the curve."""
    if place is None:
        return None
    return {name: curve[name][place] for name in ("env_steps", "updates", "wall_s")}

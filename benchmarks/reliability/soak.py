"""An hour of training with evaluations and checkpoints: nothing grows, nothing slows down."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.reliability import Outcome
from fastdqn import Config, train

FIGURE = "1 h: memory grows < 0.1 %/h after warm-up, last tenth >= 98 % of the first tenth's speed"
SECONDS, SHORT_SECONDS = 3_600.0, 8.0
FRESH_SECONDS = 8.0


def run(short: bool) -> Outcome:
    """Train until the time is up.

    Speed is env steps per second of CPU time, so that waiting for a core does not count. Neighbours
    slow a CPU second down, too (caches, memory, clocks), so once a minute the run pauses, and a
    fresh process trains the same for some seconds: what counts is the run's speed beside theirs, in
    the last tenth against the first.
    """
    seconds = SHORT_SECONDS if short else SECONDS
    parts, pauses_per_part = (2, 1) if short else (10, 6)
    pause_every = seconds / parts / (pauses_per_part + 0.5)
    page = os.sysconf("SC_PAGE_SIZE")
    # wall s, CPU s, env steps, RSS bytes; resident before it is filled, or it would count as growth
    samples = np.full((100_000, 4), -1.0)
    rows = itertools.count()
    fresh: list[tuple[float, float]] = []  # wall s, env steps per CPU s
    began = time.perf_counter()
    paused = 0.0

    def on_log(row: dict[str, float]) -> bool:
        nonlocal paused
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
        wall = time.perf_counter() - began - paused
        samples[next(rows)] = wall, time.process_time(), row["env_steps"], resident
        if wall >= (len(fresh) + 1) * pause_every:
            before = time.perf_counter()
            fresh.append((wall, _fresh_speed(1.0 if short else FRESH_SECONDS)))
            paused += time.perf_counter() - before
        return wall > seconds

    with tempfile.TemporaryDirectory() as scratch:
        train(_config(str(Path(scratch) / "run")), on_log=on_log)  # type: ignore[arg-type]
    wall, cpu, steps, resident = samples[: next(rows)].T
    warm = wall > wall[-1] / 10
    slope = np.polyfit(wall[warm] / 3600, resident[warm], 1)[0] / resident[warm].mean()
    edges = np.linspace(0, wall[-1], parts + 1)
    edges[0] = edges[1] / 10  # without the start, before learning
    at = np.searchsorted(wall, edges).clip(max=len(wall) - 1)
    speeds = np.diff(steps[at]) / np.diff(cpu[at])
    when, others = np.array(fresh).T
    beside = [
        float(np.median(others[(when > low) & (when <= high)]))
        for low, high in itertools.pairwise(edges)
    ]
    relative = speeds / beside
    last = relative[-1] / relative[0]
    return Outcome(
        f"{wall[-1] / 60:.0f} min, {steps[-1]:,.0f} env steps: memory {slope:+.3%}/h of "
        f"{resident[warm].mean() / 1e6:.0f} MB, speed {last:.1%} beside fresh processes "
        f"({speeds[-1] / speeds[0]:.1%} by itself)",
        bool(slope < 0.001 and last >= 0.98) or short,
        {
            "rss_slope_per_h": float(slope),
            "rss_bytes_after_warm_up": float(resident[warm][0]),
            "rss_bytes_end": float(resident[-1]),
            "env_steps": float(steps[-1]),
            "env_steps_per_cpu_s_by_tenth": speeds.tolist(),
            "env_steps_per_cpu_s_of_fresh_processes_by_tenth": beside,
            "load_average_at_the_end": os.getloadavg(),
        },
    )


def _config(run_dir: str) -> Config:
    return Config(
        total_env_steps=2**40,
        mode="eager",
        num_envs=16,
        hidden_sizes=(120, 84),
        prioritized=True,
        replay_capacity=20_000,
        learning_rate_final=None,
        log_period_env_steps=4_000,
        eval_period_env_steps=200_000,
        eval_episodes=10,
        eval_max_env_steps=20_000,
        checkpoint_period_env_steps=200_000,
        checkpoint_replay="every",
        torch_threads=1,
        run_dir=run_dir,
    )


def _fresh_speed(seconds: float) -> float:
    """Env steps per CPU second of a process that has just begun to train the same."""
    command = [sys.executable, "-m", "benchmarks.reliability.soak", str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    seconds = float(sys.argv[1])
    rows: list[tuple[float, float, float]] = []

    def on_log(row: dict[str, float]) -> bool:
        rows.append((time.perf_counter(), time.process_time(), row["env_steps"]))
        # The first row has the start in it, and little learning.
        return len(rows) > 2 and rows[-1][0] - rows[1][0] > seconds

    with tempfile.TemporaryDirectory() as scratch:
        config = _config(str(Path(scratch) / "run"))
        train(
            config.replace(
                save_final_checkpoint=False,
                eval_episodes=0,
                eval_period_env_steps=None,
                checkpoint_period_env_steps=None,
            ),
            on_log=on_log,
        )  # type: ignore[arg-type]
    (_, cpu, steps), (_, cpu_end, steps_end) = rows[1], rows[-1]
    print((steps_end - steps) / (cpu_end - cpu))


if __name__ == "__main__":
    main()

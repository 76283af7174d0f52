"""An hour of training with evaluations and checkpoints: nothing grows, nothing slows down."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.reliability import Outcome
from fastdqn import Config, train

FIGURE = "1 h: memory grows < 0.1 %/h after warm-up, last tenth >= 98 % of the first tenth's speed"
SECONDS, SHORT_SECONDS = 3_600.0, 20.0


def run(short: bool) -> Outcome:
    """Train until the time is up.

    Speed is per second of this process's CPU time, so that other processes on the machine do not
    count.
    """
    seconds = SHORT_SECONDS if short else SECONDS
    page = os.sysconf("SC_PAGE_SIZE")
    # wall s, CPU s, env steps, RSS bytes; resident before it is filled, or it would count as growth
    samples = np.full((100_000, 4), -1.0)
    rows = itertools.count()
    began = time.perf_counter()

    def on_log(row: dict[str, float]) -> bool:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
        wall = time.perf_counter() - began
        samples[next(rows)] = wall, time.process_time(), row["env_steps"], resident
        return wall > seconds

    with tempfile.TemporaryDirectory() as scratch:
        config = Config(
            total_env_steps=2**40,
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
            run_dir=str(Path(scratch) / "run"),
        )
        train(config, on_log=on_log)  # type: ignore[arg-type]
    wall, cpu, steps, resident = samples[: next(rows)].T
    warm = wall > wall[-1] / 10
    slope = np.polyfit(wall[warm] / 3600, resident[warm], 1)[0] / resident[warm].mean()
    tenth = max(2, len(wall) // 10)

    def speed(part: slice) -> float:
        return float((steps[part][-1] - steps[part][0]) / (cpu[part][-1] - cpu[part][0]))

    # Without the start, before learning.
    first, last = speed(slice(tenth // 10 + 1, tenth + 1)), speed(slice(-tenth, None))
    return Outcome(
        f"{wall[-1] / 60:.0f} min, {steps[-1]:,.0f} env steps: memory {slope:+.3%}/h of "
        f"{resident[warm].mean() / 1e6:.0f} MB, speed {last / first:.1%}",
        bool(slope < 0.001 and last >= 0.98 * first) or short,
        {
            "rss_slope_per_h": float(slope),
            "rss_bytes_after_warm_up": float(resident[warm][0]),
            "rss_bytes_end": float(resident[-1]),
            "env_steps": float(steps[-1]),
            "load_average_at_the_end": os.getloadavg(),  # neighbours slow a CPU second down, too
            "first_env_steps_per_cpu_s": first,
            "last_env_steps_per_cpu_s": last,
        },
    )

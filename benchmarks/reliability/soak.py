"""An hour of training with evaluations and checkpoints: nothing grows, nothing slows down."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.reliability import Outcome
from fastdqn import Config, train

FIGURE = "1 h: memory grows < 0.1 %/h after warm-up, last tenth >= 98 % of the first tenth's speed"
SECONDS, SHORT_SECONDS = 3_600.0, 20.0


def run(short: bool) -> Outcome:
    """Train until the time is up.

    Speed is per second of this process's CPU time, so that waiting for a core does not count.
    Neighbours slow a CPU second down, too (caches, clocks): a fixed piece of work, timed at every
    log interval, says by how much, and its drift is part of the result.
    """
    seconds = SHORT_SECONDS if short else SECONDS
    page = os.sysconf("SC_PAGE_SIZE")
    # wall s, CPU s, env steps, RSS bytes, CPU s of the fixed work; resident before it is filled, or
    # it would count as growth
    samples = np.full((100_000, 5), -1.0)
    fixed_work = _FixedWork()
    spent = 0.0
    rows = itertools.count()
    began = time.perf_counter()

    def on_log(row: dict[str, float]) -> bool:
        nonlocal spent
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
        wall = time.perf_counter() - began
        cpu = time.process_time() - spent
        probe = fixed_work()
        spent += probe
        samples[next(rows)] = wall, cpu, row["env_steps"], resident, probe
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
    wall, cpu, steps, resident, probes = samples[: next(rows)].T
    warm = wall > wall[-1] / 10
    slope = np.polyfit(wall[warm] / 3600, resident[warm], 1)[0] / resident[warm].mean()
    tenth = max(2, len(wall) // 10)

    def speed(part: slice) -> float:
        return float((steps[part][-1] - steps[part][0]) / (cpu[part][-1] - cpu[part][0]))

    # Without the start, before learning.
    parts = [slice(tenth // 10 + 1, tenth + 1)]
    parts += [slice(i * tenth + 1, (i + 1) * tenth + 1) for i in range(1, 9)]
    parts += [slice(-tenth, None)]
    speeds = [speed(part) for part in parts]
    fixed = [float(np.median(probes[part])) for part in parts]
    first, last = speeds[0], speeds[-1]
    return Outcome(
        f"{wall[-1] / 60:.0f} min, {steps[-1]:,.0f} env steps: memory {slope:+.3%}/h of "
        f"{resident[warm].mean() / 1e6:.0f} MB, speed {last / first:.1%}, "
        f"the fixed work's {fixed[0] / fixed[-1]:.1%}",
        bool(slope < 0.001 and last >= 0.98 * first) or short,
        {
            "rss_slope_per_h": float(slope),
            "rss_bytes_after_warm_up": float(resident[warm][0]),
            "rss_bytes_end": float(resident[-1]),
            "env_steps": float(steps[-1]),
            "load_average_at_the_end": os.getloadavg(),  # neighbours slow a CPU second down, too
            "env_steps_per_cpu_s_by_tenth": speeds,
            "fixed_work_cpu_s_by_tenth": fixed,
            "first_env_steps_per_cpu_s": first,
            "last_env_steps_per_cpu_s": last,
        },
    )


class _FixedWork:
    """Forward and backward of a small network, always the same; returns the CPU seconds it took."""

    def __init__(self) -> None:
        self.network = torch.nn.Sequential(
            torch.nn.Linear(4, 120), torch.nn.ReLU(), torch.nn.Linear(120, 2)
        )
        self.batch = torch.ones(64, 4)

    def __call__(self) -> float:
        began = time.process_time()
        for _ in range(100):
            self.network.zero_grad(set_to_none=False)
            self.network(self.batch).sum().backward()
        return time.process_time() - began

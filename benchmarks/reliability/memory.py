"""The memory plan against what a process really takes, over replays large enough to measure."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.reliability import Outcome

FIGURE = "the plan within 5 % of what is resident, before the first row, on 30 configurations"
COUNT, SHORT_COUNT = 30, 4
LIMIT = 0.05
TARGETS = (250e6, 400e6, 600e6, 900e6)  # bytes planned, about

# Makes one replay and draws a batch from it; says what was planned and what came into memory.
_CHILD = """
import json, os, sys
import numpy as np, torch
from gymnasium.spaces import Box
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.types import TimeStep

torch.set_num_threads(1)
frame, capacity, num_envs, batch_size, prioritized, kwargs = json.loads(sys.argv[1])
space = Box(0, 255, frame, np.uint8) if len(frame) == 2 else Box(-1, 1, frame, np.float32)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def fill(replay):
    no = torch.zeros(num_envs, dtype=torch.bool)
    frames = torch.from_numpy(np.zeros((num_envs, *frame), space.dtype))
    for t in range(12):
        row = TimeStep(frames, torch.zeros(num_envs), no, no, no if t else ~no)
        replay.add(row, torch.zeros(num_envs, dtype=torch.int64) if t else None)

small = ReplayBuffer(64 * num_envs, num_envs, space, prioritized=prioritized, **kwargs)
fill(small)  # so that the libraries have what they need once
small.sample(batch_size)
before = resident()
plan = ReplayBuffer.plan(capacity, num_envs, space, batch_size=batch_size, **kwargs)
replay = ReplayBuffer(capacity, num_envs, space, prioritized=prioritized, **kwargs)
made = resident()
fill(replay)
batch = replay.sample(batch_size)
print(json.dumps([plan.total, plan.parts["batch"], made - before, resident() - before]))
"""


def run(short: bool) -> Outcome:
    """One process per configuration, one at a time."""
    chosen = cases()[:: COUNT // SHORT_COUNT][:SHORT_COUNT] if short else cases()
    rows: list[dict[str, Any]] = []
    for case in chosen:
        names = ("frame", "capacity", "num_envs", "batch_size", "prioritized")
        kwargs = {name: case[name] for name in ("frame_stack", "n_step")}
        arguments = json.dumps([*(case[name] for name in names), kwargs])
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, arguments],
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode != 0:
            return Outcome(f"{case}: {done.stderr[-300:]}", False)
        planned, batch, made, used = json.loads(done.stdout)
        rows.append({
            **case, "planned": planned, "resident": used,
            "error": used / planned - 1,
            # Before any row is written: what is not resident then may be refused when it is late.
            "error_when_made": made / (planned - batch) - 1,
        })  # fmt: skip
    worst = max((row["error"] for row in rows), key=abs)
    worst_made = max((row["error_when_made"] for row in rows), key=abs)
    within = sum(
        abs(row["error"]) <= LIMIT and abs(row["error_when_made"]) <= LIMIT for row in rows
    )
    sizes = [row["planned"] / 1e6 for row in rows]
    return Outcome(
        f"{within} of {len(rows)} ({min(sizes):.0f} to {max(sizes):.0f} MB): {worst:+.1%} at "
        f"worst, {worst_made:+.1%} before the first row",
        within == len(rows),
        {"configurations": rows},
    )


def cases() -> list[dict[str, Any]]:
    """Frames and vectors, stacked or not, uniform or prioritized, n of 1 and 3, 1 to 64 envs."""
    found = []
    for index in range(COUNT):
        frame: list[int] = [[84, 84], [128], [17], [84, 84], [376]][index % 5]
        row = 84 * 84 if frame == [84, 84] else 4 * frame[0]
        found.append({
            "frame": frame,
            "frame_stack": 4 if index % 5 == 0 or index % 10 == 1 else None,
            "prioritized": index % 2 == 1,
            "n_step": (1, 3)[index // 2 % 2],
            "num_envs": (1, 8, 16, 64)[index // 3 % 4],
            "batch_size": (32, 256)[index // 4 % 2],
            # Beside its frame, a row takes 16 bytes of scalars and 4 of the sum tree.
            "capacity": int(TARGETS[index % 4] / (row + 20)),
        })  # fmt: skip
    return found

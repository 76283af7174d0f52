"""A ring of 2 GB (the full row) saved and resumed: how fast, and in how much memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.reliability import Outcome

FIGURE = "2 GB of ring: saved at >= 80 % of plain write + fsync, in < 600 MB beside the ring"
ROWS, SHORT_ROWS = 300_000, 3_000
ALLOWED = 600e6  # bytes on the host beside the ring, while saving and while loading

CHILD = """
import json, sys, time, torch, numpy as np
from pathlib import Path
from gymnasium.spaces import Box
from fastdqn.checkpoints.store import open_checkpoint, save_checkpoint
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.training.restore_parts import restore_replay
torch.set_num_threads(1)

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024

directory, rows, job = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
replay = ReplayBuffer(rows, 8, Box(0, 255, (84, 84), np.uint8), frame_stack=4, n_step=3)
generator = torch.Generator().manual_seed(0)
for block in replay.ring.frames.split(4096):  # pages that are there
    block.random_(0, 256, generator=generator)
replay.ring.frames[-1] = 0
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
began = time.perf_counter()
if job == "save":
    save_checkpoint(directory, 1, {"replay": replay.state_dict()}, keep=1)
else:
    state = open_checkpoint(directory / "step_000000000001")
    restore_replay(state["replay"], replay, num_actions=6)
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "growth": resident("VmHWM") - before,
                  "bytes": replay.nbytes(), "sum": int(replay.ring.frames[::997].sum())}))
"""


def run(short: bool) -> Outcome:
    rows = SHORT_ROWS if short else ROWS
    with tempfile.TemporaryDirectory(dir=None if short else Path.cwd()) as scratch:
        plain, saved, loaded = [], [], {}
        for _ in range(1 if short else 2):
            found = _child(scratch, rows, "save")
            saved.append(found["bytes"] / found["seconds"] / 1e9)
            plain.append(_write_plain(Path(scratch) / "plain", int(found["bytes"])))
        loaded = _child(scratch, rows, "load")
    rate, limit = sorted(saved)[len(saved) // 2], sorted(plain)[len(plain) // 2]
    passed = (
        rate >= 0.8 * limit
        and max(found["growth"], loaded["growth"]) < ALLOWED
        and found["sum"] == loaded["sum"]
    )
    return Outcome(
        f"{found['bytes'] / 1e9:.2f} GB at {rate:.2f} GB/s, plain write + fsync {limit:.2f} GB/s; "
        f"memory beside the ring +{found['growth'] / 1e6:.0f} MB saving, "
        f"+{loaded['growth'] / 1e6:.0f} MB loading at "
        f"{loaded['bytes'] / loaded['seconds'] / 1e9:.2f} GB/s",
        passed or short,
        {
            "saved_gb_per_s": saved,
            "plain_gb_per_s": plain,
            "growth_saving_bytes": found["growth"],
            "growth_loading_bytes": loaded["growth"],
            "loaded_s": loaded["seconds"],
        },
    )


def _child(directory: str, rows: int, job: str) -> dict[str, float]:
    arguments = [sys.executable, "-W", "ignore", "-c", CHILD, directory, str(rows), job]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def _write_plain(path: Path, size: int) -> float:
    """GB/s of the same bytes as ``dd conv=fsync`` would write them: random, 1 MB at a time."""
    block = os.urandom(2**20)
    began = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(size // len(block)):
            file.write(block)
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return size / seconds / 1e9

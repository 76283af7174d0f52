"""SIGKILL at random moments of a loop that does nothing but save; then everything must load."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.reliability import Outcome
from fastdqn.checkpoints.store import clean, latest_checkpoint, load_checkpoint
from fastdqn.errors import CheckpointError

FIGURE = "200 kills: 0 unreadable, at most the checkpoint in flight lost, orphans removed"
COUNT, SHORT_COUNT = 200, 8
STATE_MB, SHORT_STATE_MB = 48, 4

# Imports once, then forks a child for each number that it reads, and says when that is gone. The
# child says "begin N" before checkpoint N and "end N" after it. Every third is saved twice, as when
# a signal comes right after a periodic save.
NURSERY = """
import os, sys, zlib, torch
from pathlib import Path
from fastdqn.checkpoints.store import save_checkpoint
torch.set_num_threads(1)
directory, megabytes, log = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
ring = torch.randint(0, 256, (megabytes, 2**20), dtype=torch.uint8)

def loop(number, log):
    while True:
        number += 1
        ring[number % megabytes] = number % 251
        state = {"run": {"number": number}, "learner": {"w": torch.full((1000,), float(number))},
                 "replay": {"ring": ring, "crc": zlib.crc32(ring.numpy())}}
        for again in range(1 + (number % 3 == 0)):
            log.write(f"begin {number}\\n")
            save_checkpoint(directory, number, state, keep=2)
            log.write(f"end {number}\\n")

for line in sys.stdin:
    child = os.fork()
    if not child:
        loop(int(line), log.open("w", buffering=1))
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def run(short: bool) -> Outcome:
    rng = random.Random(0)
    count, megabytes = (SHORT_COUNT, SHORT_STATE_MB) if short else (COUNT, STATE_MB)
    unreadable: list[str] = []
    found: dict[str, Any] = {"in_flight": 0, "lost": 0, "orphans_left": 0, "orphans_removed": 0}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        directory, log = Path(scratch) / "checkpoints", Path(scratch) / "log"
        number, save_s = 0, 0.2
        arguments = [str(directory), str(megabytes), str(log)]
        nursery = subprocess.Popen(
            [sys.executable, "-c", NURSERY, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(nursery.communicate)  # the end of its input ends it
        for trial in range(count):
            in_flight, ended, save_s = _kill_one(nursery, log, number, save_s, rng)
            found["in_flight"] += in_flight
            for path in _checkpoints(directory):
                try:
                    state = load_checkpoint(path)
                    name = int(path.name[5:17])
                    assert state["run"]["number"] == name
                    assert bool((state["learner"]["w"] == name).all())
                    assert zlib.crc32(state["replay"]["ring"].numpy()) == state["replay"]["crc"]
                except (CheckpointError, AssertionError) as error:
                    unreadable.append(f"kill {trial}: {path.name}: {error}")
            newest = latest_checkpoint(directory)
            number = int(newest.name[5:17]) if newest else 0
            found["lost"] += number < ended
            before = _orphans(directory)
            if trial % 2:  # the start of a run removes them; else the next save does
                clean(directory)
                found["orphans_removed"] += before
                found["orphans_left"] += _orphans(directory)
        clean(directory)
        found["orphans_left"] += _orphans(directory)
    passed = not unreadable and not found["lost"] and not found["orphans_left"]
    return Outcome(
        f"{count} kills of a loop saving {megabytes} MB ({found['in_flight']} within a save): "
        f"{len(unreadable)} unreadable, {found['lost']} finished ones lost, "
        f"{found['orphans_left']} orphans left",
        passed,
        {**found, "kills": count, "unreadable": unreadable, "state_mb": megabytes},
    )


def _kill_one(
    nursery: subprocess.Popen[str], log: Path, number: int, save_s: float, rng: random.Random
) -> tuple[bool, int, float]:
    """Start the loop, kill it; whether within a save, the last one ended, seconds of a save."""
    assert nursery.stdin is not None and nursery.stdout is not None
    log.write_text("")
    nursery.stdin.write(f"{number}\n")
    nursery.stdin.flush()
    child = int(nursery.stdout.readline())
    while "end" not in log.read_text():  # a first one, so that there is one to lose
        time.sleep(0.001)
    began = time.perf_counter()
    time.sleep(rng.random() * 3 * save_s)
    os.kill(child, signal.SIGKILL)
    assert nursery.stdout.readline() == "gone\n"
    seconds = time.perf_counter() - began
    lines = [line.split() for line in log.read_text().splitlines()]
    ends = [int(line[1]) for line in lines if line[0] == "end"]
    guess = min(2.0, max(0.01, seconds / max(1, len(ends) - 1)))
    return lines[-1][0] == "begin", ends[-1], 0.5 * save_s + 0.5 * guess


def _checkpoints(directory: Path) -> list[Path]:
    return sorted(directory.glob("step_" + "[0-9]" * 12))


def _orphans(directory: Path) -> int:
    return sum(1 for path in directory.iterdir() if ".tmp" in path.name)

"""A process that was stopped with all of its workers does not take that time for a hang."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fastdqn.system.clock import Awake

# Steps work for 0.6 s, as pieces: one long sleep would be over as soon as the process wakes.
PROGRAM = """
import sys, time
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from fastdqn.envs import make_envs
from fastdqn.envs.watched import watched
from fastdqn.system.watchdog import Watchdog

class Slow(gymnasium.Env):
    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(2)
    def work(self):
        for _ in range(30):
            time.sleep(0.02)
        return np.zeros(2, np.float32)
    def reset(self, *, seed=None, options=None):
        return self.work() if RESETS else np.zeros(2, np.float32), {}
    def step(self, action):
        return self.work(), 0.0, False, False, {}

RESETS = sys.argv[2] == "reset"
if __name__ == "__main__":
    gymnasium.register("Slow-v0", Slow)
    with Watchdog(1.0) as dog:
        envs = make_envs("Slow-v0", 1, vectorization=sys.argv[1], step_timeout_s=1.0)
        envs = watched(envs, dog, "Slow-v0")
        if RESETS:
            print("begun", flush=True)
        envs.reset(seed=1)
        if not RESETS:
            print("begun", flush=True)
        for _ in range(2):
            envs.send(np.zeros(1, np.int64))
            envs.recv()
        envs.close()
    print("done")
"""


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("async", "step"),
        pytest.param("async", "reset", marks=pytest.mark.slow),
        pytest.param("sync", "step", marks=pytest.mark.slow),
    ],
)
def test_stopped_for_longer_than_a_step_may_take(tmp_path, kind, call):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, str(program), kind, call],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.killpg(process.pid, signal.SIGCONT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "done\n"), err


def test_what_goes_by_between_two_looks_counts_for_two_ticks(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("fastdqn.system.clock.time.monotonic", lambda: now[0])
    awake = Awake(0.25)
    seen = []
    for seconds in (0.25, 0.4, 3_600.0, 0.1):
        now[0] += seconds
        seen.append(awake.look())
    assert seen == pytest.approx([0.25, 0.65, 1.15, 1.25])

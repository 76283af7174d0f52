"""The watchdog ends a process that hangs, and no other."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers.scripted_env import Script, ScriptedStream

from fastdqn.envs.stream import saves_state
from fastdqn.envs.watched import watched
from fastdqn.system.watchdog import EXIT_HANG, Watchdog

HANGS = """
import signal, sys, threading, time
from fastdqn.envs.watched import watched
from fastdqn.system.watchdog import Watchdog
class Envs:
    calls = 0
    def recv(self):
        self.calls += 1
        if self.calls == 100:
            {hang}
    close = send = reset = recv
class Signals:
    name = None
with Watchdog({timeout}, lambda: Signals.name) as dog:
    envs = watched(Envs(), dog, "Envs-v0")
    {before}
    for _ in range(200):
        envs.recv()
print("done")
"""


def run(hang, timeout=0.2, before="pass"):
    code = HANGS.format(hang=hang, timeout=timeout, before=before)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("hang", ["time.sleep(50)", "threading.Event().wait(50)"])
def test_a_call_that_does_not_return_ends_the_process_with_its_stack(hang):
    done = run(hang)
    assert done.returncode == EXIT_HANG == 70, done.stderr
    assert "in recv" in done.stderr and "most recent call first" in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("fastdqn: error: A step of Envs-v0 does not return")
    assert "step_timeout_s = 0.2" in last and "exit code 70" in last


def test_a_signal_during_the_hang_decides_the_exit_code():
    done = run("Signals.name = 'SIGTERM'; time.sleep(50)")
    assert done.returncode == 143, done.stderr
    assert "SIGTERM" in done.stderr.strip().splitlines()[-1]


def test_without_a_timeout_a_signal_still_ends_it():
    code = "import fastdqn.system.watchdog as w; w._SIGNAL_GRACE_S = 0.3"
    done = run("Signals.name = 'SIGINT'; time.sleep(50)", timeout=None, before=code)
    assert done.returncode == 130, done.stderr


def test_a_call_that_begins_after_the_signal_has_no_longer():
    before = (
        "import fastdqn.system.watchdog as w; w._SIGNAL_GRACE_S = 0.3; "
        "Signals.name = 'SIGTERM'; time.sleep(1)"
    )
    done = run("time.sleep(20)", timeout=None, before=before)
    assert done.returncode == 143, done.stderr


def test_a_stopped_process_is_not_a_hang():
    """Ctrl-Z in the middle of a step, and fg long after."""
    hang = (
        "import os, subprocess; p = os.getpid(); "
        "subprocess.Popen(['sh', '-c', f'kill -STOP {p}; sleep 2; kill -CONT {p}']); "
        "time.sleep(0.05)"
    )
    done = run(hang, timeout=0.6)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_calls_that_return_are_left_alone():
    before = threading.active_count()
    script = Script(3)
    with Watchdog(0.05) as dog:
        envs = watched(ScriptedStream(script), dog, "scripted")
        step = envs.reset(seed=0)
        end = time.monotonic() + 0.5  # many times what one call may take
        while time.monotonic() < end:
            envs.send(script.act(step.observation))
            step = envs.recv()
            assert dog.since is None
        time.sleep(0.3)  # nothing under way: nothing to end
        assert envs.num_envs == 3 and saves_state(envs)
        envs.close()
    assert threading.active_count() == before


def test_errors_pass_and_disarm():
    class Broken(ScriptedStream):
        def recv(self):
            raise KeyError("broken")

    with Watchdog(0.05) as dog:
        envs = watched(Broken(Script(2)), dog, "broken")
        envs.send(np.zeros(2, np.int64))
        with pytest.raises(KeyError):
            envs.recv()
        assert dog.since is None
        assert not hasattr(envs, "no_such_thing")

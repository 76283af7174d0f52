"""A run directory belongs to one process, and to none once that is dead, whatever it has forked."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import gymnasium
import pytest
from gymnasium.vector import SyncVectorEnv
from helpers.refused_locks import refuse_locks
from helpers.scripted_env import Script, ScriptedVectorEnv
from helpers.short_runs import read_rows, small

from fastdqn.checkpoints.store import latest_checkpoint
from fastdqn.config.config import Config
from fastdqn.errors import ConfigError, TrainingError
from fastdqn.runs import lock
from fastdqn.runs.directory import open_run_dir
from fastdqn.runs.lock import RunLock, refuse_locked
from fastdqn.system import file_systems
from fastdqn.system.file_systems import NO_LOCKS
from fastdqn.system.signals import Stopped, StopSignals
from fastdqn.training.train import train

TESTS = Path(__file__).parents[1]
HOLDS = """
import sys, time
from pathlib import Path
from fastdqn.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]), 0)
lock.sign()
print('held', flush=True)
sys.stdin.readline()
"""


@contextmanager
def process(script, *args):
    """A Python process that has said its first line; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        start_new_session=True,
    ) as child:
        try:
            assert child.stdout.readline() == "held\n"
            yield child
        finally:
            with suppress(ProcessLookupError):  # what it has forked, too
                os.killpg(child.pid, signal.SIGKILL)


def alive_in_group(group):
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def is_free(run_dir):
    """Whether the lock can be had at once."""
    try:
        RunLock(run_dir, 0).release()
    except ConfigError:
        return False
    return True


def test_the_second_process_names_the_first_and_takes_over_when_it_is_dead(tmp_path):
    with process(HOLDS, tmp_path) as first:
        body = json.loads((tmp_path / "lock").read_text())
        assert body["host"] == socket.gethostname() and body["process_id"] == first.pid
        words = f"process {first.pid} on host {body['host']}, since {body['since']}"
        for call in (RunLock, refuse_locked):
            with pytest.raises(ConfigError, match=re.escape(words)):
                call(tmp_path, 0)
        assert json.loads((tmp_path / "lock").read_text()) == body
        first.kill()
        first.wait()
        refuse_locked(tmp_path, 0)
        assert json.loads((tmp_path / "lock").read_text()) == body, "only looked"
        lock = RunLock(tmp_path, 0)
        assert json.loads((tmp_path / "lock").read_text()) == body, "not yet judged"
        with pytest.raises(ConfigError, match="belongs to another process"):
            RunLock(tmp_path, 0)
        lock.sign()
        assert json.loads((tmp_path / "lock").read_text())["process_id"] == os.getpid()
    lock.release()
    lock.release()
    assert is_free(tmp_path) and (tmp_path / "lock").read_text() == ""


def test_the_second_waits_and_says_so(tmp_path, capsys):
    with process(HOLDS, tmp_path) as first:
        threading.Timer(0.3, first.kill).start()
        RunLock(tmp_path, 60).release()
    assert f"waiting up to 60 s for process {first.pid}" in capsys.readouterr().err


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
FORKS = {
    "os.fork": "os.fork() or time.sleep(60)",
    "multiprocessing": "mp.get_context('fork').Process(target=time.sleep, args=(60,)).start()",
    "from a thread": "t = threading.Thread(target=lambda: os.fork() or time.sleep(60)); t.start(); "
    "time.sleep(0.1)",
    "async envs": "envs = AsyncVectorEnv([make] * 2, context='fork')",
}


@needs_proc
@pytest.mark.parametrize("kind", FORKS)
def test_a_forked_child_does_not_keep_the_lock_of_a_killed_process(tmp_path, kind):
    script = f"""
import os, sys, threading, time, gymnasium, multiprocessing as mp
from pathlib import Path
from gymnasium.vector import AsyncVectorEnv
from fastdqn.runs.lock import RunLock
make = lambda: gymnasium.make("CartPole-v1")
lock = RunLock(Path(sys.argv[1]), 0)
parent = os.getpid()
{FORKS[kind]}
if os.getpid() == parent: print("held", flush=True)
time.sleep(60)
"""
    with process(script, tmp_path) as first:
        assert not is_free(tmp_path), "the child has closed its copy, and unlocked nothing"
        kill_but_for_children(first, tmp_path / "lock")
        assert is_free(tmp_path)


def kill_but_for_children(first, lock_file):
    """SIGKILL, where the children cannot notice: stopped once they have had time to close."""
    end = time.monotonic() + 60
    children = children_of(first.pid)
    while any(lock_file in open_files(child) for child in children) and time.monotonic() < end:
        time.sleep(0.01)
    for child in children:
        os.kill(child, signal.SIGSTOP)
    first.kill()
    first.wait()
    assert children and alive_in_group(first.pid)


def children_of(pid):
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def open_files(pid):
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(Path(os.readlink(link)))
    return found


def test_the_end_of_a_forked_child_leaves_the_lock_to_its_parent(tmp_path):
    (tmp_path / "dear").write_text("dear")
    child = """
if not os.fork():
    descriptor = os.open(sys.argv[1] + "/dear", os.O_RDWR)
    lock.release()
    lock.keep()
    os._exit(descriptor != lock._descriptor or os.fstat(descriptor).st_size != 4)
assert os.wait()[1] == 0
print('held', """
    with process("import os\n" + HOLDS.replace("print('held', ", child), tmp_path):
        assert not is_free(tmp_path)


TRAINS = """
import sys
from pathlib import Path
import gymnasium
from gymnasium.vector import AsyncVectorEnv
context, more = sys.argv[2], []
def make(): return gymnasium.make("CartPole-v1")
def fork(row):
    if row["env_steps"] == 400:
        # These are forked while the lock is held, and outlive the trainer.
        more.append(AsyncVectorEnv([make], context=context))
        print("held", flush=True)
if __name__ == "__main__":
    from helpers.short_runs import small
    from fastdqn import train
    train(small(Path(sys.argv[1]), num_envs=2, checkpoint_period_env_steps=200, mode="eager",
                device="cpu", total_env_steps=10**9, log_period_env_steps=400,
                learning_rate_final=None),
          envs=AsyncVectorEnv([make] * 2, context=context), on_log=fork)
"""


@needs_proc
@pytest.mark.parametrize("context", ["fork", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_a_killed_trainer_with_env_workers_is_taken_over_at_once(tmp_path, context):
    script = tmp_path / "script.py"  # workers of a fork server import it
    script.write_text(TRAINS)
    runs = f"import runpy, sys; sys.argv[0] = {str(script)!r}; runpy.run_path({str(script)!r}, "
    with process(runs + "run_name='__main__')", tmp_path, context) as first:
        run = tmp_path / "run"
        while latest_checkpoint(run / "checkpoints") is None:
            time.sleep(0.01)
        kill_but_for_children(first, run / "lock")
        at = int(latest_checkpoint(run / "checkpoints").name[5:17])
        config = small(
            tmp_path, num_envs=2, total_env_steps=at + 200, resume="auto", lock_timeout_s=0.0,
            checkpoint_period_env_steps=200, mode="eager", device="cpu", learning_rate_final=None,
            log_period_env_steps=400, eval_episodes=0,
        )  # fmt: skip
        result = train(config, envs=SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 2))
    steps = [int(row["env_steps"]) for row in read_rows(run)]
    assert steps == sorted(set(steps)) and result.summary["env_steps"] == at + 200


@pytest.mark.parametrize("locks", [True, False])
def test_two_runs_of_one_process_exclude_each_other(tmp_path, locks, monkeypatch, capsys):
    monkeypatch.setattr(file_systems, "_said", set())
    if not locks:
        refuse_locks(monkeypatch, errno.ENOLCK)
    config = small(tmp_path, resume="auto", lock_timeout_s=0.0, learning_rate_final=None)
    refused = []

    def second(row):
        def run():
            with pytest.raises(ConfigError) as caught:
                train(config)
            refused.append(str(caught.value))

        if not refused:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()

    train(config, on_log=second)
    holder = f"another run of this process ({os.getpid()})" if locks else "another process"
    assert len(refused) == 1 and holder in refused[0]
    train(config.replace(total_env_steps=2_400))
    said = capsys.readouterr().err
    assert ("has no locks" in said) != locks and said.count("warning") <= 1


@pytest.mark.parametrize(
    "part",
    [
        "replay.buffer.ReplayBuffer",
        "training.parts.Actor",
        "training.parts.Report",
        "training.report.MetricsFile",
    ],
)
def test_a_run_that_fails_before_its_first_step_lets_go(tmp_path, monkeypatch, part):
    def fail(*args, **kwargs):
        raise RuntimeError("by design")

    monkeypatch.setattr(f"fastdqn.{part}.__init__", fail)
    with pytest.raises(RuntimeError, match="by design"):
        train(small(tmp_path))
    assert (tmp_path / "run" / "lock").exists() and is_free(tmp_path / "run")


def test_a_run_that_was_made_while_this_one_waited_is_judged_like_any_other(tmp_path, monkeypatch):
    config = small(tmp_path, resume="auto", total_env_steps=400, eval_episodes=0)
    run_dir = Path(config.run_dir)
    real = RunLock.__init__

    def slowly(lock, *args):
        monkeypatch.setattr(RunLock, "__init__", real)
        train(config, envs=ScriptedVectorEnv(Script(4, seed=5), "NEXT_STEP"))
        real(lock, *args)

    monkeypatch.setattr(RunLock, "__init__", slowly)
    with pytest.raises(ConfigError, match=r"was trained with .*pass them again"):
        train(config)  # on CartPole
    assert is_free(run_dir)
    shutil.rmtree(run_dir)
    train(config.replace(run_dir=str(tmp_path / "first")))
    warm = config.replace(initial=str(tmp_path / "first"))

    def cartpole(lock, *args):
        monkeypatch.setattr(RunLock, "__init__", real)
        train(warm)
        real(lock, *args)

    monkeypatch.setattr(RunLock, "__init__", cartpole)
    train(warm)
    sessions = json.loads((run_dir / "run.json").read_text())["sessions"]
    assert [session["from_env_steps"] for session in sessions] == [0, 400]
    assert ["initial" in session for session in sessions] == [True, False]


# --- file systems, and files in the way ----------------------------------------------------------


@pytest.mark.parametrize("number", sorted(NO_LOCKS))
def test_without_locks_a_warning_and_on(tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(file_systems, "_said", set())
    refuse_locks(monkeypatch, number)
    for _ in range(2):
        refuse_locked(tmp_path, 0)
        lock = RunLock(tmp_path, 0)
        lock.keep()
        lock.release()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("fastdqn: warning: ") and "locks" in said


def test_a_disk_that_fails_is_no_disk_without_locks(tmp_path, monkeypatch):
    refuse_locks(monkeypatch, errno.EIO)
    with pytest.raises(ConfigError, match=r"cannot be used \(Input/output error\)"):
        open_run_dir(Config(run_dir=str(tmp_path)))


def test_files_without_a_lasting_identity(tmp_path, monkeypatch):
    """They have another number whenever somebody asks; nothing is said about it."""
    monkeypatch.setattr(os.path, "samestat", lambda a, b: False)
    lock = RunLock(tmp_path, 0)
    lock.keep()
    assert not is_free(tmp_path)
    lock.release()
    assert is_free(tmp_path)


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "directory"])
def test_what_is_no_plain_file_is_refused(tmp_path, kind):
    run, victim = tmp_path / "run", tmp_path / "victim"
    run.mkdir()
    victim.write_text("dear")
    path = run / "lock"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(victim if kind == "link" else tmp_path / "nothing")
    for call in (lambda: RunLock(run, 0), lambda: open_run_dir(Config(run_dir=str(run)))):
        with pytest.raises(ConfigError, match="lock is a link or no plain file"):
            call()
    refuse_locked(run, 0)
    assert victim.read_text() == "dear" and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 4000, "null", '{"host": 1}', "\0" * 9000,
    '{"host": "a\\u001b[2J", "process_id": 1, "since": "now"}',
    json.dumps({"host": "a" * 400, "process_id": 1, "since": "now"}),
    json.dumps({"host": "a", "process_id": "rm", "since": "now"}),
])  # fmt: skip
def test_what_the_file_says_is_not_believed(tmp_path, text):
    (tmp_path / "lock").write_text(text)
    assert lock._holder(tmp_path / "lock") == "another process"
    assert is_free(tmp_path)


def test_a_longer_text_of_a_dead_process_is_written_over_whole(tmp_path):
    (tmp_path / "lock").write_text("x" * 1000)
    lock = RunLock(tmp_path, 0)
    lock.sign()
    assert json.loads((tmp_path / "lock").read_text())["process_id"] == os.getpid()
    lock.release()


# --- the file is deleted -------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
def test_a_lock_that_was_deleted_is_taken_anew(tmp_path, whole):
    run = tmp_path / "run"
    run.mkdir()
    lock = RunLock(run, 0)
    shutil.rmtree(run) if whole else (run / "lock").unlink()
    lock.keep()
    assert not is_free(run) and json.loads((run / "lock").read_text())["process_id"] == os.getpid()
    lock.release()
    assert is_free(run)


def test_who_deletes_the_lock_of_a_living_run_ends_it_before_it_writes_more(tmp_path):
    run, others = tmp_path / "run", []

    def delete(row):
        if row["env_steps"] == 800:
            (run / "lock").unlink()
            others.append(process(HOLDS, run))
            others.append(others[0].__enter__().pid)

    config = small(tmp_path, checkpoint_period_env_steps=400)
    with pytest.raises(TrainingError, match=r"was deleted, and process [0-9]+") as caught:
        train(config, on_log=delete)
    assert str(others[1]) in str(caught.value)
    assert not (run / "summary.json").exists()
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"step_000000000400"}
    assert not is_free(run)
    others[0].__exit__(None, None, None)


# --- waiting -------------------------------------------------------------------------------------


def test_a_signal_ends_the_wait(tmp_path):
    lock = RunLock(tmp_path, 0)
    with StopSignals() as signals:
        signals.name = "SIGTERM"
        with pytest.raises(Stopped):
            RunLock(tmp_path, 60)
    lock.release()


COMMAND = """
import sys
from fastdqn.cli.main import main
code = main(["train", "--run-dir", sys.argv[1], "--lock-timeout-s", "0", *sys.argv[2:]])
sys.exit(100 * ("torch" in sys.modules) + code)
"""


@pytest.mark.parametrize("resume", ["never", "auto", "require"])
def test_the_command_is_refused_before_torch_is_imported(tmp_path, resume):
    lock = RunLock(tmp_path, 0)
    lock.sign()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(tmp_path), "--resume", resume],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and f"process {os.getpid()} on host" in done.stderr
    lock.release()

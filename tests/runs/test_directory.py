"""Run directories: made by one of several processes, refused without a trace, begun anew."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastdqn.cli.main import main
from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.runs.directory import open_run_dir, write_json
from fastdqn.runs.lock import RunLock

# The real functions, with a configuration that takes long to write.
WRITES = """
import sys
from pathlib import Path
from fastdqn.config.config import Config
from fastdqn.runs.directory import open_run_dir, write_json
config = Config(run_dir=sys.argv[1])
path, *_ = open_run_dir(config)
print("made", flush=True)
sys.stdin.readline()
write_json(path / "config.json", config.to_json() + " " * 2**29)
"""


@pytest.mark.parametrize("moment", ["before the first file", "within the first file"])
def test_a_kill_at_the_very_start_leaves_what_the_same_command_starts_from(tmp_path, moment):
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"made\n"
        if moment == "within the first file":
            process.stdin.write(b"\n")
            process.stdin.flush()
            while process.poll() is None and not (run / "config.json.tmp").exists():
                time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    left = ["config.json.tmp"] if moment == "within the first file" else []
    assert sorted(path.name for path in run.iterdir()) == [*left, "lock"]
    done = subprocess.run(
        [sys.executable, "-m", "fastdqn", "train", "--run-dir", str(run), "--resume", "auto",
         "--total-env-steps", "200", "--eval-episodes", "0", "--device", "cpu"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(run.glob("*.tmp"))


@pytest.mark.parametrize("length", [0, 1, 20, None])
def test_as_far_as_the_first_file_was_written(tmp_path, length):
    config = Config(run_dir=str(tmp_path), resume="auto")
    # Of another configuration: there was no run yet that the new one could contradict.
    (tmp_path / "config.json.tmp").write_text(Config(seed=9).to_json()[:length])
    path, resuming, lock = open_run_dir(config)
    lock.release()
    assert (path, resuming) == (tmp_path, False)


@pytest.mark.parametrize(
    "files",
    [
        {"config.json.tmp": "mine"},
        {"config.json.tmp": '{\n  "format": 1}'},
        {"config.json.tmp": "", "notes": "mine"},
        {"config.json.tmp": "", "metrics.csv": ""},
        {"summary.json.tmp": ""},
        {"other.json.tmp": ""},
    ],
)
def test_files_of_others_are_refused_and_kept(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="holds something else than a run"):
        open_run_dir(Config(run_dir=str(tmp_path), resume="auto"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_never_still_means_an_empty_directory(tmp_path):
    (tmp_path / "config.json.tmp").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        open_run_dir(Config(run_dir=str(tmp_path)))


# --- several at once -----------------------------------------------------------------------------

# Two processes that make and lock a directory at the same moment, again and again.
PAIRS = """
import mmap, os, sys, time
import torch
from fastdqn.config.config import Config
from fastdqn.errors import ConfigError
from fastdqn.runs.directory import open_run_dir, write_json
os.chdir(sys.argv[1])
time.strftime = lambda *_: "now"
arrived = mmap.mmap(-1, 2)
me = 0 if os.fork() else 1
stage = 0

def meet():
    global stage
    stage = (stage + 1) % 250
    arrived[me] = stage
    while arrived[1 - me] not in (stage, (stage + 1) % 250):
        os.sched_yield()

for number in range(100):
    for kind in ("fresh", "never", "auto"):
        config = Config() if kind == "fresh" else Config(
            run_dir=f"{kind}{number}", resume=kind, lock_timeout_s=0.0)
        meet()
        try:
            path, resuming, lock = open_run_dir(config)
            write_json(path / "config.json", config.to_json())
        except ConfigError:
            path = "refused"
        meet()
        os.write(1, f"{kind} {number} {path}\\n".encode())
if not me:
    os.wait()
"""


def test_of_two_processes_at_once_one_gets_the_directory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PAIRS, str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    found = {"fresh": [], "never": [], "auto": []}
    for line in done.stdout.splitlines():
        kind, number, path = line.split()
        found[kind].append((int(number), path))
    fresh = [path for _, path in found.pop("fresh")]
    assert len(set(fresh)) == len(fresh) == 200 and "refused" not in fresh
    for kind, got in found.items():
        one_each = [(n, path) for n in range(100) for path in (f"{kind}{n}", "refused")]
        assert sorted(got) == sorted(one_each)


def test_a_fresh_directory_steps_aside_for_whatever_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda *_: "now")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "CartPole-v1-seed1-now").symlink_to("nowhere")
    (tmp_path / "runs" / "CartPole-v1-seed1-now-2").touch()
    path, resuming, lock = open_run_dir(Config())
    lock.release()
    assert (path, resuming) == (Path("runs/CartPole-v1-seed1-now-3"), False)


# --- refused without a trace ---------------------------------------------------------------------


def test_nothing_is_made_where_there_is_nothing_to_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError):
        open_run_dir(Config(run_dir="run", resume="require"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_a_lock_file_alone_occupies_nothing(tmp_path, resume):
    (tmp_path / "lock").write_text("of a dead process")
    path, resuming, lock = open_run_dir(Config(run_dir=str(tmp_path), resume=resume))
    lock.release()
    assert (path, resuming) == (tmp_path, False)


def test_a_refusal_lets_go_of_the_lock_and_changes_nothing(tmp_path):
    RunLock(tmp_path, 0).release()
    (tmp_path / "lock").write_text("of a dead process")
    write_json(tmp_path / "config.json", Config(gamma=0.5).to_json())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for _ in range(2):
        with pytest.raises(ConfigError, match="gamma"):
            open_run_dir(Config(run_dir=str(tmp_path), resume="auto"))
    RunLock(tmp_path, 0).release()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_what_is_judged_is_judged_under_the_lock(tmp_path, monkeypatch):
    """The process that had it may have made of the directory what this one must refuse."""
    real = RunLock.__init__

    def slowly(lock, *args):
        write_json(tmp_path / "config.json", Config(gamma=0.5).to_json())
        real(lock, *args)

    monkeypatch.setattr(RunLock, "__init__", slowly)
    for resume, why in (("auto", "gamma"), ("never", "not empty")):
        (tmp_path / "config.json").unlink(missing_ok=True)
        with pytest.raises(ConfigError, match=why):
            open_run_dir(Config(run_dir=str(tmp_path), resume=resume))


def test_a_run_that_begins_while_its_directory_is_judged_is_no_stranger(tmp_path, monkeypatch):
    """Its first files come between two looks: it has the lock, and is waited for."""
    import fastdqn.runs.directory

    real = fastdqn.runs.directory.refuse_occupied

    def slowly(config):
        real(config)
        (tmp_path / "lock").touch()
        (tmp_path / "metrics.csv.tmp").touch()
        monkeypatch.setattr(fastdqn.runs.directory, "refuse_occupied", later)
        return True

    def later(config):
        (tmp_path / "metrics.csv.tmp").unlink(missing_ok=True)
        return real(config)

    monkeypatch.setattr(fastdqn.runs.directory, "refuse_occupied", slowly)
    path, resuming, lock = open_run_dir(Config(run_dir=str(tmp_path), resume="auto"))
    lock.release()
    assert (path, resuming) == (tmp_path, False)


@pytest.mark.parametrize("resume", ["never", "auto"])
@pytest.mark.parametrize("call", ["stat", "listdir", "mkdir", "access"])
def test_what_the_disk_refuses_is_one_sentence(tmp_path, monkeypatch, capsys, resume, call):
    run = tmp_path / "run"
    if call != "mkdir":
        run.mkdir()

    def refusing(original):
        def refused(path, *args, **kwargs):
            if str(path) == str(run):
                if call == "access":
                    return False
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return original(path, *args, **kwargs)

        return refused

    # Python 3.13 lists by scandir.
    for name in ("listdir", "scandir") if call == "listdir" else (call,):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    with pytest.raises(ConfigError, match=r"run_dir = .*name another"):
        open_run_dir(Config(run_dir=str(run), resume=resume))
    assert main(["train", "--run-dir", str(run), "--resume", resume, "--device", "cpu"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        "train --device cpu --run-dir {}",
        "train --device cpu --run-dir {} --resume auto",
        "train --device cpu --run-dir {} --resume require",
        "train --device cpu --initial {}",
        "train --config {}",
        "eval {}",
        "saliency {}",
        "plot {}",
        "compare {} other",
    ],
)
def test_a_name_that_is_too_long_is_one_sentence(tmp_path, capsys, words):
    assert main(words.format(tmp_path / ("a" * 300)).split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "File name too long" in said and "name another" in said

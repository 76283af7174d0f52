"""Bad numbers, too little memory and full disks: what a run says, and what it leaves intact."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from helpers.capture_laws import CaptureLaws
from helpers.scripted_env import Script, ScriptedEnv, ScriptedVectorEnv
from helpers.short_runs import read_rows, small

import fastdqn.training.run_state
import fastdqn.training.trainer
from fastdqn.callbacks.callback_list import as_callbacks
from fastdqn.cli.main import main
from fastdqn.errors import CheckpointError, EnvError, EnvFailure, MemoryPlanError, TrainingError
from fastdqn.system.faults import DiskFaults, is_out_of_memory
from fastdqn.training.episode_statistics import EpisodeStatistics
from fastdqn.training.finite_frames import FiniteFrames
from fastdqn.training.metrics_file import MetricsFile
from fastdqn.training.report import COLUMNS
from fastdqn.training.train import train
from fastdqn.training.trainer import Trainer
from fastdqn.types import TimeStep

BAD = [float("nan"), float("inf"), -float("inf")]


def assert_finite_checkpoint(run_dir, before):
    from fastdqn.training.load import load

    steps = [int(p.name.split("_")[1]) for p in (Path(run_dir) / "checkpoints").glob("step_*")]
    assert steps and max(steps) <= before
    policy = load(run_dir, device="cpu")
    assert all(torch.isfinite(p).all() for p in policy.network.parameters())


# --- numbers -----------------------------------------------------------------------------------


class BadNumbers(ScriptedVectorEnv):
    """One bad number, in one env, in vector step 301."""

    def __init__(self, where, value, mode="NEXT_STEP"):
        super().__init__(Script(4, seed=5), mode)
        self.where, self.value = where, value

    def step(self, actions):
        obs, reward, *rest = super().step(actions)
        if len(self.actions) == 301:
            if self.where == "reward":
                reward = reward.astype(np.float64)
                reward[:] = self.value  # all: a reset row's reward does not count
            else:
                obs = obs.copy()
                obs[1, 2] = self.value
        return obs, reward, *rest


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("where", ["reward", "observation"])
def test_one_bad_number_is_named_within_one_log_interval(tmp_path, where, value):
    config = small(tmp_path, checkpoint_period_env_steps=100, total_env_steps=4_000)
    message = rf"{where} was not finite between env steps (\d+) and (\d+)"
    with pytest.raises(TrainingError, match=message) as caught:
        train(config, envs=BadNumbers(where, value))
    first, last = map(int, re.search(message, str(caught.value)).groups())
    assert first < 301 * 4 <= last <= first + 400, "a checkpoint looks, too"
    assert_finite_checkpoint(config.run_dir, before=1_200)
    assert all(int(row["env_steps"]) <= 1_200 for row in read_rows(config.run_dir))


def test_a_bad_first_observation_of_an_episode_counts(tmp_path):
    class Bad(ScriptedVectorEnv):
        def _observe(self):
            frames = super()._observe()
            self.calls = getattr(self, "calls", 0) + 1
            return np.where(self.calls == 301, np.float32(np.nan), frames)

    for mode in ("SAME_STEP", "DISABLED"):
        config = small(tmp_path / mode, total_env_steps=4_000)
        with pytest.raises(TrainingError, match="observation was not finite"):
            train(config, envs=Bad(Script(4, seed=5), mode))


@pytest.mark.parametrize("value", BAD)
def test_bad_parameters_are_noticed_without_a_bad_loss(tmp_path, value):
    """A ReLU hides a bias of minus infinity from every loss."""
    config = small(tmp_path, checkpoint_period_env_steps=400)
    with pytest.raises(TrainingError, match="not finite"):
        trainer = Trainer(config)

        def spoil(row):
            if row["env_steps"] >= 800:
                trainer.learner.flat.data[3] = value

        from fastdqn.system.signals import StopSignals

        try:
            with StopSignals() as signals:
                trainer.run(as_callbacks([], spoil), signals)
        finally:
            trainer.close()
    assert_finite_checkpoint(config.run_dir, before=800)


def test_a_bad_td_error_is_noticed(tmp_path):
    config = small(tmp_path, prioritized=True)
    trainer = Trainer(config)
    try:
        trainer.replay.nonfinite_priority.fill_(True)
        with pytest.raises(TrainingError, match="TD error was not finite"):
            trainer.report.check_finite(10)
    finally:
        trainer.close()


@pytest.mark.parametrize("value", BAD)
def test_a_bad_reward_stays_in_the_statistics(value):
    """The running sums are cleared by a product: 0 * inf is NaN."""
    episodes = EpisodeStatistics(2, 10)
    none = torch.zeros(2, dtype=torch.bool)
    for i, reward in enumerate([[1.0, 2.0], [value, 0.0], [-value, 1.0]]):
        episodes.add(TimeStep(torch.zeros(2, 1), torch.tensor(reward), none, none, none))
        assert episodes.rewards_are_finite() == (i == 0)
    for _ in range(3):  # ends of episodes do not clear it
        episodes.add(TimeStep(torch.zeros(2, 1), torch.ones(2), none, none, ~none))
        episodes.add(TimeStep(torch.zeros(2, 1), torch.ones(2), none, none, none))
    assert not episodes.rewards_are_finite()


def test_looking_at_frames_asks_nothing_of_the_device():
    finite, none = FiniteFrames(), torch.zeros(2, dtype=torch.bool)
    step = TimeStep(torch.ones(2, 3), torch.ones(2), none, none, none, torch.ones(2, 3), none)
    finite.add(step)  # makes its place
    address = finite._zeros.data_ptr()
    with CaptureLaws() as laws:
        finite.add(step)
    assert laws.broken == [] and laws.operators == 2, "one per array"
    assert finite._zeros.data_ptr() == address


def test_frames_of_bytes_are_not_looked_at():
    finite = FiniteFrames()
    none = torch.zeros(2, dtype=torch.bool)
    finite.add(TimeStep(torch.zeros(2, 3, dtype=torch.uint8), torch.ones(2), none, none, none))
    assert finite.are_finite() and finite._zeros is None
    finite.add(TimeStep(torch.full((2, 3), 3e38), torch.ones(2), none, none, none))
    finite.add(TimeStep(torch.full((2, 3), 3e38), torch.ones(2), none, none, none))
    assert finite.are_finite(), "large is not infinite"


# --- envs --------------------------------------------------------------------------------------


class Raising(ScriptedEnv):
    """Env 1 raises in its fifth call."""

    call = "step"
    calls = 0

    def _count(self, call):
        self.calls += self.call == call
        if self.index == 1 and self.calls == 5:
            raise ZeroDivisionError("by design")

    def step(self, action):
        self._count("step")
        return super().step(action)

    def reset(self, **kwargs):
        self._count("reset")
        return super().reset(**kwargs)


@pytest.mark.parametrize("call", ["step", "reset"])
def test_an_env_that_raises_is_named_with_the_place(tmp_path, call):
    kind = type("Raises", (Raising,), {"call": call})
    script = Script(3, seed=1)
    envs = SyncVectorEnv([lambda i=i: kind(script, i) for i in range(3)])
    with pytest.raises(EnvFailure, match=rf"Env 1 of .* failed in a .*by design at .*{__name__}"):
        train(small(tmp_path), envs=envs)


def test_a_failing_env_is_a_failed_run_and_a_bad_env_is_bad_input():
    assert issubclass(EnvFailure, EnvError) and issubclass(EnvFailure, TrainingError)
    assert not issubclass(EnvError, TrainingError)


# --- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (np.exceptions.AxisError("no"), False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_is_out_of_memory(error, is_memory):
    assert is_out_of_memory(error) == is_memory


def test_a_replay_that_cannot_be_allocated_names_its_plan(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr("fastdqn.replay.buffer.FrameRing", refuse)
    with pytest.raises(MemoryPlanError, match=r"replay_capacity = 1000 needs .* try .* = 500"):
        train(small(tmp_path))


def test_too_little_memory_for_an_update_leaves_the_checkpoint(tmp_path):
    """The limit falls from outside, in the middle of the run."""
    script = """
import resource, sys
from helpers.short_runs import small
from pathlib import Path
from fastdqn import train
from fastdqn.errors import TrainingError
def limit(row):
    if row["env_steps"] == 800:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, used + 2**20))
config = small(Path(sys.argv[1]), checkpoint_period_env_steps=400, replay_capacity=200_000,
    batch_size=100_000, hidden_sizes=(256,), learning_starts_env_steps=1_000, eval_episodes=0)
try:
    train(config, on_log=limit)
except TrainingError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "batch_size = 100000" in done.stdout and "lower" in done.stdout, done.stderr
    assert_finite_checkpoint(tmp_path / "run", before=1_000)


# --- disks -------------------------------------------------------------------------------------


def test_a_disk_fault_is_said_once_and_forgotten_when_over(capsys):
    disk = DiskFaults()
    for error in (OSError(errno.ENOSPC, "full"), CheckpointError("full.")):
        with disk.survived("checkpoint"):
            raise error
    assert disk.failed == {"checkpoint": "full"}
    with disk.survived("metrics.csv"):
        raise OSError(errno.EROFS, "read-only")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("fastdqn: warning: ") for line in lines)
    with disk.survived("checkpoint"):
        pass
    assert list(disk.failed) == ["metrics.csv"]
    with pytest.raises(TrainingError), disk.survived("checkpoint"):
        raise TrainingError("bad numbers are no fault of the disk")


def test_rows_that_the_disk_refuses_are_written_later_and_never_torn(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path, COLUMNS)
    file.write({"env_steps": 1, "loss": 0.5})
    whole, write = path.read_bytes(), os.write

    def torn(descriptor, data):
        return write(descriptor, data[:5])

    for broken in (torn, lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))):
        monkeypatch.setattr("fastdqn.training.metrics_file.os.write", broken)
        with pytest.raises(OSError):
            file.write({"env_steps": 2 if broken is torn else 3})
        assert path.read_bytes() == whole
    monkeypatch.setattr("fastdqn.training.metrics_file.os.write", write)
    file.flush()
    file.close()
    rows = path.read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == [COLUMNS[0], "1", "2", "3"]


def test_a_periodic_checkpoint_that_fails_does_not_end_the_run(tmp_path, monkeypatch, capsys):
    save = fastdqn.training.run_state.save_checkpoint

    def sometimes(directory, env_steps, *args, **kwargs):
        if env_steps in (800, 1_200):
            raise CheckpointError("No space left.")
        return save(directory, env_steps, *args, **kwargs)

    monkeypatch.setattr(fastdqn.training.run_state, "save_checkpoint", sometimes)
    result = train(small(tmp_path, checkpoint_period_env_steps=400))
    assert result.summary["env_steps"] == 2_000
    assert capsys.readouterr().err.count("checkpoint could not be written") == 1


def test_a_final_checkpoint_that_fails_is_a_failed_run_with_a_summary(tmp_path, capsys):
    args = ["train", "--run-dir", str(tmp_path / "run"), "--total-env-steps", "2000"]
    args += ["--eval-episodes", "0", "--hidden-sizes", "8", "--device", "cpu"]
    (tmp_path / "run").mkdir()
    code = subprocess.run(
        [sys.executable, "-c", SPOILED.format(args=args)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert code.returncode == 1, code.stderr
    assert "could not write checkpoint" in code.stderr.strip().splitlines()[-1]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["env_steps"] == 2_000


SPOILED = """
import os, threading, time, sys
from pathlib import Path
args = {args!r}
run = Path(args[2])
def spoil():
    while not (run / "config.json").exists():
        time.sleep(0.01)
    (run / "checkpoints").write_text("in the way")
threading.Thread(target=spoil, daemon=True).start()
from fastdqn.cli.main import main
sys.exit(main(args))
"""


def test_a_directory_that_vanishes_does_not_end_the_run_at_once(tmp_path, capsys):
    def vanish(row):
        if row["env_steps"] == 800:
            shutil.rmtree(tmp_path / "run")

    config = small(tmp_path, checkpoint_period_env_steps=400)
    with pytest.raises(TrainingError, match=r"could not write metrics\.csv .*deleted"):
        train(config, on_log=vanish)
    assert_finite_checkpoint(config.run_dir, before=2_000)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["env_steps"] == 2_000


def test_a_run_directory_that_cannot_be_written_is_refused(tmp_path, monkeypatch, capsys):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fastdqn.training.trainer, "write_json", full)
    code = main(["train", "--run-dir", str(tmp_path / "run"), "--device", "cpu"])
    assert code == 2
    assert "No space left on device" in capsys.readouterr().err

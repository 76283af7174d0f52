"""The trainer's own loop, on real envs and on ready-made frames, from a full replay.

``env_s`` is the time the host spends in ``send`` and ``recv``, ``learn_s`` the time of
``update_from``, ``wall_s`` that of the windows, ``overlap = (env_s + learn_s) / wall_s``.

On CUDA ``update_from`` only enqueues work: ``learn_s`` is taken between two CUDA events on the
stream, while the host already waits in ``recv``. With envs that work in threads of their own both
count the same second, and an overlap above 1 says how far the device's work was hidden behind the
envs'.

On a CPU ``update_from`` returns when it is done, so ``env_s`` holds only what the envs still
needed after that. What env threads did meanwhile shows as a smaller ``env_s``; the overlap cannot
exceed 1, and is the share of the loop that envs and updates account for.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from fastdqn.bench.cases.env import FRAME_SKIP, make_stream, require_ale
from fastdqn.bench.checks import expect
from fastdqn.bench.context import Context
from fastdqn.bench.random_replay import fill_random
from fastdqn.bench.workload import Workload
from fastdqn.config.config import Config
from fastdqn.config.presets import presets
from fastdqn.training.trainer import Trainer

ENDLESS: dict[str, Any] = {
    "eval_episodes": 0,
    "save_final_checkpoint": False,
    "checkpoint_period_env_steps": None,
    "total_env_steps": 2**40,
    "log_period_env_steps": 2**40,
}
_A: dict[str, Any] = {"double": True, "prioritized": True, "n_step": 3}
_B: dict[str, Any] = {**_A, "batch_size": 256, "update_period_env_steps": 64.0}
_RECIPES: dict[str, dict[str, Any]] = {
    "cartpole": {
        "hidden_sizes": (120, 84), "batch_size": 128, "update_period_env_steps": 10.0,
        "double": False, "n_step": 1,
    },
    "dqn": {},
    "A": _A,
    "B": _B,
    "B2": {**_B, "update_period_env_steps": 16.0},
    "C": {**_B, "network": "impala", "impala_width": 2},
    "C2": {**_B, "network": "impala", "impala_width": 1},
    "D": {**_A, "update_period_env_steps": 1.0},
}  # fmt: skip


def make(context: Context, *, recipe: str, env: str, num_envs: int) -> Workload:
    """The workload of one ``e2e/`` case: a repeat is one turn of the loop."""
    num_envs = context.small(num_envs, 4)
    with tempfile.TemporaryDirectory(prefix="fastdqn-bench-") as directory:
        config = make_config(context, recipe, num_envs).replace(run_dir=str(Path(directory) / "r"))
        if env == "pong":
            require_ale()
        envs = make_stream("synthetic", num_envs) if env == "synthetic" else None
        trainer = Trainer(config, envs)
        try:
            loop = MeteredLoop(trainer)
        except BaseException:
            trainer.close()
            raise

    def check() -> None:
        steps, updates = trainer.env_steps, trainer.learner.updates
        turns = max(2, -(-int(config.update_period_env_steps) // num_envs))
        loop.run(turns)
        expect(trainer.env_steps - steps == turns * num_envs, "turns of the loop are missing")
        # Due after a turn, done in the next: of the owed updates at most one turn's are open.
        owed = turns * num_envs / config.update_period_env_steps
        done = trainer.learner.updates - updates
        open_ = num_envs / config.update_period_env_steps + 1
        expect(abs(done - owed) <= open_, f"{done} updates were done where {owed:g} are owed")
        finite = trainer.learner.read_statistics()["finite"] == done
        expect(finite, "a loss is not finite")

    learner = trainer.learner
    skip = 1 if recipe == "cartpole" else FRAME_SKIP
    counts = {
        "env_steps": num_envs,
        "updates": num_envs / config.update_period_env_steps,
    }
    if skip > 1:
        counts["frames"] = num_envs * skip
    return Workload(
        run=loop.run,
        check=check,
        unit="vector step",
        counts=counts,
        replay_ratio=config.replay_ratio,
        host_clock=True,
        threads=torch.get_num_threads(),  # as the trainer has set them
        details={
            "precision": learner.precision,
            "mode": learner.mode,
            "batch_size": config.batch_size,
            "update_period_env_steps": config.update_period_env_steps,
            "replay_bytes": trainer.replay.nbytes(),
        },
        begin=loop.start_meter,
        extra=loop.read_meter,
        close=trainer.close,
    )


def make_config(context: Context, recipe: str, num_envs: int) -> Config:
    """The configuration of one recipe."""
    base = presets()["cartpole" if recipe == "cartpole" else "dqn-atari"]
    capacity = context.small(100_000, 2_000) if recipe == "cartpole" else context.pixel_capacity()
    config = base.replace(
        num_envs=num_envs,
        replay_capacity=capacity,
        device=str(context.device),
        mode="auto" if context.device.type == "cuda" else "eager",
        **ENDLESS,
        **_RECIPES[recipe],
    )
    starts = num_envs * (config.n_step + 2)
    return config.replace(
        learning_starts_env_steps=starts,
        batch_size=context.small(config.batch_size, 8),
    )


class _Until:
    """Stands where the loop looks for a signal, and ends it after so many env steps."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.env_steps = 0

    @property
    def name(self) -> str | None:
        """Not None once the steps are done."""
        return "enough" if self._trainer.env_steps >= self.env_steps else None


class MeteredLoop:
    """The loop of a trainer, in portions, with clocks around its envs and its learner.

    Args:
        trainer: Not yet begun; its replay is filled with random rows.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._until = trainer.stop = _Until(trainer)  # type: ignore[assignment]
        self._on_cuda = trainer.device.type == "cuda"
        fill_random(trainer.replay, trainer.envs.num_actions)
        trainer.actions = trainer.begin()
        trainer.learning_from = 0  # the replay is full
        self._step_envs, self._learn = trainer.envs, trainer.learner.update_from
        trainer.envs = _TimedStream(trainer.envs, self)  # type: ignore[assignment]
        trainer.learner.update_from = self._timed_learn  # type: ignore[method-assign]
        self.start_meter()

    def run(self, turns: int) -> None:
        """So many turns: step, learn, store, act."""
        self._until.env_steps = self._trainer.env_steps + turns * self._trainer.config.num_envs
        began = time.perf_counter()
        self._trainer.loop()
        if self._on_cuda:
            torch.cuda.synchronize(self._trainer.device)
            self.learn_s += sum(a.elapsed_time(b) / 1e3 for a, b in self._events)
            self._events.clear()
        self.wall_s += time.perf_counter() - began

    def start_meter(self) -> None:
        """Forget what was counted so far."""
        self.env_s = self.learn_s = self.wall_s = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def read_meter(self) -> dict[str, float]:
        """Seconds since :meth:`start_meter`, and the overlap."""
        return {
            "env_s": self.env_s,
            "learn_s": self.learn_s,
            "wall_s": self.wall_s,
            "overlap": (self.env_s + self.learn_s) / self.wall_s if self.wall_s else 0.0,
        }

    def _timed_learn(self, replay: Any, times: int = 1, **kwargs: Any) -> Any:
        if times <= 0:
            return None
        if not self._on_cuda:
            began = time.perf_counter()
            result = self._learn(replay, times, **kwargs)
            self.learn_s += time.perf_counter() - began
            return result
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result = self._learn(replay, times, **kwargs)
        end.record()
        self._events.append((start, end))
        return result


class _TimedStream:
    """A stream whose ``send`` and ``recv`` are timed; everything else is the stream's own."""

    def __init__(self, stream: Any, meter: MeteredLoop) -> None:
        self._stream, self._meter = stream, meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def send(self, actions: Any) -> None:
        began = time.perf_counter()
        self._stream.send(actions)
        self._meter.env_s += time.perf_counter() - began

    def recv(self) -> Any:
        began = time.perf_counter()
        step = self._stream.recv()
        self._meter.env_s += time.perf_counter() - began
        return step

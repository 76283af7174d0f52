"""A learning curve: Pong, until the stage's time is over or the game is won."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.session import Session
from fastdqn import Config, train
from fastdqn.config.presets import presets

_COLUMNS = ("env_steps", "return_mean", "frames_per_s", "updates_per_s", "wall_s")
_SUMMARY = (
    "stopped_by", "env_steps", "updates", "train_return_mean", "frames_per_s", "train_s", "mode",
    "precision",
)  # fmt: skip
_EVERY = 5  # rows between two writes
_FOR_THE_END_S = 25.0
_NEEDED_S = 60.0  # in less it learns nothing


def measure(session: Session) -> None:
    """``curve_1``, rows of :data:`_COLUMNS`, and ``summary_1``; 2 if it is run again, and so on."""
    attempt = 1 + sum(key.startswith("curve_") for key in session.entries)
    run = partial(_run, session, f"curve_{attempt}")
    session.measure(f"summary_{attempt}", run, needs_s=_NEEDED_S)


def _run(session: Session, key: str) -> dict[str, Any]:
    folder = session.file.path.parent / "learn"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut short
    curve: list[list[float | None]] = []

    def on_log(row: Mapping[str, Any]) -> bool:
        curve.append([row.get(name) for name in _COLUMNS])
        if len(curve) % _EVERY == 0:
            session.keep(key, curve)
        return session.left() < _FOR_THE_END_S

    try:
        summary = train(make_config(session.smoke, folder), on_log=on_log).summary
    finally:
        session.keep(key, curve)
        shutil.rmtree(folder, ignore_errors=True)
    return {name: summary.get(name) for name in _SUMMARY}


def make_config(smoke: bool, run_dir: Path) -> Config:
    """Double, prioritized, three steps; it keeps no checkpoint, for one holds 7 GB of frames."""
    config = presets()["dqn-atari"].replace(
        num_envs=16,
        n_step=3,
        double=True,
        prioritized=True,
        learning_rate=1e-4,
        target_period_updates=2_000,
        learning_starts_env_steps=20_000,
        epsilon_duration_env_steps=150_000,
        total_env_steps=3_000_000,
        stop_return=18.0,
        checkpoint_period_env_steps=None,
        save_final_checkpoint=False,
        eval_episodes=0,
        run_dir=str(run_dir),
    )
    if not smoke:
        return config
    return config.replace(
        num_envs=4, learning_starts_env_steps=160, replay_capacity=2_000, total_env_steps=400,
        log_period_env_steps=40, batch_size=8, torch_threads=1,
    )  # fmt: skip

"""What a run becomes when it is resumed with more steps, or on other hardware."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.training.schedules import Schedules


def continued(config: Config, before: Config, run_dir: Path) -> Config:
    """The configuration that a resumed run goes on with: its schedules end where they did.

    Args:
        config: What is asked for.
        before: Of the run so far.
        run_dir: Where that lies, for messages.

    Raises:
        ConfigError: Where the step size has been annealed to 0 before the new end, or
            ``schedule_env_steps`` is another and nobody has asked to replan.
    """
    ended, wanted = before.schedules_end_env_steps, config.schedules_end_env_steps
    if ended == wanted or not _anneals(config):
        return config.replace(replan_schedules=False)
    if config.replan_schedules:
        return config.replace(replan_schedules=False)
    if config.schedule_env_steps is not None:
        raise ConfigError(
            f"schedule_env_steps = {config.schedule_env_steps} differs from the {ended} of the run "
            f"in {str(run_dir)!r}; leave it, or add replan_schedules = True "
            f"(--replan-schedules) to anneal anew."
        )
    if config.learning_rate_final == 0.0 and config.total_env_steps > ended:
        raise ConfigError(
            f"total_env_steps = {config.total_env_steps} goes on after env step {ended}, where the "
            f"run in {str(run_dir)!r} has annealed its learning rate to 0; add replan_schedules = "
            f"True (--replan-schedules) to anneal over the new length, or stop at {ended}."
        )
    return config.replace(schedule_env_steps=None if ended == config.total_env_steps else ended)


def say_what_becomes(config: Config, before: Config, env_steps: int) -> None:
    """Warn where the schedules of a resumed run are others than before, with their values.

    Args:
        config: As :func:`continued` gave it.
        before: Of the run so far.
        env_steps: Where it goes on.
    """
    old, new = Schedules(before), Schedules(config)
    if old.end == new.end or not _anneals(config):
        return
    parts = [
        f"{name} {was(env_steps):.4g} -> {now(env_steps):.4g}"
        for name, was, now, active in (
            ("learning_rate", old.learning_rate, new.learning_rate, _anneals_rate(config)),
            ("beta", old.beta, new.beta, _anneals_beta(config)),
        )
        if active
    ]
    warnings.warn(
        f"The schedules are planned anew: they end at env step {new.end:,} instead of "
        f"{old.end:,}; at env step {env_steps:,} {', '.join(parts)}.",
        stacklevel=2,
    )


def check_precision(config: Config, saved: str, now: str, device: str) -> None:
    """Refuse to go on in another precision by accident.

    Args:
        config: What is asked for.
        saved: Precision of the checkpoint, fp32 or bf16.
        now: That of this process.
        device: Name of its device.

    Raises:
        CheckpointError: Where they differ and ``precision`` is ``auto``.
    """
    if saved != now and config.precision == "auto":
        raise CheckpointError(
            f"precision = 'auto' is {now} on {device}, and the run has learned in {saved}; "
            f"add precision = {now!r} (--precision {now}) to go on in that, or resume it where "
            f"there is {saved}."
        )


def say_what_differs(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn where a resumed run is computed in another way than before.

    Args:
        saved: What :func:`fastdqn.training.run_json.resolved` gave then.
        now: And gives here.
    """
    parts = [
        f"{name} {saved[name]} -> {now[name]}"
        for name in now
        if name in saved and saved[name] != now[name]
    ]
    if parts:
        warnings.warn(
            f"The run goes on in another way than before: {', '.join(parts)}; it learns as well, "
            f"but its numbers are not those of an uninterrupted run.",
            stacklevel=2,
        )


def _anneals(config: Config) -> bool:
    return _anneals_rate(config) or _anneals_beta(config)


def _anneals_rate(config: Config) -> bool:
    return config.learning_rate_final not in (None, config.learning_rate)


def _anneals_beta(config: Config) -> bool:
    return config.prioritized and config.priority_beta_start != config.priority_beta_end

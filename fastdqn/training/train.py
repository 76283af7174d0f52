"""``fastdqn.train``: a run in this process, and the process as before when it is over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from gymnasium.vector import VectorEnv
from torch import nn

from fastdqn.callbacks.callback import Callback
from fastdqn.callbacks.callback_list import OnLog, as_callbacks
from fastdqn.config.config import Config
from fastdqn.envs import EnvStream
from fastdqn.errors import ConfigError, EnvFailure, TrainingError
from fastdqn.learning.objectives import Objective
from fastdqn.system.devices import resolve_device
from fastdqn.system.faults import explain_out_of_memory
from fastdqn.system.process_state import flush_denormals, torch_as_before
from fastdqn.system.signals import StopSignals
from fastdqn.training.build import keep_memory_for
from fastdqn.training.starting_point import config_named
from fastdqn.training.trainer import Trainer, TrainResult


def train(
    config: Config | str,
    *,
    envs: VectorEnv | EnvStream | None = None,
    eval_envs: VectorEnv | EnvStream | None = None,
    network: nn.Module | None = None,
    objective: Objective | None = None,
    initial: str | os.PathLike[str] | None = None,
    on_log: OnLog | None = None,
    callbacks: Iterable[Callback] = (),
) -> TrainResult:
    """Train an agent and leave a run directory.

    SIGINT (Ctrl-C), SIGTERM and SIGUSR1 end the run after its current step. Once it is saved and
    closed they go on to whom they were meant for: SIGINT raises KeyboardInterrupt, the others
    SystemExit (143 and 138), so that a loop over seeds ends; a handler of your own is called
    instead, and train() returns if that does. In other threads than the main one signals are not
    looked at. ``config.max_wall_s`` ends a run in the same way, but raises nothing
    (``summary["stopped_by"]`` says so).

    The process is afterwards as before: handlers, threads, torch's settings, and its default
    generators, which the run seeds from ``config.seed`` and saves, for dropout and for envs that
    draw from them. The global generators of NumPy and of Python's ``random`` are left alone; a run
    that draws from those does not repeat.

    Args:
        config: Everything else; or the name of a preset, or an env's id, which stands for
            ``fastdqn.config_for(env_id)``.
        envs: Instead of ``config.env_id``; their number replaces ``config.num_envs``. They are
            closed at the end.
        eval_envs: For evaluation; with ``envs`` and without these there is none.
        network: Instead of ``config.network``: maps observations [B, S, *O] or [B, *O] to Q
            [B, A]. It is trained in place, but for what is frozen (``requires_grad = False``) and
            for what Q does not depend on. It is tried on a fake batch before anything is made; lazy
            layers get their shapes so. Of a compiled module, the one inside is trained.
        objective: What to minimise, in the place of ``config.double``, ``loss``,
            ``huber_delta``, ``iqn_samples`` and ``iqn_target_samples``; beside ``munchausen`` it is
            refused (see :class:`fastdqn.learning.Objective`). A run that is resumed
            needs it again.
        initial: Instead of ``config.initial``.
        on_log: Called with every row of metrics.csv; True stops the run.
        callbacks: Hear more of the run, and may stop it: see :class:`fastdqn.Callback`.

    Raises:
        FastDQNError: ConfigError, EnvError, MemoryPlanError or CheckpointError, all before the
            first env step; TrainingError where a number is no longer finite, memory runs out or
            the final checkpoint cannot be written; EnvFailure where an env raises or dies.
            Envs that do not return within ``step_timeout_s`` end the process (exit code 70).
        KeyboardInterrupt, SystemExit: See above.
    """
    if isinstance(config, str):
        config = config_named(config)
    heard = as_callbacks(callbacks, on_log)
    _check(config, initial)
    _check_envs(envs, eval_envs)
    if initial is not None:
        config = config.replace(initial=os.fspath(initial))
    signals = StopSignals()
    try:
        return train_until_stopped(
            config, envs, eval_envs, network, objective, callbacks=heard, signals=signals
        )
    finally:
        signals.pass_on()


def _check(config: Any, initial: Any) -> None:
    """Refuse, by a ConfigError, what is of another type, and modes of torch that updates refuse."""
    if not isinstance(config, Config):
        fix = "fastdqn.Config(**config)" if isinstance(config, dict) else "fastdqn.Config()"
        raise ConfigError(f"config is {_kind(config)}; pass {fix}.")
    if not isinstance(initial, str | os.PathLike | None):
        raise ConfigError(f"initial = {initial!r} is no path; pass that of a run or checkpoint.")
    device = resolve_device(config.device).type
    for mode, on in {
        "autocast": torch.is_autocast_enabled(device),
        "inference_mode": torch.is_inference_mode_enabled(),
    }.items():
        if on:
            raise ConfigError(f"A run cannot learn under torch.{mode}; call train outside of it.")


def _check_envs(envs: Any, eval_envs: Any) -> None:
    """Refuse, by a ConfigError, texts in the place of envs."""
    for name, given in {"envs": envs, "eval_envs": eval_envs}.items():
        if isinstance(given, str):
            raise ConfigError(
                f"{name} = {given!r} is a text; set env_id in the config, or pass "
                f"fastdqn.make_envs({given!r}, num_envs=...)."
            )


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def train_until_stopped(
    config: Config,
    *parts: Any,
    callbacks: Iterable[Callback] = (),
    signals: StopSignals,
    own_process: bool = False,
    lower_replay: bool = False,
) -> TrainResult:
    """:func:`train`, but a signal is no more than the reason why the run stopped.

    Args:
        config: Everything else.
        parts: Those of the :class:`Trainer`.
        callbacks: As there.
        signals: Not yet entered; they keep the name of the one that came.
        own_process: Whether nothing but this run wants the process's memory.
        lower_replay: As there.

    Raises:
        Stopped: Where a signal took env workers along before the first step.
    """
    with signals, torch_as_before(resolve_device(config.device)):
        try:
            trainer = Trainer(config, *parts, lower_replay=lower_replay)
            try:
                # Dead units leave averages that shrink for ever, and arithmetic on denormal numbers
                # is slow: RMSprop's step on 34,000 parameters went from 130 to 850 us.
                flush_denormals()
                if own_process:
                    keep_memory_for(trainer.learner.network, trainer.device)
                with explain_out_of_memory(TrainingError, out_of_memory(config)):
                    return trainer.run(callbacks, signals)
            finally:
                trainer.close()
        except EnvFailure:
            if signals.came():  # to the whole group: workers die of it while they start
                signals.leave_if_asked()
            raise


def out_of_memory(config: Config) -> str:
    """Where memory runs out within the run."""
    return (
        f"Out of memory after the replay was allocated: batch_size = {config.batch_size}, "
        f"replay_capacity = {config.replay_capacity}, num_envs = {config.num_envs}; lower "
        f"batch_size first, or replay_capacity (fastdqn train --dry-run shows the plan), and go "
        f"on from the last checkpoint, which is intact."
    )

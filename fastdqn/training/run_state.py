"""A run as a checkpoint: everything that its next step depends on, saved and loaded again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from fastdqn.checkpoints.store import open_newest, refusing, save_checkpoint
from fastdqn.envs import arrays
from fastdqn.envs.stream import saves_state
from fastdqn.errors import CheckpointError
from fastdqn.system.info import device_name
from fastdqn.training.continuation import check_precision, say_what_becomes, say_what_differs
from fastdqn.training.restore_parts import (
    restore_actions,
    restore_counters,
    restore_default_generators,
    restore_envs,
    restore_learner,
    restore_replay,
)

if TYPE_CHECKING:
    from fastdqn.training.trainer import Trainer


def save_run(trainer: Trainer, *, with_replay: bool) -> Path:
    """Write a checkpoint of everything the next step depends on; where it is."""
    with trainer.report.clock.paused():
        trainer.report.check_finite(trainer.env_steps)
        trainer.report.check_parameters()
        envs = trainer.envs.state_dict() if saves_state(trainer.envs) else None  # type: ignore[attr-defined]
        run = {
            "config": json.loads(trainer.config.to_json()),
            "spec": trainer.spec,
            "resolved": trainer.resolved,
            "env_steps": trainer.env_steps,
            "learning_from": trainer.learning_from,
            "updates_before": trainer.updates_before,
            "actor": trainer.actor.state_dict(),
            "report": trainer.report.state_dict(),
            "default_generators": trainer.generators.state_dict(),
            "actions": trainer.actions,
            "actions_to_host": trainer.actor.to_host,
            "envs": envs,
            "envs_of_arrays": envs is not None and not arrays.has_tensors(envs),
        }
        state = {"run": run, "learner": trainer.learner.state_dict()}
        if with_replay:
            state["replay"] = trainer.replay.state_dict()
        directory = trainer.run_dir / "checkpoints"
        return save_checkpoint(
            directory,
            trainer.env_steps,
            state,
            trainer.config.checkpoint_keep,
            score=trainer.report.score(trainer.env_steps),
            keep_best=trainer.config.checkpoint_keep_best,
        )


def restore_run(trainer: Trainer) -> Tensor | None:
    """Load the newest whole checkpoint; the pending actions, or None if the envs start anew.

    Raises:
        CheckpointError: Where none is whole, or the newest that is does not fit this run.
    """
    c = trainer.config
    path, state = open_newest(trainer.run_dir / "checkpoints")
    with refusing(path):
        saved = "bf16" if state["run"]["spec"]["bf16"] else "fp32"
        check_precision(c, saved, trainer.learner.precision, device_name(trainer.device))
        restore_learner(state["learner"], trainer.learner)
        names = ("env_steps", "learning_from", "updates_before")
        counters = {name: getattr(trainer, name) for name in names}
        run = state["run"]
        restore_counters(run, counters, trainer.actor, trainer.report)
        restore_default_generators(run, trainer.generators)
        trainer.env_steps = counters["env_steps"]
        trainer.learning_from = counters["learning_from"]
        trainer.updates_before = counters["updates_before"]
        most = c.num_envs / c.update_period_env_steps + trainer.launch
        if trainer.updates_owed() > most:
            raise CheckpointError(
                f"{path} counts {trainer.env_steps} env steps and {trainer.learner.updates} "
                f"updates, which no run of this configuration does; take another checkpoint."
            )
        trainer.set_schedules()
        say_what_differs(run.get("resolved", {}), trainer.resolved)
        say_what_becomes(c, trainer.before, trainer.env_steps)
        if "replay" not in state:
            # An empty replay must fill first; updates missed meanwhile are not made up.
            trainer.learning_from = trainer.env_steps + c.learning_starts_env_steps
            trainer.updates_before = trainer.learner.updates
            return None
        restore_replay(state["replay"], trainer.replay, trainer.envs.num_actions)
        if run["envs"] is None or not saves_state(trainer.envs):
            return None
        actions = restore_actions(run["actions"], c.num_envs, trainer.envs.num_actions)
        trainer.actor.to_host = bool(run["actions_to_host"])
        restore_envs(run["envs"], trainer.envs, arrays=bool(run.get("envs_of_arrays")))
        return actions

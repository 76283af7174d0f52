"""Fields that are right alone and not together, and names that name nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from fastdqn.config.checks import shown
from fastdqn.config.ranges import are_apart
from fastdqn.errors import ConfigError

if TYPE_CHECKING:
    from fastdqn.config.config import Config

# What excludes each other, and the value that says nothing of it.
_RIVALS: list[tuple[str, str, Any]] = [
    ("max_grad_norm", "max_grad_value", None),
    ("max_grad_value", "max_grad_norm", None),
    ("batch_norm", "layer_norm", False),
    ("layer_norm", "batch_norm", False),
]


def without_rivals(values: Mapping[str, Any], was_set: Collection[str]) -> dict[str, Any]:
    """The values without those left over that exclude one that was set."""
    now = dict(values)
    for name, rival, idle in _RIVALS:
        if name in was_set and rival not in was_set and now[name] != idle:
            now[rival] = idle
    return now


def check_pairs(config: Config) -> None:
    """Refuse fields that are right alone and not together, and names that name nothing.

    Raises:
        ConfigError: For the first of them.
    """
    c = config

    def refuse(name: str, why: str) -> None:
        raise ConfigError(f"{name} = {shown(getattr(c, name))} {why}.")

    if not c.env_id or not c.env_id.isprintable():
        refuse("env_id", "is no name; use one such as CartPole-v1 or ALE/Pong-v5")
    if c.run_dir is not None and (not c.run_dir or "\0" in c.run_dir):
        refuse("run_dir", "is no path; name a directory, or None for a fresh one")
    if c.initial is not None and (not c.initial or "\0" in c.initial):
        refuse("initial", "is no path; name a run directory or a checkpoint")
    if c.observation_keys is not None and not all(c.observation_keys or ("",)):
        refuse("observation_keys", "must be one name or more, or None for all")
    if c.device == "mps":
        refuse(
            "device",
            "is not supported, only cpu and cuda are; use cpu",
        )
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", c.device):
        refuse("device", "is no device; use auto, cpu, cuda or cuda:<index>")
    if c.dueling and not c.hidden_sizes:
        refuse("dueling", "needs a hidden layer to split; set hidden_sizes, or leave it out")
    wanted = c.hidden_sizes or c.network == "batchnorm_cnn"
    if not wanted or any(not 1 <= size <= 65_536 for size in c.hidden_sizes):
        refuse("hidden_sizes", "must be one or more sizes from 1 to 65536")
    if c.value_min >= c.value_max:
        refuse("value_min", f"is not below value_max = {c.value_max}; lower it")
    if not are_apart(c.value_min, c.value_max, c.atoms):
        refuse(
            "value_min",
            f"leaves {c.atoms} atoms up to value_max = {c.value_max} no room in float32; lower it",
        )
    if c.batch_norm and c.layer_norm:
        refuse("layer_norm", "and batch_norm exclude each other; leave one out")
    if c.batch_norm and c.batch_size < 2:
        refuse("batch_norm", "needs a variance, so a batch_size of 2 or more")
    stack = c.frame_stack or 1
    rows = c.replay_capacity // c.num_envs
    need = stack + c.n_step + 1
    if rows < need:
        refuse(
            "replay_capacity",
            f"leaves {rows} rows for each of {c.num_envs} envs; with frame_stack = {stack} "
            f"and n_step = {c.n_step} use at least {need * c.num_envs}",
        )
    if c.batch_size > c.replay_capacity:
        refuse("batch_size", f"exceeds replay_capacity = {c.replay_capacity}; lower it")
    drawn = c.drawn_at_once(c.updates_per_launch or 1)
    if drawn > c.replay_capacity:
        refuse(
            "updates_per_launch",
            f"draws {drawn} transitions at once, more than replay_capacity = "
            f"{c.replay_capacity}; lower it",
        )
    lowest = c.num_envs * (c.n_step + 2)
    if c.learning_starts_env_steps < lowest:
        refuse(
            "learning_starts_env_steps",
            f"comes before the replay can hold a transition; use at least {lowest} "
            f"(num_envs * (n_step + 2))",
        )
    if c.learning_rate_final == 0.0 and c.schedules_end_env_steps < c.total_env_steps:
        refuse(
            "schedule_env_steps",
            f"leaves a learning rate of 0 until total_env_steps = {c.total_env_steps}; "
            f"raise learning_rate_final, or set it to None",
        )
    if len(set(c.logger)) < len(c.logger):
        refuse("logger", "names one twice; leave one out")
    if c.max_grad_norm is not None and c.max_grad_value is not None:
        refuse("max_grad_value", "and max_grad_norm exclude each other; set one of them to None")


def check_unevaluated(config: Config) -> None:
    """Refuse, for a run on envs of the caller's and none to evaluate on, what evaluations are for.

    Raises:
        ConfigError: Where a field asks for one.
    """
    for name in ("eval_period_env_steps", "checkpoint_keep_best"):
        if getattr(config, name):
            raise ConfigError(
                f"{name} = {shown(getattr(config, name))} has no envs to evaluate on; pass "
                f"eval_envs beside envs, or set eval_episodes = 0."
            )

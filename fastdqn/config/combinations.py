"""Which settings go together: details that nothing would use, and pairs that cannot both hold.

A detail works in company only, as ``huber_delta`` does with ``loss = 'huber'``. Without its company
it is idle: one that was set is refused, for whoever set it expects something of it; one left over
from a preset, a record or another configuration takes its idle value, so that what switches a thing
off switches its details off with it.

Not here, for they count later: ``eval_num_envs``, ``eval_epsilon``, ``eval_max_env_steps`` and
``eval_patience_env_steps``, by which ``fastdqn eval`` plays, also a run that did not evaluate
itself.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from fastdqn.config.env_ids import is_native
from fastdqn.errors import ConfigError

if TYPE_CHECKING:
    from fastdqn.config.config import Config

_DEFAULT = object()


@dataclass(frozen=True)
class _Detail:
    """Fields with the same company."""

    names: str  # separated by spaces
    in_use: Callable[[Any], bool]  # of an object that has every field
    refusal: str  # what follows "name = value"; {field} is the value of another field
    idle: Any = _DEFAULT  # the value that says nothing; that of Config, if it is not said


def _on_ale(c: Any) -> bool:
    return bool(c.env_id.startswith("ALE/"))


# A detail stands below what decides on it.
_DETAILS = [
    _Detail(
        "env_kwargs",
        lambda c: not _on_ale(c),
        "has no effect with env_id = {env_id}, which runs on ALE's own vector env; set the fields "
        "that start with atari_, or leave it out",
    ),
    _Detail(
        "env_vectorization",
        lambda c: (
            c.env_vectorization == "vector_entry_point" or not (_on_ale(c) or is_native(c.env_id))
        ),
        "has no effect with env_id = {env_id}, whose envs step as one; use auto",
    ),
    _Detail(
        "env_threads atari_protocol atari_full_action_space atari_frame_skip atari_noop_max "
        "atari_max_episode_frames",
        _on_ale,
        "has no effect with env_id = {env_id}; use an id that starts with ALE/, or leave it out",
    ),
    _Detail(
        "mode",
        lambda c: c.mode != "graph" or c.device != "cpu",
        "needs a CUDA device; use eager or compile with device = 'cpu'",
    ),
    _Detail(
        "resume",
        lambda c: c.run_dir is not None,
        "needs the directory to go on in; name it with run_dir",
    ),
    _Detail(
        "lock_timeout_s",
        lambda c: c.run_dir is not None,
        "has no effect on a fresh directory, which nobody else has; name one with run_dir, or "
        "leave it out",
    ),
    _Detail(
        "replan_schedules",
        lambda c: c.resume != "never",
        "has no effect on a new run; set resume, or leave it out",
    ),
    _Detail(
        "schedule_env_steps replan_schedules",
        lambda c: c.learning_rate_final is not None or c.prioritized,
        "has no effect on a constant learning rate and a uniform replay; set learning_rate_final, "
        "or leave it out",
    ),
    _Detail(
        "initial_torso_only",
        lambda c: c.initial is not None,
        "has no weights to take a part of; set initial, or leave it out",
    ),
    _Detail(
        "impala_width",
        lambda c: c.network == "impala",
        "is for network = 'impala', not {network}; leave it out or use that one",
    ),
    _Detail(
        "batch_norm",
        lambda c: c.network in ("auto", "mlp"),
        "is for network = 'mlp', not {network}; leave it out or use that one",
    ),
    _Detail(  # the same network chooses the next action and values it
        "double",
        lambda c: c.target_period_updates is not None,
        "has no effect without a target network; set target_period_updates, or leave it out",
        idle=False,
    ),
    _Detail(
        "target_tau",
        lambda c: c.target_period_updates is not None,
        "has no target network to move; set target_period_updates",
    ),
    _Detail(  # with a period of 1 the target moves within every update
        "updates_per_launch",
        lambda c: not 1 < (c.target_period_updates or 1) < (c.updates_per_launch or 1),
        "exceeds target_period_updates = {target_period_updates}, and the target moves between "
        "launches only; lower it",
    ),
    _Detail(
        "huber_delta",
        lambda c: c.loss == "huber",
        "has no effect with loss = {loss}; use loss = 'huber', or leave it out",
    ),
    _Detail(
        "rmsprop_centred rmsprop_alpha",
        lambda c: c.optimizer == "rmsprop",
        "has no effect with optimizer = {optimizer}; use optimizer = 'rmsprop', or leave it out",
    ),
    _Detail(
        "priority_alpha priority_beta_start priority_beta_end priority_epsilon",
        lambda c: c.prioritized,
        "has no effect on a uniform replay; set prioritized = True, or leave it out",
    ),
    _Detail(
        "eval_period_env_steps",
        lambda c: c.eval_episodes > 0,
        "has no episodes to play; set eval_episodes",
    ),
    _Detail(
        "stop_eval_return",
        lambda c: c.eval_period_env_steps is not None,
        "has no evaluation during the run to look at; set eval_period_env_steps and eval_episodes",
    ),
    _Detail(
        "checkpoint_period_env_steps",
        lambda c: c.save_final_checkpoint,
        "contradicts save_final_checkpoint = False, by which a run leaves none; unset one",
    ),
    _Detail(
        "checkpoint_keep checkpoint_keep_best checkpoint_replay",
        lambda c: c.save_final_checkpoint,
        "has no effect without checkpoints; set save_final_checkpoint = True, or leave it out",
    ),
    _Detail(
        "checkpoint_keep_best",
        lambda c: c.eval_episodes > 0,
        "has no evaluation to judge by; set eval_episodes, or leave it out",
    ),
]

_RIVALS = [("max_grad_norm", "max_grad_value"), ("max_grad_value", "max_grad_norm")]


def without_rivals(values: Mapping[str, Any], was_set: Collection[str]) -> dict[str, Any]:
    """The values without those left over that exclude one that was set."""
    now = dict(values)
    for name, rival in _RIVALS:
        if name in was_set and rival not in was_set and now[name] is not None:
            now[rival] = None
    return now


def settled(
    values: Mapping[str, Any], was_set: Collection[str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The values with what is left over, and without effect, put to its idle value.

    Args:
        values: Of every field, each of its type and in its range.
        was_set: Names of the fields that somebody meant to have this value.
        defaults: Of every field.

    Raises:
        ConfigError: Where a field that was set has no effect.
    """
    now = dict(values)
    for detail in _DETAILS:
        if detail.in_use(SimpleNamespace(**now)):
            continue
        for name in detail.names.split():
            idle = defaults[name] if detail.idle is _DEFAULT else detail.idle
            if now[name] != idle and name in was_set:
                why = detail.refusal.format(**{key: shown(value) for key, value in now.items()})
                raise ConfigError(f"{name} = {shown(now[name])} {why}.")
            now[name] = idle
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
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", c.device):
        refuse("device", "is no device; use auto, cpu, cuda or cuda:<index>")
    wanted = c.hidden_sizes or (c.network == "batchnorm_cnn" and not c.dueling)
    if not wanted or any(not 1 <= size <= 65_536 for size in c.hidden_sizes):
        refuse("hidden_sizes", "must be one or more sizes from 1 to 65536")
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


def shown(value: Any) -> str:
    """``repr``, cut short where it would fill pages."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 100
    return short.repr(value)

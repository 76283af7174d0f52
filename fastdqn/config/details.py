"""Fields that work in company only, as ``huber_delta`` does with ``loss = 'huber'``.

Without its company such a detail is idle: one that was set is refused, for whoever set it expects
something of it; one left over from a preset, a record or another configuration takes its idle
value, so that what switches a thing off switches its details off with it.

Not here, for they count later: ``eval_num_envs``, ``eval_epsilon``, ``eval_max_env_steps`` and
``eval_patience_env_steps``, by which ``fastdqn eval`` plays, also a run that did not evaluate
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from fastdqn.config.atari_ids import ALE_KWARGS
from fastdqn.config.checks import shown
from fastdqn.config.env_ids import is_native
from fastdqn.errors import ConfigError

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


def _on_ales_own(c: Any) -> bool:
    """Whether it is ALE's own vector env, which takes no kwargs, that steps the games."""
    return _on_ale(c) and not c.env_kwargs


# A detail stands below what decides on it.
_DETAILS = [
    _Detail(
        "env_kwargs",
        lambda c: not _on_ale(c) or set(c.env_kwargs) <= ALE_KWARGS,
        "cannot all be had with env_id = {env_id}; use mode, difficulty and obs_type = 'ram', and "
        "the fields that start with atari_ for the rest",
    ),
    _Detail(
        "env_vectorization",
        lambda c: (
            c.env_vectorization == "vector_entry_point"
            or not (_on_ales_own(c) or is_native(c.env_id))
        ),
        "has no effect with env_id = {env_id}, whose envs step as one; use auto",
    ),
    _Detail(
        "env_threads",
        _on_ales_own,
        "has no effect with env_id = {env_id} and env_kwargs = {env_kwargs}; it is for ids that "
        "start with ALE/, without env_kwargs",
    ),
    _Detail(
        "atari_protocol atari_sticky_actions atari_full_action_space atari_frame_skip "
        "atari_frame_size atari_noop_max atari_max_episode_frames",
        _on_ale,
        "has no effect with env_id = {env_id}; use an id that starts with ALE/, or leave it out",
    ),
    _Detail(
        "atari_frame_size",
        lambda c: c.env_kwargs.get("obs_type") != "ram",
        "has no effect with env_kwargs = {env_kwargs}, which has no frames; leave it out",
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
        "has no effect on a new run; set resume = 'auto', or leave it out",
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
    _Detail(
        "layer_norm",
        lambda c: bool(c.hidden_sizes),
        "has no hidden layer to normalise; set hidden_sizes, or leave it out",
    ),
    _Detail(
        "atoms value_min value_max",
        lambda c: c.head == "c51",
        "is for head = 'c51', not {head}; leave it out or use that one",
    ),
    _Detail(
        "quantiles",
        lambda c: c.head == "qr",
        "is for head = 'qr', not {head}; leave it out or use that one",
    ),
    _Detail(
        "iqn_samples iqn_target_samples iqn_policy_samples iqn_cosines iqn_cvar",
        lambda c: c.head == "iqn",
        "is for head = 'iqn', not {head}; leave it out or use that one",
    ),
    _Detail(
        "noisy_sigma",
        lambda c: c.noisy,
        "has no noise to scale; set noisy = True, or leave it out",
    ),
    _Detail(
        "padding",
        lambda c: c.network in ("auto", "nature", "der"),
        "is for network = 'nature' or 'der', not {network}; leave it out",
    ),
    _Detail(
        "munchausen",
        lambda c: c.head != "c51",
        "is not defined for head = 'c51'; use head = 'qr', or leave it out",
    ),
    _Detail(
        "munchausen_alpha munchausen_temperature munchausen_clip munchausen_policy",
        lambda c: c.munchausen,
        "has no effect on plain Q-learning; set munchausen = True, or leave it out",
    ),
    _Detail(  # the same network chooses the next action and values it
        "double",
        lambda c: c.target_period_updates is not None,
        "has no effect without a target network; set target_period_updates, or leave it out",
        idle=False,
    ),
    _Detail(
        "double",
        lambda c: not c.munchausen,
        "has no next action to choose with munchausen = True; leave one of them out",
        idle=False,
    ),
    _Detail(
        "loss",
        lambda c: c.head == "scalar",
        "is for head = 'scalar', not {head}, which has a loss of its own; leave one of them out",
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
        lambda c: c.loss == "huber" and c.head != "c51",
        "has no effect with loss = {loss} and head = {head}; use loss = 'huber' and another head "
        "than c51, or leave it out",
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
        lambda c: c.eval_episodes > 0 or c.eval_period_env_steps == 0,
        "has no episodes to play; set eval_episodes",
    ),
    _Detail(
        "stop_eval_return",
        lambda c: c.eval_episodes > 0 and c.eval_period_env_steps != 0,
        "has no evaluation during the run to look at; set eval_period_env_steps and eval_episodes",
    ),
    _Detail(
        "checkpoint_period_env_steps",
        lambda c: c.save_final_checkpoint,
        "contradicts save_final_checkpoint = False, by which a run leaves none; leave one out",
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

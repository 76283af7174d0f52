"""The keywords of Stable-Baselines3's DQN as a ``Config`` of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from torch import nn

from fastdqn.config.arguments import check_argument
from fastdqn.config.checks import refuse_unknown, shown
from fastdqn.config.config import Config
from fastdqn.config.fields import fields_of
from fastdqn.config.groups import LearningFields, NetworkFields, ReplayFields
from fastdqn.config.ranges import Range
from fastdqn.errors import ConfigError, cut_short, nearest
from fastdqn.integrations.sb3.memory import rows_for
from fastdqn.integrations.sb3.space_state import space_state

POLICIES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
_MLP, _CNN = (64, 64), (512,)  # SB3's own hidden layers

# Fields of ours that a keyword of SB3's stands for; the same names stand for themselves.
STANDS_FOR = {
    "replay_capacity": "buffer_size",
    "learning_starts_env_steps": "learning_starts",
    "target_tau": "tau",
    "update_period_env_steps": "train_freq and gradient_steps",
    "target_period_updates": "target_update_interval",
    "epsilon_start": "exploration_initial_eps",
    "epsilon_end": "exploration_final_eps",
    "epsilon_duration_env_steps": "exploration_fraction",
    "stop_window": "stats_window_size",
    "total_env_steps": "total_timesteps",
}
# Fields beside the groups below that a model takes; all others are for fastdqn.train.
_OF_RUN = ("precision", "mode", "updates_per_launch", "deterministic", "torch_threads")
_OF_ENV = ("observation_scale", "observation_keys", "normalize_observations", "reward_clip")
TAKEN = (
    {*fields_of(NetworkFields), *fields_of(LearningFields), *fields_of(ReplayFields)}
    | {*_OF_RUN, *_OF_ENV}
) - {*STANDS_FOR, "learning_rate", "learning_rate_final"}


@dataclass(frozen=True)
class Cycle:
    """How much is collected between updates, and how many updates follow.

    Attributes:
        frequency: Steps of all envs, or episodes of the one env.
        unit: ``step`` or ``episode``.
        gradient_steps: Updates; -1: one for each env step.
    """

    frequency: int
    unit: str
    gradient_steps: int

    @property
    def pair(self) -> tuple[int, str]:
        """``train_freq`` as SB3 takes it."""
        return self.frequency, self.unit

    def env_steps_per_update(self, num_envs: int) -> float:
        """Where that is known beforehand; else 1."""
        if self.unit == "episode" or self.gradient_steps < 1:
            return 1.0
        return self.frequency * num_envs / self.gradient_steps


def read_cycle(train_freq: Any, gradient_steps: Any, num_envs: int) -> Cycle:
    """``train_freq`` and ``gradient_steps``; ConfigError where they are wrong."""
    frequency, unit = train_freq if _is_pair(train_freq) else (train_freq, "step")
    unit = getattr(unit, "value", unit)
    if unit not in ("step", "episode"):
        raise ConfigError(f"train_freq = {shown(train_freq)} must count 'step' or 'episode'.")
    check_argument("train_freq", frequency, int, Range(1, 2**31))
    check_argument("gradient_steps", gradient_steps, int, Range(-1, 2**31))
    if unit == "episode" and num_envs > 1:
        raise ConfigError(
            f"train_freq = {shown(train_freq)} counts episodes of one env, and there are "
            f"{num_envs}; count steps."
        )
    return Cycle(int(frequency), unit, int(gradient_steps))


def _is_pair(train_freq: Any) -> bool:
    return isinstance(train_freq, tuple | list) and len(train_freq) == 2


def check_learning_rate(learning_rate: Any) -> None:
    """Refuse, by a ConfigError, what is no number, nor a function that gives one at the start."""
    if not callable(learning_rate):
        allowed = fields_of(LearningFields)["learning_rate"].range
        check_argument("learning_rate", learning_rate, float, allowed)
        return
    try:
        float(learning_rate(1.0))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"learning_rate = {shown(learning_rate)} gives no number at 1.0 "
            f"({cut_short(error)}); pass a function of the progress that remains, 1 to 0."
        ) from None


def make_config(
    policy: str,
    sb3: Mapping[str, Any],
    more: Mapping[str, Any],
    *,
    cycle: Cycle,
    observation_space: spaces.Space,
    num_envs: int,
) -> Config:
    """What a model is made of.

    Args:
        policy: One of ``POLICIES``.
        sb3: Keywords of SB3's DQN, all of them.
        more: Fields of ``Config``.
        cycle: Of updates.
        observation_space: Of one env.
        num_envs: N.

    Raises:
        ConfigError: In SB3's words, where something is wrong.
    """
    _check_names(more)
    buffer_size = check_argument("buffer_size", sb3["buffer_size"], int, Range(1, 2**40))
    starts = check_argument("learning_starts", sb3["learning_starts"], int, Range(0, 2**53))
    check_argument("tau", sb3["tau"], float, Range(0.0, 1.0, open_low=True))
    n_step = more.get("n_step", sb3["n_steps"])
    if sb3["n_steps"] not in (1, n_step):
        raise ConfigError(
            f"n_steps = {sb3['n_steps']} and n_step = {n_step} are two names of one thing; leave "
            f"one of them out."
        )
    n_step = check_argument("n_steps", n_step, int, Range(1, 1000))
    rows = rows_for(buffer_size, num_envs, sb3["frame_stack"], n_step)
    if isinstance(batch := sb3["batch_size"], int) and batch > rows:
        raise ConfigError(f"batch_size = {batch} exceeds buffer_size = {buffer_size}; lower it.")
    rate = sb3["learning_rate"]
    values = {
        **_network(policy, observation_space, sb3["policy_kwargs"], more),
        "double": False,
        **more,
        "num_envs": num_envs,
        "replay_capacity": rows,
        "learning_starts_env_steps": max(starts, num_envs * (n_step + 2)),
        # Not known before learn: no number of updates makes ``auto`` compile on a CPU.
        "total_env_steps": max(starts, num_envs * (n_step + 2)),
        "batch_size": sb3["batch_size"],
        "gamma": sb3["gamma"],
        "n_step": n_step,
        "max_grad_norm": None if more.get("max_grad_value") is not None else sb3["max_grad_norm"],
        "learning_rate": 1e-4 if callable(rate) else rate,
        "learning_rate_final": None,
        "update_period_env_steps": cycle.env_steps_per_update(num_envs),
        # The loop moves the target, on the clock of env steps.
        "target_period_updates": 2**53,
        "target_tau": sb3["tau"],
        "seed": sb3["seed"],
        "device": device_of(sb3["device"]),
        "eval_episodes": 0,
    }
    try:
        return Config(**values)
    except ConfigError as error:
        raise ConfigError(_in_their_words(str(error))) from None


def check_policy(policy: Any, observation_space: Any) -> None:
    """Refuse what is no policy's name, or not for such observations, or cannot be saved."""
    if not isinstance(policy, str) or policy not in POLICIES:
        hint = nearest(policy, POLICIES) if isinstance(policy, str) else ""
        raise ConfigError(f"policy = {shown(policy)} must be one of {', '.join(POLICIES)}{hint}.")
    if isinstance(observation_space, spaces.Dict) and policy != "MultiInputPolicy":
        raise ConfigError(
            f"policy = {policy!r} is for observations that are one array, not for "
            f"{shown(observation_space)}; use MultiInputPolicy."
        )
    space_state(observation_space)  # before the training, not at its save


def _check_names(more: Mapping[str, Any]) -> None:
    for name in more:
        if name in TAKEN:
            continue
        if name in STANDS_FOR:
            raise ConfigError(f"{name} is called {STANDS_FOR[name]} here; use that.")
        fields = fields_of(Config)
        if name not in fields and (hint := nearest(name, sorted(TAKEN))):
            raise ConfigError(f"{name} is no keyword of DQN{hint}.")
        refuse_unknown([name], fields)
        raise ConfigError(f"{name} has no effect on a model of SB3's kind; leave it out.")


def _in_their_words(sentence: str) -> str:
    for ours, theirs in STANDS_FOR.items():
        sentence = re.sub(rf"\b{ours}\b", theirs, sentence)
    return sentence


def _network(
    policy: str, observation_space: spaces.Space, given: Any, more: Mapping[str, Any]
) -> dict[str, Any]:
    """``network`` and ``hidden_sizes`` of a policy's name and its keywords."""
    if not isinstance(given, dict | None):
        raise ConfigError(f"policy_kwargs = {shown(given)} must be a dictionary, or None.")
    kwargs = dict(given or {})
    net_arch = kwargs.pop("net_arch", None)
    features = kwargs.pop("features_extractor_kwargs", None) or {}
    if not isinstance(features, dict):
        raise ConfigError(
            f"policy_kwargs['features_extractor_kwargs'] = {shown(features)} must be a dictionary, "
            f"or None."
        )
    dim = features.get("features_dim")
    if kwargs.pop("activation_fn", nn.ReLU) is not nn.ReLU:
        raise ConfigError("policy_kwargs['activation_fn'] is not torch.nn.ReLU; leave it out.")
    scale = "auto" if kwargs.pop("normalize_images", True) else "none"
    unknown = [*kwargs, *(key for key in features if key != "features_dim")]
    if unknown:
        raise ConfigError(
            f"policy_kwargs has {unknown[0]!r}, where it may have net_arch, normalize_images and "
            f"features_extractor_kwargs with features_dim; leave it out."
        )
    values: dict[str, Any] = {"observation_scale": scale}
    if policy == "CnnPolicy":
        if net_arch:
            raise ConfigError(
                f"policy_kwargs['net_arch'] = {shown(net_arch)} has no place: one layer follows "
                f"the convolutions; set hidden_sizes to its size."
            )
        sizes: Any = _CNN if dim is None else (dim,)
    elif dim is not None:
        raise ConfigError("features_dim is for CnnPolicy; leave it out.")
    else:
        sizes = net_arch
        if net_arch is None:
            convolves = policy == "MultiInputPolicy" and _has_image(observation_space)
            sizes = _CNN if convolves and more.get("network") != "mlp" else _MLP
        if policy == "MlpPolicy":
            values["network"] = "mlp"
    if not isinstance(sizes, tuple | list) or not sizes:
        raise ConfigError(
            f"policy_kwargs['net_arch'] = {shown(sizes)} must be a list of one size or more."
        )
    values["hidden_sizes"] = tuple(sizes)
    # Another network has its own way with the sizes.
    return {name: value for name, value in values.items() if name not in more}


def _has_image(space: spaces.Space) -> bool:
    parts = space.values() if isinstance(space, spaces.Dict) else (space,)
    return any(is_image_space(part) for part in parts)


def seed_of(seed: Any) -> int:
    """A seed; None: of NumPy's global generator, which SB3's users seed."""
    if seed is None:
        return int(np.random.randint(2**30))
    return int(check_argument("seed", seed, int, fields_of(Config)["seed"].range))


def device_of(device: Any) -> str:
    """A device as ``Config`` names it."""
    return str(device) if isinstance(device, torch.device) else device

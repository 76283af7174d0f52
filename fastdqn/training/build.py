"""From a Config to the parts of a run. With the trainer, the only code that reads a Config."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

import torch
from gymnasium.vector import VectorEnv
from torch import nn

from fastdqn.config.config import Config
from fastdqn.config.env_ids import is_native
from fastdqn.config.seeds import eval_seed, subseed
from fastdqn.envs import AtariProtocol, EnvStream, make_envs
from fastdqn.envs.checks import check_stream
from fastdqn.envs.leaves import ObservationOptions
from fastdqn.envs.made import max_episode_steps
from fastdqn.envs.reader import ObservationReader
from fastdqn.envs.stream import is_stream
from fastdqn.errors import ConfigError
from fastdqn.learning.choose_objective import objective_for
from fastdqn.learning.learner import Learner
from fastdqn.learning.munchausen import Munchausen
from fastdqn.learning.objectives import Objective
from fastdqn.learning.random_shift import check_shift
from fastdqn.networks.checks import check_module
from fastdqn.networks.trial import try_network
from fastdqn.spaces import Spaces
from fastdqn.system.devices import (
    check_deterministic_products,
    convolves,
    resolve_device,
    resolve_precision,
)
from fastdqn.system.host import keep_freed_memory, usable_cpus
from fastdqn.training.network_spec import network_spec
from fastdqn.training.normalized_frames import NormalizedFrames

# Steps of each env without the end of an episode after which an evaluation is given up: more than
# the 27,000 of an Atari game.
_PATIENCE = 30_000


def make_stream(
    config: Config,
    *,
    num_envs: int | None = None,
    evaluation: bool = False,
    vectorization: str | None = None,
    **env_kwargs: Any,
) -> EnvStream:
    """The envs of a run, or those that evaluate it.

    Args:
        config: Of the run.
        num_envs: Envs; None: as many as the config says.
        evaluation: Those that evaluate it.
        vectorization: In the place of ``config.env_vectorization``.
        **env_kwargs: Added to those of the config.

    Raises:
        EnvError: Where they cannot be made or are not supported.
    """
    kwargs: dict[str, Any] = {**config.env_kwargs, **env_kwargs}
    if is_native(config.env_id):
        kwargs.setdefault("device", str(resolve_device(config.device)))
    if config.env_id.startswith("ALE/"):
        kwargs["atari"] = atari_protocol(config)
        kwargs["num_threads"] = config.env_threads
    if evaluation:
        default_num = min(config.eval_num_envs, max(1, config.eval_episodes))
    else:
        default_num = config.num_envs
    return make_envs(
        config.env_id,
        num_envs or default_num,
        seed=eval_seed(config) if evaluation else config.seed,
        frame_stack=config.frame_stack,
        vectorization=vectorization or config.env_vectorization,
        step_timeout_s=config.step_timeout_s,
        **observation_arguments(config),
        **kwargs,
    )


def atari_protocol(config: Config) -> AtariProtocol:
    """The rules that the config's fields ``atari_*`` come to."""
    protocol = getattr(AtariProtocol, config.atari_protocol)
    sticky = config.atari_sticky_actions
    rules: AtariProtocol = protocol(
        **({} if sticky is None else {"repeat_action_probability": sticky}),
        noop_max=config.atari_noop_max,
        frame_skip=config.atari_frame_skip,
        frame_size=config.atari_frame_size,
        max_episode_frames=config.atari_max_episode_frames,
        full_action_space=config.atari_full_action_space,
    )
    return rules


def as_stream(envs: VectorEnv | EnvStream, config: Config) -> EnvStream:
    """The caller's envs, adapted unless they are a stream already.

    Raises:
        EnvError: Where they are not supported.
        ConfigError: Where a stream already reads observations in another way.
    """
    if is_stream(envs) and not isinstance(envs, VectorEnv):
        Spaces.of(cast(EnvStream, envs))  # refuses what is none
        check_stream(cast(EnvStream, envs))
        _check_made(envs, config)
        return cast(EnvStream, envs)
    return make_envs(
        cast(VectorEnv, envs),
        frame_stack=config.frame_stack,
        seed=config.seed,
        step_timeout_s=config.step_timeout_s,
        **observation_arguments(config),
    )


def _check_made(stream: Any, config: Config) -> None:
    """Refuse what a configuration says of observations that a stream has already read."""
    made = getattr(getattr(stream, "reader", None), "options", ObservationOptions())
    for name, value in observation_arguments(config).items():
        if value not in (getattr(made, name), getattr(ObservationOptions(), name)):
            raise ConfigError(
                f"{name} = {value!r} has no effect on envs that are a stream already; pass it to "
                f"make_envs, or leave it out."
            )


def observation_arguments(config: Config) -> dict[str, Any]:
    """What a configuration says of observations."""
    return {field.name: getattr(config, field.name) for field in fields(ObservationOptions)}


def build_network(config: Config, envs: EnvStream, network: nn.Module | None = None) -> nn.Module:
    """The network that the config names, with weights drawn from its seed; or the caller's.

    Raises:
        ConfigError: Where it does not fit the observations.
    """
    spaces = Spaces.of(envs)
    check_shift(config.random_shift, spaces.observation_shape)
    if network is not None:
        network = _tried(config, spaces, check_module(network))
        if config.normalize_observations and NormalizedFrames.of(network) is None:
            raise ConfigError(
                f"normalize_observations = True has no effect on a network of your own "
                f"({type(network).__name__}); leave it out, and put a BatchNorm1d in front."
            )
        _check_own_network(config, spaces, network)
        return network
    with torch.random.fork_rng(devices=[]):  # the caller's global generator is not ours to move
        torch.default_generator.manual_seed(subseed(config.seed, "network"))
        return network_spec(config, spaces).build()


def _check_own_network(config: Config, spaces: Spaces, network: nn.Module) -> None:
    """Refuse, by a ConfigError, a head or noise that a caller's network has not."""
    for name, plain in {"head": "scalar", "noisy": False}.items():
        value = getattr(config, name)
        if value != plain and not network_spec(config, spaces).describes(network):
            raise ConfigError(
                f"{name} = {value!r} describes another network than yours "
                f"({type(network).__name__}); leave it out, or pass one that "
                f"fastdqn.networks.make.make_network made with the same settings."
            )


def _tried(config: Config, spaces: Spaces, network: nn.Module) -> nn.Module:
    """The caller's network on the device of the run, after it was tried there."""
    device = resolve_device(config.device)
    network = network.to(device)
    try_network(
        network,
        spaces.observation_shape,
        torch.uint8 if spaces.frame_dtype == "uint8" else torch.float32,
        spaces.num_actions,
        batch_size=config.batch_size,
        precision=resolve_precision(config.precision, network, device),
    )
    return network


def is_own_network(config: Config, envs: EnvStream, network: nn.Module) -> bool:
    """Whether a network is another than the config describes, so that only its maker has it."""
    return not network_spec(config, Spaces.of(envs)).describes(network)


def build_learner(
    config: Config, network: nn.Module, device: torch.device, objective: Objective | None = None
) -> Learner:
    """The learner that the config describes, or one of somebody's own objective."""
    return Learner(
        network,
        objective=_objective(config, network) if objective is None else objective,
        optimizer=config.optimizer,
        learning_rate=config.learning_rate,
        optimizer_epsilon=config.optimizer_epsilon,
        rmsprop_alpha=config.rmsprop_alpha,
        rmsprop_centred=config.rmsprop_centred,
        random_shift=config.random_shift,
        max_grad_norm=config.max_grad_norm,
        max_grad_value=config.max_grad_value,
        target_period_updates=config.target_period_updates,
        target_tau=config.target_tau,
        precision=config.precision,
        mode=config.mode,
        updates_per_launch=config.launch_on(device.type),
        expected_updates=config.expected_updates,
        device=device,
        seed=subseed(config.seed, "policy"),
    )


def _objective(config: Config, network: nn.Module) -> Objective:
    """What the config asks to minimise."""
    return objective_for(
        network,
        double=config.double,
        loss=config.loss,
        huber_delta=config.huber_delta,
        munchausen=Munchausen(
            alpha=config.munchausen_alpha,
            temperature=config.munchausen_temperature,
            clip=config.munchausen_clip,
            policy=config.munchausen_policy,
        )
        if config.munchausen
        else None,
        samples=config.iqn_samples,
        target_samples=config.iqn_target_samples,
        policy_samples=config.iqn_policy_samples,
    )


def mode_of_parts(learner: Learner) -> str:
    """Of the replay and the actor: on a CPU what they gain does not repay a minute of compiling."""
    return learner.mode if learner.device.type == "cuda" else "eager"


def replay_arguments(config: Config, envs: EnvStream, device: torch.device) -> dict[str, Any]:
    """What both the replay and its plan are made of."""
    return {
        "capacity": config.replay_capacity,
        "num_envs": envs.num_envs,
        "observation_space": envs.observation_space,
        "frame_stack": envs.frame_stack,
        "stack_padding": envs.stack_padding,
        "n_step": config.n_step,
        "gamma": config.gamma,
        "reward_clip": config.reward_clip,
        "prioritized": config.prioritized,
        "alpha": config.priority_alpha,
        "priority_epsilon": config.priority_epsilon,
        "device": device,
        "seed": subseed(config.seed, "replay"),
    }


def set_up_torch(config: Config, network: nn.Module, device: torch.device) -> None:
    """Threads and determinism, which a process has once; within ``torch_as_before``."""
    # A second thread is worth a sixth of an MLP's update (1,064 to 893 us at 256-256 on an idle
    # machine), but beside other processes two threads have been seen to lose far more.
    on_cpu = convolves(network) and device.type == "cpu"
    torch.set_num_threads(config.torch_threads or (usable_cpus() if on_cpu else 1))
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not config.deterministic
        torch.use_deterministic_algorithms(config.deterministic)
        if config.deterministic:
            check_deterministic_products(device)


def keep_memory_for(network: nn.Module, device: torch.device) -> None:
    """Let glibc keep what convolutions on a CPU free: for good, so in a process of our own only."""
    if convolves(network) and device.type == "cpu":
        keep_freed_memory()


def policy_spec(
    config: Config,
    envs: EnvStream,
    learner: Learner,
    *,
    own_envs: bool,
    own_network: bool,
    own_objective: bool,
) -> dict[str, Any]:
    """What a checkpoint must know to act without the envs, and what a command cannot make."""
    spaces = Spaces.of(envs)
    return {
        "frame_shape": list(spaces.frame_shape),
        "frame_dtype": spaces.frame_dtype,
        "image": spaces.image,
        "frame_format": spaces.format.to_dict(),
        "observation": describe_observation(envs),
        "num_actions": spaces.num_actions,
        "action_start": spaces.action_start,
        "frame_stack": spaces.frame_stack,
        "stack_padding": spaces.stack_padding,
        "bf16": learner.bf16,
        "own_envs": own_envs,
        "own_network": own_network,
        "own_objective": own_objective,
        "frozen": not all(p.requires_grad for p in learner.network.parameters()),
        "network": None if own_network else network_spec(config, spaces).to_dict(),
    }


def describe_observation(envs: EnvStream) -> dict[str, Any] | None:
    """How the envs' observations become frames; None for a stream that gives frames."""
    reader = getattr(envs, "reader", None)
    return reader.to_dict() if isinstance(reader, ObservationReader) else None


def eval_patience(config: Config, envs: EnvStream) -> int:
    """``eval_patience_env_steps``, resolved: what the envs allow is not taken for endless."""
    if config.eval_patience_env_steps is not None:
        return config.eval_patience_env_steps
    limit = max_episode_steps(envs) or 0
    if config.env_id.startswith("ALE/"):
        limit = config.atari_max_episode_frames // config.atari_frame_skip
    return max(_PATIENCE, limit + 1) * envs.num_envs

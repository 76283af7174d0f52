"""What a run is, in a few lines: before it starts, or instead of it."""

from __future__ import annotations

from torch import nn

from fastdqn.config.config import Config
from fastdqn.envs import EnvStream
from fastdqn.learning.categorical_q_learning import CategoricalQLearning
from fastdqn.learning.learner import Learner
from fastdqn.learning.objectives import ONLINE_S, TARGET_S2
from fastdqn.learning.q_learning import QLearning
from fastdqn.learning.quantile_q_learning import QuantileQLearning
from fastdqn.networks.encoder import needs_encoder
from fastdqn.networks.heads import DuelingHead
from fastdqn.networks.noisy_linear import NoisyLinear
from fastdqn.networks.q_network import QNetwork
from fastdqn.replay.memory_plan import MemoryPlan, format_bytes
from fastdqn.spaces import Spaces
from fastdqn.system.info import device_name


def header(
    config: Config, name: str, envs: EnvStream, learner: Learner, plan: MemoryPlan
) -> dict[str, str]:
    """Rows of a heading and a text.

    Args:
        config: Of the run.
        name: Of the envs.
        envs: Those of training; only their spaces are looked at.
        learner: On the device of the run.
        plan: Of the replay.
    """
    c, launch = config, learner.updates_per_launch
    shape, stack = tuple(envs.observation_space.shape), envs.frame_stack
    parameters = sum(p.numel() for p in learner.network.parameters())
    tau = "" if c.target_tau == 1.0 else f", tau {c.target_tau:g}"
    period = c.target_period_updates
    beta = f"beta {c.priority_beta_start:g} to {c.priority_beta_end:g}"
    torso = getattr(learner.network, "torso", learner.network)
    reader = getattr(envs, "reader", None)
    return {
        "envs": f"{name}, {envs.num_envs} side by side, {envs.num_actions} actions, frames "
        f"{shape} {envs.observation_space.dtype}" + (f", {stack} stacked" if stack else ""),
        "observed": str(reader or Spaces.of(envs).format)
        + ("; normalised" if c.normalize_observations else "")
        + ("" if _is_shown(learner, envs) else "; your network sees frames as they are stored"),
        "network": f"{type(torso).__name__}, {parameters:,} parameters, {learner.precision}, "
        f"{learner.device} ({device_name(learner.device)}), {learner.mode}"
        + (" (the first updates wait for the compiler)" if learner.mode != "eager" else ""),
        "algorithm": _algorithm(learner),
        "schedule": f"{c.total_env_steps:,} env steps, the first {c.learning_starts_env_steps:,} "
        f"without learning",
        "updates": f"{c.expected_updates:,} with batches of {c.batch_size}; replay ratio "
        f"{c.replay_ratio:g} (transitions trained per env step)"
        + (f"; {launch} per launch" if launch > 1 else ""),
        "target": "none" if period is None else f"every {period:,} updates{tau}",
        "epsilon": _epsilon(c, learner),
        "replay": f"{plan.capacity:,} rows, {format_bytes(plan.total)}, n-step {c.n_step}, "
        + (f"prioritized, alpha {c.priority_alpha:g}, {beta}" if c.prioritized else "uniform"),
        "evaluation": _evaluation(c),
    }


def _evaluation(c: Config) -> str:
    """When policies are scored, and by how many episodes."""
    if not c.eval_episodes:
        return "none"
    at_end = f"{c.eval_episodes:,} episodes at the end"
    every = c.eval_every_env_steps
    if every is None:
        return at_end
    return f"{c.eval_episodes_during_run} episodes every {every:,} env steps, {at_end}"


def _algorithm(learner: Learner) -> str:
    """What is learned of the return, and how, of what really learns."""
    objective, network = learner.objective, learner.network
    if isinstance(objective, CategoricalQLearning):
        v = objective.values
        name = f"C51 ({v.atoms} values from {v.value_min:g} to {v.value_max:g})"
    elif isinstance(objective, QuantileQLearning) and objective.implicit:
        learned, of_target = (objective.samples[forward] for forward in (ONLINE_S, TARGET_S2))
        name = f"IQN ({learned} fractions, {of_target} of the target)"
    elif isinstance(objective, QuantileQLearning):
        name = "QR-DQN"
        if isinstance(network, QNetwork) and network.values.numbers is not None:
            name += f" ({network.values.numbers} quantiles)"
    elif isinstance(objective, QLearning):
        name = "DQN"
    else:
        return f"{type(objective).__name__}, an objective of yours"
    soft = getattr(objective, "munchausen", None) is not None
    parts = [f"Munchausen {name}" if soft else name]
    parts += ["double"] if objective.double else []
    parts += ["dueling"] if any(isinstance(m, DuelingHead) for m in network.modules()) else []
    noisy = _sigmas(network)
    parts += [f"noisy layers (sigma {noisy[0]:g})"] if noisy else []
    return ", ".join(parts)


def _epsilon(c: Config, learner: Learner) -> str:
    """The chance of a random action, and whether it is missed."""
    if c.epsilon_start != c.epsilon_end:
        return (
            f"{c.epsilon_start:g} to {c.epsilon_end:g}, {c.epsilon_schedule} over "
            f"{c.epsilon_duration_env_steps:,} env steps"
        )
    greedy = c.epsilon_start == 0 and isinstance(learner.network, QNetwork)
    idle = greedy and not _sigmas(learner.network)
    return f"{c.epsilon_start:g} throughout" + (
        ", and no noisy layers: nothing explores" if idle else ""
    )


def _sigmas(network: nn.Module) -> list[float]:
    return [m.sigma for m in network.modules() if isinstance(m, NoisyLinear)]


def _is_shown(learner: Learner, envs: EnvStream) -> bool:
    """Whether the network sees what ``observed`` says: one of the caller's own may not."""
    network, spaces = learner.network, Spaces.of(envs)
    if not isinstance(network, QNetwork):
        return False
    needed = needs_encoder(spaces.frame_dtype or "float32", spaces.format, False)
    return network.encoder is not None or not needed

"""What a run would do, before it does it."""

from __future__ import annotations

from fastdqn.config.config import Config
from fastdqn.envs import EnvStream
from fastdqn.envs.made import max_episode_steps
from fastdqn.networks.q_network import QNetwork
from fastdqn.replay.memory_plan import format_bytes
from fastdqn.spaces import Spaces
from fastdqn.system.devices import resolve_device
from fastdqn.training.build import build_learner, build_network, make_stream
from fastdqn.training.filming import check_filming
from fastdqn.training.header import header
from fastdqn.training.planned_replay import plan_replay
from fastdqn.training.warm_start import find_initial, load_initial


def describe(config: Config, *, lower_replay: bool = False) -> str:
    """What a run would do and need, for ``--dry-run``: makes the envs, but steps nothing.

    Raises:
        FastDQNError: Whatever the run itself would raise before its first env step.
    """
    device = resolve_device(config.device)
    if config.record_period_env_steps is not None:
        check_filming(config, own_envs=False)
    envs = make_stream(config)
    try:
        c, plan = plan_replay(config, envs, device, lower=lower_replay)
        network = build_network(c, envs)
        if find_initial(c):
            load_initial(c, network, Spaces.of(envs), False)
        learner = build_learner(c, network, device)
    finally:
        envs.close()
    rows = header(c, c.env_id, envs, learner, plan)
    parameters = sum(p.numel() for p in learner.network.parameters())
    rows["checkpoint"] = f"up to {format_bytes(plan.total + 16 * parameters)} with the replay"
    lines = [f"{name:<12}{text}" for name, text in rows.items()]
    return "\n".join([*lines, "memory", str(plan)])


def describe_env(config: Config) -> dict[str, str]:
    """What would be made of the envs of a configuration: rows of a heading and a text.

    Raises:
        FastDQNError: Whatever a run would raise because of them.
    """
    envs = make_stream(config, num_envs=1)
    try:
        network = build_network(config, envs)
        spaces = Spaces.of(envs)
        return {
            "observation": _space(envs),
            "frames": f"{spaces.frame_shape} {spaces.frame_dtype}"
            + (f", {spaces.frame_stack} stacked" if spaces.frame_stack else ""),
            "read as": str(getattr(envs, "reader", spaces.format)),
            "network": _torso(network),
            "actions": f"{spaces.num_actions}"
            + (f", from {spaces.action_start}" if spaces.action_start else ""),
            "autoreset": str(getattr(getattr(envs, "autoreset_mode", None), "name", "none")),
            "time limit": _limit(envs),
        }
    finally:
        envs.close()


def _space(envs: EnvStream) -> str:
    envs_made = getattr(envs, "vector_env", None)
    return str(getattr(envs_made, "single_observation_space", envs.observation_space))


def _torso(network: object) -> str:
    assert isinstance(network, QNetwork)  # made from a configuration
    torso = network.torso
    image = getattr(torso, "image", None)
    kind = type(torso).__name__ + (f" ({type(image).__name__})" if image is not None else "")
    return f"{kind}, {sum(p.numel() for p in network.parameters()):,} parameters"


def _limit(envs: EnvStream) -> str:
    steps = max_episode_steps(envs)
    return "none that the envs tell of" if steps is None else f"{steps:,} steps"

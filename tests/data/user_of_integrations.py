"""A user's program with every public name of the integrations, as a type checker reads it."""

from __future__ import annotations

import gymnasium
import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor
from torchrl.envs import GymEnv  # type: ignore[import-untyped]

import fastdqn
from fastdqn import EnvStream, TimeStep
from fastdqn.integrations import sb3
from fastdqn.integrations.torchrl import (
    DQNLossModule,
    FrameReplayBuffer,
    SumTreeSampler,
    TorchRLStream,
    q_value_actor,
)


def with_torchrl(env_id: str) -> TimeStep:
    """Every name of ``fastdqn.integrations.torchrl``."""
    env = GymEnv(env_id)
    network = fastdqn.make_network((4,), 2)
    sampler: SumTreeSampler = SumTreeSampler(100, alpha=0.6, beta=0.4, weights="buffer")
    leaves: Tensor = sampler.leaves
    replay: FrameReplayBuffer = FrameReplayBuffer(100, 1, env.observation_spec, n_step=3)
    rows: int = len(replay) + leaves.numel()
    loss: DQNLossModule = DQNLossModule(network, gamma=0.99)
    loss(replay.sample(rows))["loss"].backward()
    q_value_actor(network, env.action_spec)
    stream: TorchRLStream = TorchRLStream(env)
    return stream.reset(seed=1)


def with_sb3(env_id: str) -> tuple[np.ndarray, TimeStep]:
    """Every name of ``fastdqn.integrations.sb3``."""
    model: sb3.DQN = sb3.DQN("MlpPolicy", env_id, prioritized=True, n_steps=3).learn(100)
    action, _ = model.predict(np.zeros(4, np.float32), deterministic=True)
    space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    buffer: ReplayBuffer = sb3.FrameReplayBuffer(100, space, gymnasium.spaces.Discrete(2))
    reward: Tensor = buffer.sample(4).rewards
    stream: EnvStream = sb3.VecEnvStream(make_vec_env(env_id))
    return action[: len(reward)], stream.reset(seed=1)

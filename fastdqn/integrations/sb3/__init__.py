"""Stable-Baselines3: a replay buffer for its DQN, our DQN behind its interface, its envs as ours.

May import training and below; nobody imports it. Start reading at ``frame_replay_buffer``, then at
``dqn``, whose loop is on one screen.
"""

from fastdqn.errors import FastDQNError

try:
    import stable_baselines3  # noqa: F401
except ImportError:
    raise FastDQNError(
        "fastdqn.integrations.sb3 needs Stable-Baselines3; pip install 'fastdqn[sb3]'."
    ) from None

from fastdqn.integrations.sb3.dqn import DQN
from fastdqn.integrations.sb3.frame_replay_buffer import FrameReplayBuffer
from fastdqn.integrations.sb3.vec_env_stream import VecEnvStream

__all__ = ["DQN", "FrameReplayBuffer", "VecEnvStream"]

"""Environments: the stream contract, the adapter of any VectorEnv, ALE, and native envs.

Importing this package registers ``fastdqn/CartPole-v1``, ``fastdqn/Catch-v0`` and
``fastdqn/Breakout-v0`` for ``gymnasium.make_vec``.
"""

from fastdqn.config.env_ids import register_native_envs
from fastdqn.envs.atari import AtariProtocol
from fastdqn.envs.make import make_envs
from fastdqn.envs.stream import EnvStream

register_native_envs()

__all__ = ["AtariProtocol", "EnvStream", "make_envs"]

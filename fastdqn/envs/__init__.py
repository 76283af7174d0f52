"""Environments: the stream contract, the adapter of any Gymnasium VectorEnv, and ALE."""

from fastdqn.envs.atari import AtariProtocol
from fastdqn.envs.make import make_envs
from fastdqn.envs.stream import EnvStream

__all__ = ["AtariProtocol", "EnvStream", "make_envs"]

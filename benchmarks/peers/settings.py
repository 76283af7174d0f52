"""The task that every system of a row is given: one network, one schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class EndToEnd:
    """A training run; the names are Config's."""

    env_id: str
    num_envs: int
    batch_size: int
    period: int  # env steps per update
    capacity: int
    learning_starts: int
    learning_rate: float
    target_period_updates: int
    warm_updates: int
    max_grad_norm: float = 10.0
    gamma: float = 0.99
    epsilon_end: float = 0.05
    epsilon_duration: int = 20_000  # env steps, from 1 down


_CARTPOLE = {
    "env_id": "CartPole-v1", "batch_size": 128, "period": 10, "capacity": 10_000,
    "learning_starts": 10_000, "learning_rate": 2.5e-4, "target_period_updates": 50,
    "warm_updates": 300,
}  # fmt: skip
_PONG = EndToEnd(
    env_id="PongNoFrameskip-v4",
    num_envs=8,
    batch_size=32,
    period=4,
    capacity=20_000,
    learning_starts=2_000,
    learning_rate=1e-4,
    target_period_updates=250,
    warm_updates=20,
)
TASKS = {
    "cartpole-16": EndToEnd(num_envs=16, **_CARTPOLE),  # type: ignore[arg-type]
    "cartpole-64": EndToEnd(num_envs=64, **_CARTPOLE),  # type: ignore[arg-type]
    "pong-8": _PONG,
    "sb3-buffer-pong": _PONG,
}

HIDDEN = (120, 84)
STACK, FRAME, PONG_ACTIONS = 4, (84, 84), 6
VECTOR_ROWS, PIXEL_ROWS = 1_000_000, 100_000
VECTOR_BATCHES, PIXEL_BATCHES = (256, 1024), (32, 256)
EPISODE = 800  # env steps per episode of the frame stream
ALPHA, BETA = 0.6, 0.4


def nature(num_actions: int = PONG_ACTIONS) -> nn.Module:
    """The network of Mnih 2015 as everyone writes it, on frames scaled to 0..1, [B, 4, 84, 84]."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
        nn.Conv2d(64, 64, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, num_actions),
    )  # fmt: skip


def mlp() -> nn.Module:
    """4-120-84-2."""
    from torch import nn

    return nn.Sequential(
        nn.Linear(4, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 2)
    )


def frames() -> np.ndarray:
    """Random bytes to make observations of, [256, 84, 84]: zeros would share one page."""
    return np.random.default_rng(0).integers(0, 256, (256, *FRAME), dtype=np.uint8)


def transitions(count: int) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Stacks [4, 84, 84] before and after each step of one env, and whether its episode ended."""
    pool = frames()
    stack = np.repeat(pool[:1], STACK, 0)
    for step in range(count):
        if step % EPISODE == 0:
            stack = np.repeat(pool[step % 256][None], STACK, 0)
        following = np.concatenate([stack[1:], pool[step * 7 % 256][None]])
        yield stack, following, step % EPISODE == EPISODE - 1
        stack = following


def make_atari() -> object:
    """Pong as the peers without an Atari env of their own get it: Gymnasium's wrappers."""
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TransformReward

    gymnasium.register_envs(ale_py)
    env = AtariPreprocessing(gymnasium.make(TASKS["pong-8"].env_id), terminal_on_life_loss=True)
    return TransformReward(FrameStackObservation(env, STACK), np.sign)

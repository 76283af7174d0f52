"""Gymnasium's own CartPole: its vector class, and the picture as the DQN tutorial takes it."""

from __future__ import annotations

import os
from collections.abc import Callable

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastdqn.bench.checks import expect
from fastdqn.bench.context import Context
from fastdqn.bench.workload import UnavailableError, Workload
from fastdqn.envs.native.cartpole_screen import HEIGHT, WIDTH, CartPoleScreen

_TOP, _BOTTOM, _CROP_WIDTH = 160, 320, 360  # of a screen of 400 x 600
_SAME, _NEAR = 0.5, 4.0  # grey levels of 255, of the mean pixel


def make(context: Context, *, work: str, num_envs: int) -> Workload:
    """``step`` of the vector class, or ``render`` of one env; on the host, whatever the device."""
    return _step(context.small(num_envs, 4)) if work == "step" else _render()


def _step(num_envs: int) -> Workload:
    envs = gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point")
    actions = np.random.default_rng(0).integers(0, 2, (64, num_envs))
    envs.reset(seed=0)
    turn = 0

    def run(repeats: int) -> None:
        nonlocal turn
        for _ in range(repeats):
            turn += 1
            envs.step(actions[turn % 64])

    def check() -> None:
        observation, reward, *_ = envs.step(actions[0])
        expect(observation.shape == (num_envs, 4), "observations are not [N, 4]")
        expect(bool((reward == 1).all()), "a reward is not 1")
        envs.reset(seed=0)

    return Workload(
        run=run,
        check=check,
        unit="vector step",
        counts={"env_steps": num_envs},
        host_clock=True,
        threads=1,
        details={"env_id": "CartPole-v1", "num_envs": num_envs, "device": "cpu"},
        close=envs.close,
    )


def _render() -> Workload:
    # Neither a window nor a greeting: the drawing itself needs no screen.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame  # noqa: F401
    except ImportError:
        raise UnavailableError("needs pygame: pip install 'gymnasium[classic-control]'") from None
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    next_crop = _crops(env)

    def run(repeats: int) -> None:
        for _ in range(repeats):
            _resized(next_crop())

    def check() -> None:
        screen = CartPoleScreen()
        for _ in range(8):
            crop = next_crop()
            mean = F.avg_pool2d(crop.permute(2, 0, 1).float(), 4)  # what native frames are
            x, theta = (torch.tensor([env.state[i]], dtype=torch.float32) for i in (0, 2))
            error = float((mean - screen(x, theta)[0]).abs().mean())
            expect(error < _SAME, f"native frames differ by {error:.2f} grey levels")
            # The resizing that is timed looks farther around.
            error = float((mean - _resized(crop)).abs().mean())
            expect(error < _NEAR, f"resized frames differ by {error:.2f} grey levels")

    return Workload(
        run=run,
        check=check,
        unit="frame",
        counts={"env_steps": 1},
        host_clock=True,
        threads=1,
        details={"env_id": "CartPole-v1", "num_envs": 1, "device": "cpu"},
        close=env.close,
    )


def _crops(env: gymnasium.Env) -> Callable[[], Tensor]:
    """Steps the env at random and gives the screen around the cart, uint8 [160, 360, 3]."""
    actions = np.random.default_rng(0).integers(0, 2, 4096).tolist()
    turn = 0

    def next_crop() -> Tensor:
        nonlocal turn
        turn += 1
        _, _, fallen, _, _ = env.step(actions[turn % 4096])
        if fallen:
            env.reset()
        screen = np.asarray(env.render())
        cart = int(env.unwrapped.state[0] * 125 + 300)  # type: ignore[attr-defined]
        left = min(max(cart - _CROP_WIDTH // 2, 0), 600 - _CROP_WIDTH)
        return torch.from_numpy(screen[_TOP:_BOTTOM, left : left + _CROP_WIDTH])

    return next_crop


def _resized(crop: Tensor) -> Tensor:
    """uint8 [3, 40, 90] of the crop; the fastest way at hand, the tutorial goes through floats."""
    pixels = crop.permute(2, 0, 1).unsqueeze(0)
    return F.interpolate(pixels, size=(HEIGHT, WIDTH), mode="bilinear", antialias=True)[0]

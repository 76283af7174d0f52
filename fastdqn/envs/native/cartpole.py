"""CartPole-v1 as tensors: Gymnasium's physics, seen as numbers or as the picture of the cart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from fastdqn.envs.native.base import NativeVectorEnv, State, check_fraction
from fastdqn.envs.native.cartpole_screen import HEIGHT, WIDTH, CartPoleScreen
from fastdqn.errors import EnvError

GRAVITY = 9.8  # m / s^2
CART_MASS, POLE_MASS = 1.0, 0.1  # kg
POLE_HALF_LENGTH = 0.5  # m
FORCE = 10.0  # N
TIME_STEP_S = 0.02
X_THRESHOLD = 2.4  # m
THETA_THRESHOLD = 12 * 2 * math.pi / 360  # rad

RANGES = (2 * X_THRESHOLD, 4.0, 2 * THETA_THRESHOLD, 6.0)
"""What ``observation_noise`` is a fraction of: 4.8 m, 4 m/s, 0.419 rad (24 degrees) and 6 rad/s.

Position and angle go from threshold to threshold. Speeds have none: in 99.9 % of the steps of
random play they stay within +-2.1 m/s and +-2.8 rad/s.
"""

NEAR = 0.2
"""Distance from a target position at which its reward is a half, m.

A cm closer to the target raises this reward by 5 % of itself at the target, by 2.5 % at NEAR and by
0.8 % at 1 m. Of a reward that falls evenly to 0 at 2.4 m it would be 0.4 to 0.7 %.
"""

_FASTEST = 100.0  # no speed that these physics reach, m/s or rad/s


def cartpole_step(state: Tensor, actions: Tensor) -> Tensor:
    """One Euler step of the equations in Barto, Sutton and Anderson 1983, as Gymnasium has them.

    Args:
        state: float32 [4, N]: x (m), its speed, theta (rad, from upright), its speed.
        actions: [N]: 0 pushes to the left, anything else to the right.

    Returns:
        The state 0.02 s later, [4, N].
    """
    _, x_dot, theta, theta_dot = state
    mass, mass_length = CART_MASS + POLE_MASS, POLE_MASS * POLE_HALF_LENGTH
    force = torch.where(actions == 0, -FORCE, FORCE)
    cos, sin = theta.cos(), theta.sin()
    temp = (force + mass_length * theta_dot.square() * sin) / mass
    theta_acc = (GRAVITY * sin - cos * temp) / (
        POLE_HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * cos.square() / mass)
    )
    x_acc = temp - mass_length * theta_acc * cos / mass
    return state + TIME_STEP_S * torch.stack((x_dot, x_acc, theta_dot, theta_acc))


def has_fallen(state: Tensor) -> Tensor:
    """Whether the pole leans by more than 12 degrees, or the cart is beyond 2.4 m, bool [N]."""
    return (state[0].abs() > X_THRESHOLD) | (state[2].abs() > THETA_THRESHOLD)


class CartPole(NativeVectorEnv):
    """``fastdqn/CartPole-v1``: balance a pole on a cart by pushing it to the left or right.

    By default everything is as in Gymnasium's CartPole-v1: observations float32 [N, 4], a reward
    of 1 per step, the falling one included, and episodes of at most 500 steps.

    Args:
        num_envs: Envs (N).
        pixels: Observe the screen around the cart instead: uint8 [N, 3, 40, 90], rows 40 to 80 %
            and 60 % of the width, as the DQN tutorial of PyTorch crops it.
        gray: Observe its luminance, uint8 [N, 40, 90].
        difference: Observe the screen minus the one before it, float32 in [-1, 1]; zeros after a
            reset.
        observation_noise: Standard deviation of Gaussian noise on each number observed, as a
            fraction of its range in :data:`RANGES`.
        action_noise: Chance that an action is replaced by a random one (of both).
        target_position: Where to hold the cart, m from the middle; or (low, high), between which
            each episode draws its own. The observation gets a fifth number, x - target, and the
            reward is ``NEAR / (NEAR + |x - target|)``, 1 at the target and a half 0.2 m off.
        fall_reward: Of the step that ends in a fall, in place of its reward.
        max_episode_steps: Truncate an episode after so many steps.
        device: Where everything lives.
        compile: Compile the step.

    Raises:
        EnvError: For options that are out of range or contradict each other.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        **NativeVectorEnv.metadata,
        "render_fps": round(1 / TIME_STEP_S),
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        pixels: bool = False,
        gray: bool = False,
        difference: bool = False,
        observation_noise: float = 0.0,
        action_noise: float = 0.0,
        target_position: float | tuple[float, float] | None = None,
        fall_reward: float | None = None,
        max_episode_steps: int = 500,
        device: torch.device | str = "cpu",
        compile: bool = False,
    ) -> None:
        check_fraction("observation_noise", observation_noise)
        check_fraction("action_noise", action_noise)
        if fall_reward is not None and not _is_finite(fall_reward):
            raise EnvError(f"fall_reward = {fall_reward!r} is no finite number; use one, or None.")
        for name, value in (("gray", gray), ("difference", difference)):
            if value and not pixels:
                raise EnvError(f"{name} = True is about the screen; add pixels = True.")
        if pixels and (observation_noise or target_position is not None):
            name = "observation_noise" if observation_noise else "target_position"
            raise EnvError(f"{name} does not show on the screen; leave it out, or pixels = False.")
        self._target = _read_target(target_position)
        self._observation_noise, self._action_noise = observation_noise, action_noise
        self._fall_reward, self._difference = fall_reward, difference
        # Rows of the random numbers: the state of a new episode, then what the options ask for.
        self._rows: dict[str, slice] = {"state": slice(0, 4)}
        count = 4
        for name, size, wanted in (
            ("target", 1, self._target is not None),
            ("observation", 4, observation_noise > 0),
            ("action", 2, action_noise > 0),
        ):
            if wanted:
                self._rows[name] = slice(count, count + size)
                count += size
        limits = {"physics": (-_FASTEST, _FASTEST), "before": (-_FASTEST, _FASTEST)}
        if self._target is not None:
            limits["target"] = self._target
        super().__init__(
            num_envs,
            self._space(pixels, gray),
            2,
            uniforms=count,
            limits=limits,
            max_episode_steps=max_episode_steps,
            device=device,
            compile=compile,
        )
        self._screen = CartPoleScreen(gray=gray, device=self.device) if pixels else None
        self.compiles_observations = not pixels
        self._scale = observation_noise * torch.tensor(RANGES, device=self.device).unsqueeze(1)

    def _space(self, pixels: bool, gray: bool) -> Box:
        if pixels:
            shape = (HEIGHT, WIDTH) if gray else (3, HEIGHT, WIDTH)
            if self._difference:
                return Box(-1, 1, shape, np.float32)
            return Box(0, 255, shape, np.uint8)
        high = np.array([2 * X_THRESHOLD, np.inf, 2 * THETA_THRESHOLD, np.inf], np.float32)
        if self._observation_noise:
            high[:] = np.inf
        if self._target is not None:
            high = np.append(high, np.float32(np.inf if self._observation_noise else 7.2))
        return Box(-high, high, dtype=np.float32)

    def initial(self, uniform: Tensor) -> State:
        """Every number of the state is uniform in [-0.05, 0.05)."""
        state = {"physics": (uniform[self._rows["state"]] - 0.5) * 0.1}
        if self._difference:
            state["before"] = state["physics"]
        if self._target is not None:
            low, high = self._target
            state["target"] = low + (high - low) * uniform[self._rows["target"]][0]
        return state

    def advance(
        self, state: State, actions: Tensor, uniform: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        """One step of the physics and its reward."""
        if self._action_noise:
            replaced, other = uniform[self._rows["action"]]
            actions = torch.where(replaced < self._action_noise, other >= 0.5, actions != 0)
        physics = cartpole_step(state["physics"], actions)
        fallen = has_fallen(physics)
        following = {**state, "physics": physics}
        if self._difference:
            following["before"] = state["physics"]
        if self._target is None:
            reward = torch.ones_like(physics[0])
        else:
            distance = (physics[0] - state["target"]).abs()
            reward = NEAR / (NEAR + distance)
        if self._fall_reward is not None:
            reward = reward.masked_fill(fallen, self._fall_reward)
        return following, reward, fallen

    def picture(self, state: State) -> Tensor:
        """The screen around the cart in its colours, whatever is observed."""
        physics = state["physics"]
        return CartPoleScreen(device=self.device)(physics[0], physics[2])

    def observe(self, state: State, uniform: Tensor) -> Tensor:
        """Numbers [N, 4] or [N, 5], or the screen."""
        physics = state["physics"]
        if self._screen is not None:
            if not self._difference:
                return self._screen(physics[0], physics[2])
            both = torch.cat((physics, state["before"]), 1)
            screen, before = self._screen(both[0], both[2]).chunk(2)
            # In place: each of these tensors is four times as large as the screens.
            return screen.to(torch.float32).sub_(before).mul_(1 / 255)
        if self._observation_noise:
            # The inverse of the normal distribution; 0 would be -infinity.
            noise = torch.special.ndtri(uniform[self._rows["observation"]].clamp(min=2.0**-25))
            physics = physics + self._scale * noise
        if self._target is not None:
            physics = torch.cat((physics, (physics[0] - state["target"]).unsqueeze(0)))
        return physics.T.clone(memory_format=torch.contiguous_format)  # of one env, too


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _read_target(target: Any) -> tuple[float, float] | None:
    """(low, high) of the target position; EnvError where it is out of reach."""
    if target is None:
        return None
    ends = tuple(target) if isinstance(target, tuple | list) else (target, target)
    if (
        len(ends) != 2
        or not all(_is_finite(end) and abs(end) < X_THRESHOLD for end in ends)
        or ends[0] > ends[1]
    ):
        raise EnvError(
            f"target_position = {target!r} must be a number between -{X_THRESHOLD} and "
            f"{X_THRESHOLD} m, or (low, high) of two such."
        )
    return float(ends[0]), float(ends[1])

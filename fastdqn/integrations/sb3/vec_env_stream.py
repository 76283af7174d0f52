"""A ``VecEnv`` of Stable-Baselines3 as a stream of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from fastdqn.envs import checks, failures
from fastdqn.envs.leaves import ObservationOptions
from fastdqn.envs.stream import EnvStream
from fastdqn.errors import EnvError
from fastdqn.integrations.sb3.vec_spaces import VecSpaces
from fastdqn.types import Array, StackPadding, TimeStep


class VecEnvStream(EnvStream):
    """Adapter of a ``VecEnv``: ``fastdqn.train(config, envs=VecEnvStream(envs))``.

    A ``VecEnv`` resets an env within the step that ends its episode, so every row carries ``reset``
    and ``reset_observation``. Of stacked observations the newest frame is handed on.

    Args:
        envs: The envs; a Discrete action space.
        frame_stack: Frames that the observations are stacks of; None: what a ``VecFrameStack``
            around the envs says, else 1.
        stack_padding: What those stacks have before an episode's first frame.
        observation_scale: As for :func:`fastdqn.make_envs`.
        observation_keys: Likewise.

    Raises:
        EnvError: Where a DQN cannot use them.
        ConfigError: Where ``frame_stack`` does not divide the observations.
    """

    def __init__(
        self,
        envs: VecEnv,
        *,
        frame_stack: int | None = None,
        stack_padding: StackPadding = "zero",
        observation_scale: str = "auto",
        observation_keys: tuple[str, ...] | None = None,
    ) -> None:
        if not isinstance(envs, VecEnv):
            raise EnvError(
                f"envs is {type(envs).__name__}, no VecEnv of Stable-Baselines3; pass one, or pass "
                f"other envs to fastdqn.make_envs."
            )
        options = ObservationOptions.checked(observation_scale, "auto", observation_keys, False)
        self.spaces = spaces = VecSpaces.of_envs(
            envs, frame_stack, stack_padding=stack_padding, observation=options
        )
        self.num_envs = spaces.num_envs
        self.num_actions, self.action_start = spaces.num_actions, spaces.action_start
        self.observation_space, self.reader = spaces.observation_space, spaces.reader
        self.frame_format = spaces.frame_format
        self.frame_stack, self.stack_padding = spaces.frame_stack, spaces.stack_padding
        self._envs = envs
        self._started = self._in_flight = self._closed = False

    def reset(self, *, seed: int | None = None) -> TimeStep:
        """Start every env anew; env i gets seed + i."""
        self._check_open()
        if self._in_flight:
            self.recv()
        if seed is not None:
            self._envs.seed(checks.check_seed(seed, self.num_envs))
        with failures.named(self._envs, "reset", None):
            raw = self._envs.reset()
        self._started = True
        return self.spaces.reset_rows(raw)

    def send(self, actions: Array) -> None:
        """Hand over actions [N] from 0."""
        self._check_open()
        if not self._started:
            raise EnvError("send() before reset(); call reset() first.")
        if self._in_flight:
            raise EnvError("send() twice in a row; call recv() in between.")
        actions = np.asarray(actions)
        checks.check_actions(actions, self.num_envs, self.num_actions)
        with failures.named(self._envs, "step", None):
            self._envs.step_async(actions + self.action_start)
        self._in_flight = True

    def recv(self) -> TimeStep:
        """Wait for the rows that the last :meth:`send` leads to."""
        self._check_open()
        if not self._in_flight:
            raise EnvError("recv() without send(); call send(actions) first.")
        self._in_flight = False  # also if the step fails
        with failures.named(self._envs, "step", None):
            returned: Any = self._envs.step_wait()
        return self.spaces.rows(*returned)

    def close(self) -> None:
        """Release the envs; nothing the second time."""
        if not self._closed:
            self._closed = True
            self._envs.close()

    def _check_open(self) -> None:
        if self._closed:
            raise EnvError("The stream is closed; make a new one.")

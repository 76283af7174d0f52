"""What the spaces of a ``VecEnv`` mean to us: frames, actions, and how its arrays become ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import (
    is_image_space,
    is_image_space_channels_first,
    maybe_transpose,
)
from stable_baselines3.common.utils import is_vectorized_observation
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecEnvWrapper,
    VecExtractDictObs,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)

from fastdqn.config.checks import shown
from fastdqn.envs.leaves import ObservationOptions
from fastdqn.envs.reader import ObservationReader
from fastdqn.errors import ConfigError, EnvError
from fastdqn.integrations.sb3.stack_layout import StackLayout, check_padding
from fastdqn.integrations.sb3.stacked_episodes import StackedEpisodes
from fastdqn.types import StackPadding, TimeStep


class VecSpaces:
    """The spaces of N envs of SB3's, with the attributes of an ``EnvStream``.

    Args:
        observation_space: Of one env.
        action_space: A Discrete.
        num_envs: N.
        frame_stack: Frames that the observations are stacks of; None: they are none.
        stack_padding: What those stacks have before an episode's first frame.
        observation: What observations mean, where their space leaves it open.
        trusted: The observations are such stacks; otherwise each of them is looked at.

    Raises:
        EnvError: Where a DQN cannot use the spaces.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        *,
        frame_stack: int | None = None,
        stack_padding: StackPadding = "zero",
        observation: ObservationOptions | None = None,
        trusted: bool = False,
    ) -> None:
        if not isinstance(action_space, spaces.Discrete):
            raise EnvError(
                f"The action space is {shown(action_space)}, but a DQN needs Discrete(n); "
                f"discretise the actions with a wrapper such as gymnasium.wrappers.TransformAction."
            )
        check_padding(stack_padding)
        self.space, self.action_space, self.num_envs = observation_space, action_space, num_envs
        self.num_actions, self.action_start = int(action_space.n), int(action_space.start)
        self.layout = StackLayout.of_space(
            observation_space, 1 if frame_stack is None else frame_stack, None
        )
        self.frame_stack = None if self.layout is None else self.layout.frame_stack
        self.stack_padding = stack_padding
        self._episodes: StackedEpisodes | None = None
        self._look_at(trusted)
        self._before = np.empty(0)
        frames = observation_space if self.layout is None else self.layout.frame_space
        self.reader = ObservationReader.of_space(
            frames,
            _channels_first(frames, observation or ObservationOptions()),
            frame_stack=self.frame_stack,
            name="the VecEnv",
        )
        self.observation_space, self.frame_format = self.reader.frame_space, self.reader.format

    @classmethod
    def of_envs(cls, envs: VecEnv, frame_stack: int | None, **options: Any) -> VecSpaces:
        """Those of envs; whether their observations are stacks is asked of ``VecFrameStack``."""
        found = stack_of(envs)
        return cls(
            envs.observation_space,
            envs.action_space,
            envs.num_envs,
            frame_stack=found if frame_stack is None else frame_stack,
            trusted=frame_stack in (None, found),
            **options,
        )

    def _look_at(self, trusted: bool) -> None:
        """At every stack from the next reset on, unless it may be trusted."""
        self._episodes = None
        # A VecFrameStack fills up with zeros, whatever else was asked for.
        if self.layout is not None and not (trusted and self.stack_padding == "zero"):
            self._episodes = StackedEpisodes(self.layout, self.stack_padding, self.num_envs)

    def take_over(self, envs: VecEnv) -> None:
        """Other envs, to be reset next; ConfigError where their spaces differ from these."""
        self.check_same(envs.observation_space, envs.action_space)
        self._look_at(stack_of(envs) == self.frame_stack)

    def check_same(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        """Refuse, by a ConfigError, other spaces than these."""
        for name, own, found in (
            ("observation_space", self.space, observation_space),
            ("action_space", self.action_space, action_space),
        ):
            if own != found:
                raise ConfigError(
                    f"{name} = {shown(found)} of the envs is not that of the model, {shown(own)}; "
                    f"use envs like those."
                )

    def frames(self, observation: Any, num: int) -> Any:
        """The newest frames [N, *O] of observations as the envs return them."""
        if self.layout is not None:
            observation = self.layout.newest(observation)
        return self.reader.frames(observation, num)

    def stacks(self, observation: Any) -> tuple[np.ndarray, bool]:
        """What a network sees, [B, S, *O] or [B, *O], and whether it was one observation.

        Args:
            observation: Of one env or of several, as the envs return them; images also with their
                channels last.

        Raises:
            EnvError: Where it is no such observation.
        """
        try:
            if isinstance(self.space, spaces.Dict):
                observation = {
                    key: maybe_transpose(np.asarray(observation[key]), space)
                    for key, space in self.space.items()
                }
            else:
                observation = maybe_transpose(np.asarray(observation), self.space)
            single = not is_vectorized_observation(observation, self.space)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise EnvError(
                f"observation does not fit {shown(self.space)} ({why.rstrip('.')}); pass what "
                f"such envs return."
            ) from None
        if single:
            observation = _with_axis(observation)
        num = len(
            next(iter(observation.values())) if isinstance(observation, dict) else observation
        )
        if not num:
            raise EnvError("observation is of 0 envs; pass that of one env or more.")
        if self.layout is None:
            return self.reader.frames(observation, num), single
        stacks = self.layout.split(observation)
        flat = stacks.reshape(-1, *stacks.shape[2:])
        frames = self.reader.frames(flat, len(flat))
        return frames.reshape(num, self.layout.frame_stack, *frames.shape[1:]), single

    def reset_rows(self, observation: Any) -> TimeStep:
        """The rows of a reset of all envs."""
        if self._episodes is not None:
            self._episodes.clear()
            self._before = np.array(observation)
        frames = self.frames(observation, self.num_envs)
        none = np.zeros(self.num_envs, dtype=bool)
        return TimeStep(frames, np.zeros(self.num_envs, np.float32), none, none, ~none)

    def rows(
        self,
        observation: Any,
        reward: np.ndarray,
        done: np.ndarray,
        infos: Sequence[Mapping[str, Any]],
    ) -> TimeStep:
        """The rows of a step, of what ``VecEnv.step`` returned.

        Raises:
            EnvError: Where an episode ended and its last observation is not in the infos.
        """
        following = self.frames(observation, self.num_envs)
        done = np.asarray(done, dtype=bool)
        timeout = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        if self._episodes is not None:
            self._episodes.follow(self._before, observation, done)
            self._before = np.array(observation)
        newest = following
        if done.any():
            newest = np.array(following)
            for env in np.flatnonzero(done).tolist():
                last = infos[env].get("terminal_observation")
                if last is None:
                    raise EnvError(
                        f"Env {env} ended an episode, but infos[{env}]['terminal_observation'] is "
                        f"missing; give its last observation."
                    )
                newest[env] = self.frames(_with_axis(last), 1)[0]
        return TimeStep(
            newest,
            np.asarray(reward, dtype=np.float32),
            done & ~timeout,
            done & timeout,
            np.zeros(self.num_envs, dtype=bool),
            following,
            done,
        )


def stack_of(envs: VecEnv) -> int | None:
    """Frames that a ``VecFrameStack`` stacks; None where the newest cannot stand for all.

    That is so in a Dict, where ``VecNormalize`` goes on moving the frames of a stack, and where
    they lie along another axis than the space tells.
    """
    space: Any = envs.observation_space
    key, transposed = None, False
    whole = isinstance(space, spaces.Box)
    while whole and isinstance(envs, VecEnvWrapper):
        if isinstance(envs, VecFrameStack):
            stacked = (
                envs.stacked_obs if key is None else envs.stacked_obs.sub_stacked_observations[key]
            )
            axis = 0 if stacked.channels_first else len(space.shape) - 1
            if transposed:
                axis = (axis + 1) % len(space.shape)
            return int(stacked.n_stack) if axis == StackLayout.axis_of(space) else None
        if isinstance(envs, VecExtractDictObs):
            key = envs.key
        elif isinstance(envs, VecTransposeImage) and not envs.skip:
            transposed |= key is None or key in envs.image_space_keys
        if isinstance(envs, VecNormalize) and envs.norm_obs:
            return None
        envs = envs.venv
    return None


def _channels_first(space: spaces.Space, options: ObservationOptions) -> ObservationOptions:
    """Say so of an image of which SB3 knows it, where the sizes might leave it open."""
    if options.image_layout != "auto" or not is_image_space(space) or min(space.shape[1:]) < 3:
        return options
    return replace(options, image_layout="chw") if is_image_space_channels_first(space) else options


def _with_axis(observation: Any) -> Any:
    """One observation as a batch of one."""
    if isinstance(observation, Mapping):
        return {key: np.asarray(value)[None] for key, value in observation.items()}
    return np.asarray(observation)[None]

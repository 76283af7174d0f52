"""A replay buffer for Stable-Baselines3's DQN that stores every frame once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.buffers import ReplayBuffer as StableReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.integrations.sb3 import replay_rows
from fastdqn.integrations.sb3.memory import check_memory, rows_for
from fastdqn.integrations.sb3.stack_layout import StackLayout, check_padding
from fastdqn.integrations.sb3.stacked_episodes import StackedEpisodes
from fastdqn.integrations.sb3.stored_space import (
    check_spaces,
    checked_numbers,
    checked_observations,
    stored_space,
    time_limits,
    torch_dtype,
)
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.types import Batch, StackPadding

_GAMMA = Range(0.0, 1.0, open_low=True)  # a discount of 0 says that an episode ended


class FrameReplayBuffer(StableReplayBuffer):
    """For ``stable_baselines3.DQN(..., replay_buffer_class=FrameReplayBuffer)``.

    Of each step one frame is stored, not two stacks, and time limits are told apart from ends all
    the same. It lies on ``device``, where samples are built as well. A reset takes a place of its
    own: among episodes of 20 steps there is room for 5 % fewer transitions than ``buffer_size``.

    Args:
        buffer_size: Transitions over all envs.
        observation_space: Of one env: a Box (of stacked frames, or not), Discrete, MultiDiscrete
            or MultiBinary. Bytes are stored as bytes, all else as float32.
        action_space: A Discrete.
        device: Where it lives.
        n_envs: Envs that step together.
        optimize_memory_usage: Must be False: the memory is saved in any case.
        handle_timeout_termination: An episode that a time limit cut short does not count as done.
        frame_stack: Frames that an observation is a stack of; None: by the channels of an image,
            as :meth:`StackLayout.of_space` says; 1: none.
        channels_order: ``first`` or ``last``, along which axis the frames lie; None: by the sizes.
        stack_padding: What stacks have before an episode's first frame: ``zero``, as
            ``VecFrameStack``, or ``repeat``, that frame again.
        n_steps: Of the n-step return, as SB3's ``NStepReplayBuffer``.
        gamma: That of the DQN; used where ``n_steps`` is not 1.
        seed: Of what is drawn; None: from NumPy's global generator, which SB3 seeds.

    Raises:
        ConfigError: Where an argument is out of its range or does not go with the spaces.
        EnvError: Where a DQN cannot use the spaces.
        MemoryPlanError: Where the frames do not fit in memory.
    """

    pos: int
    full: bool

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        frame_stack: int | None = None,
        channels_order: str | None = None,
        stack_padding: StackPadding = "zero",
        n_steps: int = 1,
        gamma: float = 0.99,
        seed: int | None = None,
    ) -> None:
        buffer_size = check_argument("buffer_size", buffer_size, int, Range(1, 2**40))
        n_envs = check_argument("n_envs", n_envs, int, Range(1, 65_536))
        n_steps = check_argument("n_steps", n_steps, int, Range(1, 1000))
        gamma = check_argument("gamma", gamma, float, Range(0.0, 1.0) if n_steps == 1 else _GAMMA)
        seed = check_argument("seed", seed, int | None, Range(0, 2**63 - 1))
        check_padding(stack_padding)
        if optimize_memory_usage:
            raise ConfigError(
                "optimize_memory_usage = True is for SB3's own buffer, this one stores every frame "
                "once in any case; leave it out."
            )
        check_spaces(observation_space, action_space)
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.n_steps, self.gamma = n_steps, gamma
        self.layout = StackLayout.of_space(observation_space, frame_stack, channels_order)
        self.stack_padding = stack_padding
        stack = None if self.layout is None else self.layout.frame_stack
        self._arguments = {
            "buffer_size": buffer_size,
            "observation_space": observation_space,
            "action_space": action_space,
            "n_envs": n_envs,
            "handle_timeout_termination": handle_timeout_termination,
            "frame_stack": stack or 1,
            "channels_order": channels_order,
            "stack_padding": stack_padding,
            "n_steps": n_steps,
            "gamma": gamma,
        }
        frames = observation_space if self.layout is None else self.layout.frame_space
        stored = stored_space(frames, frames.shape or self.obs_shape)  # type: ignore[arg-type]
        replay = {
            "capacity": rows_for(buffer_size, n_envs, stack, n_steps),
            "num_envs": n_envs,
            "observation_space": stored,
            "frame_stack": stack,
            "n_step": n_steps,
            "num_actions": int(action_space.n),  # type: ignore[attr-defined]
            "device": self.device,
        }
        check_memory(replay)
        self.replay = ReplayBuffer(
            **replay,  # type: ignore[arg-type]
            stack_padding=stack_padding,
            gamma=1.0 if n_steps == 1 else gamma,  # then the discount is 1 or 0: not done or done
            seed=int(np.random.randint(2**31)) if seed is None else seed,
        )
        self._start = int(action_space.start)  # type: ignore[attr-defined]
        self._dtype = self.replay.observation_space.dtype
        self._episodes = None
        if self.layout is not None:
            self._episodes = StackedEpisodes(self.layout, stack_padding, n_envs)

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """One transition of every env.

        Args:
            obs: [N, ...].
            next_obs: [N, ...]: where an episode ended its last observation.
            action: [N] or [N, 1].
            reward: [N].
            done: bool [N].
            infos: Of each env; ``TimeLimit.truncated`` tells time limits from ends.

        Raises:
            EnvError: Where they are not what the spaces say, or no stacks of frames.
        """
        n = self.n_envs
        before = checked_observations("obs", obs, n, self.obs_shape)  # type: ignore[arg-type]
        following = checked_observations("next_obs", next_obs, n, self.obs_shape)  # type: ignore[arg-type]
        done, reward = checked_numbers("done", done, n), checked_numbers("reward", reward, n)
        done, timeout = done.astype(bool), np.zeros(n, dtype=bool)
        if self.handle_timeout_termination:
            timeout = time_limits(infos, n)
        frame, next_frame = before, following
        if self.layout is not None and self._episodes is not None:
            restarted = self._episodes.follow(before, following, done | timeout)
            if restarted.any():  # from outside
                replay_rows.end_episodes(self.replay, restarted)
            frame, next_frame = self.layout.newest(before), self.layout.newest(following)
        self.replay.add_transition(
            np.asarray(frame, dtype=self._dtype),
            checked_numbers("action", action, n) - self._start,
            reward.astype(np.float32),
            np.asarray(next_frame, dtype=self._dtype),
            done & ~timeout,
            timeout,
        )
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full, self.pos = True, 0

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Draw transitions uniformly.

        Args:
            batch_size: B.
            env: Normalises observations and rewards, as it does now.

        Returns:
            observations [B, ...], actions int64 [B, 1], next_observations, dones and rewards
            float32 [B, 1], and where ``n_steps`` is not 1 discounts float32 [B, 1]: gamma^m, or 0
            where the episode ended.

        Raises:
            FastDQNError: Where nothing can be drawn yet.
        """
        if (self.buffer_size if self.full else self.pos) > self.n_steps + 1:
            return self._samples(self.replay.sample(batch_size), env)
        return self._samples(replay_rows.draw_from_few(self.replay, batch_size), env)

    def _get_samples(
        self, batch_inds: np.ndarray, env: VecNormalize | None = None
    ) -> ReplayBufferSamples:
        """The transitions that start at rows of ``self.replay``, [B]."""
        index = torch.as_tensor(batch_inds, dtype=torch.int64, device=self.replay.device)
        return self._samples(self.replay.gather(index), env)

    def _samples(self, batch: Batch, env: VecNormalize | None) -> ReplayBufferSamples:
        reward, discount = batch.reward.unsqueeze(1), batch.discount.unsqueeze(1)
        if env is not None:
            if self.n_steps > 1 and env.norm_reward:
                raise ConfigError(
                    f"VecNormalize scales single rewards, not sums of n_steps = {self.n_steps}; "
                    f"set norm_reward = False."
                )
            reward = torch.as_tensor(env.normalize_reward(reward.cpu().numpy()).astype(np.float32))
        seen, following = (self._whole(x, env) for x in (batch.observation, batch.next_observation))
        samples = (
            seen,
            batch.action.unsqueeze(1) + self._start,
            following,
            (discount == 0).float(),
            reward,
            *(() if self.n_steps == 1 else (discount,)),
        )
        return ReplayBufferSamples(*(part.to(self.device) for part in samples))

    def _whole(self, frames: Tensor, env: VecNormalize | None) -> Tensor:
        """Observations as the space has them, of stacks or frames."""
        whole = frames if self.layout is None else self.layout.join(frames)
        if env is None:
            return whole.to(torch_dtype(self.observation_space.dtype))
        found = whole.cpu().numpy().astype(self.observation_space.dtype, copy=False)
        return torch.as_tensor(env.normalize_obs(found))

    def size(self) -> int:
        """Transitions that may be drawn, per env as SB3 counts; waits for the device."""
        return len(self.replay) // self.n_envs

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.replay.clear()
        if self._episodes is not None:
            self._episodes.clear()

    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.replay.nbytes()

    # --- saving ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Plain data: tensors, arrays and numbers; the replay's are views of its memory."""
        return {
            "replay": self.replay.state_dict(),
            "pos": self.pos,
            "full": self.full,
            "episodes": None if self._episodes is None else self._episodes.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict` in place; CheckpointError where it is another buffer's."""
        try:
            self.replay.load_state_dict(state["replay"])
            self._load_counters(state)
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"state is none of such a buffer ({type(error).__name__}: {error}); pass what "
                f"state_dict() returned."
            ) from None

    def _load_counters(self, state: Mapping[str, Any]) -> None:
        self.pos, self.full = int(state["pos"]), bool(state["full"])
        if self._episodes is not None:
            self._episodes.load_state_dict(state["episodes"])

    def __getstate__(self) -> dict[str, Any]:
        """Plain data, without the rows that were never written."""
        state = {**self.state_dict(), "replay": replay_rows.arrays_of(self.replay)}
        return {"arguments": self._arguments, "device": str(self.device), "state": state}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        """The same buffer, on the CPU where its device is not here."""
        self.__init__(**saved["arguments"], device=saved["device"], seed=0)  # type: ignore[misc]
        replay_rows.restore(self.replay, saved["state"]["replay"])
        self._load_counters(saved["state"])

"""TorchRL's envs as a stream of rows, which ``fastdqn.train`` takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.envs.checks import check_actions, check_seed
from fastdqn.envs.stream import EnvStream
from fastdqn.errors import EnvError, EnvFailure, FastDQNError
from fastdqn.integrations.torchrl.actions import one_hot, read_action_spec
from fastdqn.integrations.torchrl.specs import box_of, observation_key_of
from fastdqn.types import Array, StackPadding, TimeStep


def _as_array(actions: Any) -> np.ndarray:
    try:
        return np.asarray(actions)
    except ValueError as error:
        raise EnvError("Actions are of unequal lengths; use one per env, shape (N,).") from error


class TorchRLStream(EnvStream):
    """N envs of TorchRL: a ``SerialEnv``, a ``ParallelEnv``, a batched one of torch, or one alone.

    An env whose episode ended is reset within the same step, so every row but those of
    :meth:`reset` carries ``reset`` and ``reset_observation``.

    Args:
        env: Of batch size [N], or [] for one env; its action is Categorical or OneHot, its
            observation bytes or floats of one dimension or more.
        observation_key: Which of its entries is the observation; None: the one there is, or
            ``observation``.
        frame_stack: Frames that the replay shall stack; None: observations are whole. Then give
            the env no CatFrames.
        stack_padding: What stands before an episode's first frame.

    Raises:
        EnvError: Where the env is none of those.
    """

    def __init__(
        self,
        env: EnvBase,
        *,
        observation_key: Any = None,
        frame_stack: int | None = None,
        stack_padding: StackPadding = "repeat",
    ) -> None:
        if not isinstance(env, EnvBase):
            raise EnvError(
                f"env is {type(env).__name__}; pass an env of TorchRL, such as "
                f"torchrl.envs.GymEnv('CartPole-v1')."
            )
        self.name = type(env).__name__
        if len(env.batch_size) > 1:
            raise EnvError(
                f"{self.name} has batch_size {list(env.batch_size)}; use one of [N] envs, or one "
                f"env alone."
            )
        if stack_padding not in ("zero", "repeat"):
            raise EnvError(f"stack_padding = {stack_padding!r} must be one of zero, repeat.")
        self.num_envs = env.batch_size[0] if env.batch_size else 1
        self._action_spec = env.action_spec
        self.num_actions, self._one_hot = read_action_spec(self._action_spec, self.name)
        self.action_start = 0
        self.frame_stack = check_argument("frame_stack", frame_stack, int | None, Range(1, 2**31))
        self.stack_padding = stack_padding
        self._key = observation_key_of(env.observation_spec, observation_key, self.name)
        spec = env.observation_spec[self._key]
        self.observation_space = box_of(spec, len(env.batch_size), self._key, self.name)
        self._dtype = torch.uint8 if self.observation_space.dtype == np.uint8 else torch.float32
        self._env = env
        self._root: TensorDictBase | None = None  # what the next step starts from
        self._sent = False
        self._closed = False

    @property
    def env(self) -> EnvBase:
        """The env, as it was handed over."""
        return self._env

    def reset(self, *, seed: int | None = None) -> TimeStep:
        """Start every env anew."""
        self._check_open()
        try:
            if seed is not None:
                self._env.set_seed(check_seed(seed, self.num_envs))
            self._root = self._env.reset()
        except FastDQNError:
            raise
        except Exception as error:
            raise self._failure("reset", error) from error
        self._sent = False
        observation = self._frames(self._root)
        none = torch.zeros(self.num_envs, dtype=torch.bool, device=observation.device)
        return TimeStep(observation, none.float(), none, none, ~none)

    def send(self, actions: Array) -> None:
        """Hand over actions [N] from 0; the envs work in :meth:`recv`."""
        self._check_open()
        if self._root is None:
            raise EnvError("send() before reset(); call reset() first.")
        if self._sent:
            raise EnvError("send() twice in a row; call recv() in between.")
        if not (isinstance(actions, Tensor) and actions.is_cuda):
            actions = _as_array(actions)
        check_actions(actions, self.num_envs, self.num_actions)
        chosen = torch.as_tensor(actions, dtype=torch.int64, device=self._env.device)
        if self._one_hot:
            chosen = one_hot(chosen, self.num_actions, self._action_spec.dtype)
        chosen = chosen.to(self._action_spec.dtype).reshape(self._action_spec.shape)
        self._root.set(self._env.action_key, chosen)
        self._sent = True

    def recv(self) -> TimeStep:
        """Step the envs, and reset those whose episode ended."""
        self._check_open()
        if not self._sent:
            raise EnvError("recv() without send(); call send(actions) first.")
        self._sent = False  # also if the step fails
        try:
            taken, root = self._env.step_and_maybe_reset(self._root)
        except Exception as error:
            raise self._failure("step", error) from error
        self._root, following = root, taken.get("next")
        done = self._flag(following, "done")
        terminated, truncated = (self._flag(following, key) for key in ("terminated", "truncated"))
        if truncated is None:  # whereas TorchRL itself adds ``terminated``
            truncated = done & ~terminated
        reward = following.get(self._env.reward_key).reshape(self.num_envs).float()
        observation, first = self._frames(following), torch.zeros_like(done)
        return TimeStep(observation, reward, terminated, truncated, first, self._frames(root), done)

    def step(self, actions: Array) -> TimeStep:
        """:meth:`send` and :meth:`recv`."""
        self.send(actions)
        return self.recv()

    def close(self) -> None:
        """Release the envs; does nothing the second time."""
        if not self._closed:
            self._closed = True
            if not self._env.is_closed:
                self._env.close()

    def _flag(self, tensordict: TensorDictBase, key: str) -> Any:
        value = tensordict.get(key, None)
        return None if value is None else value.reshape(self.num_envs)

    def _frames(self, tensordict: TensorDictBase) -> Tensor:
        frames = tensordict.get(self._key).to(self._dtype)
        return frames if self._env.batch_size else frames.unsqueeze(0)

    def _check_open(self) -> None:
        if self._closed:
            raise EnvError("The envs are closed; make a new stream.")

    def _failure(self, call: str, error: Exception) -> EnvFailure:
        why = " ".join(str(error).split()) or "no reason given"
        return EnvFailure(
            f"{self.name} failed in a {call} ({type(error).__name__}: {why}); mend the env."
        )

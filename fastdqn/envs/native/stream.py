"""Envs of our own as a stream: their rows are what a stream promises as they come."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastdqn.envs import arrays, failures
from fastdqn.envs.gymnasium import GymnasiumStream
from fastdqn.errors import EnvError
from fastdqn.types import TimeStep


class NativeStream(GymnasiumStream):
    """Adapter of a :class:`fastdqn.envs.native.base.NativeVectorEnv`.

    These envs are of mode NEXT_STEP, give tensors of the right shape and type, and no reward and
    no flag in the step of a reset. To see to that once more would take as long as the step itself.
    """

    def _convert(self, actions: Any) -> Any:
        """As for any envs; the usual case, a tensor on the host, by a third of the operations."""
        if (
            isinstance(actions, Tensor)
            and isinstance(self._example, Tensor)
            and actions.dtype == torch.int64
            and actions.shape == (self.num_envs,)
            and actions.device.type == self._example.device.type == "cpu"
        ):
            low, high = actions.aminmax()
            if low.item() >= 0 and high.item() < self.num_actions:
                return actions.clone()  # the caller may write to its own before the envs step
        return super()._convert(actions)

    def recv(self) -> TimeStep:
        """The rows that the last :meth:`send` leads to."""
        self._check_open()
        if not self._in_flight:
            raise EnvError("recv() without send(); call send(actions) first.")
        self._in_flight = False  # also if the step fails
        with failures.named(self._envs, "step", self._timeout_s):
            observation, reward, terminated, truncated, _ = self._collect()
        self._example = observation
        first = arrays.as_kind_of(self._ended, observation)  # of a loaded state it is numpy
        self._ended = terminated | truncated
        return TimeStep(observation, reward, terminated, truncated, first)

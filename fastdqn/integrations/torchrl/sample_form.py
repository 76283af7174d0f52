"""How a sample looks: our batch under TorchRL's keys, actions as they came in."""

from __future__ import annotations

import math
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from fastdqn.errors import FastDQNError
from fastdqn.integrations.torchrl.actions import read_action_spec
from fastdqn.types import Batch


class SampleForm:
    """Makes TensorDicts of batches.

    Args:
        observation_key: Of the observation.
        action_spec: Of one env's action; None: the first data show it.
        n_step: n of the replay.
        gamma: Its discount per step.
    """

    def __init__(self, observation_key: Any, action_spec: Any, n_step: int, gamma: float) -> None:
        self.observation_key = observation_key
        self._n_step, self._gamma = n_step, gamma
        self._known = action_spec is not None
        self._one_hot_of: int | None = None  # A; None: actions are numbers
        self._dtype = torch.int64  # of one-hot actions
        self._encoding: Tensor | None = None  # row a is action a one-hot
        self.num_actions: int | None = None
        if action_spec is not None:
            self.num_actions, one_hot = read_action_spec(action_spec, "action_spec")
            self._one_hot_of = self.num_actions if one_hot else None
            self._dtype = action_spec.dtype

    def see(self, one_hot_of: int | None, dtype: torch.dtype) -> None:
        """Actions come out as they came in; FastDQNError where that changes.

        Args:
            one_hot_of: A, where actions are one-hot.
            dtype: Of the actions.
        """
        if not self._known:
            self._known, self._one_hot_of, self._dtype = True, one_hot_of, dtype
        elif one_hot_of != self._one_hot_of:
            raise FastDQNError(
                f"action is {_form(one_hot_of)}, where {_form(self._one_hot_of)} is expected; use "
                f"envs of one action spec."
            )

    def tensordict(self, batch: Batch) -> TensorDict:
        """The batch, [B]."""
        ended = (batch.discount == 0).unsqueeze(-1)
        entries: dict[Any, Any] = {
            self.observation_key: batch.observation,
            "action": self._encoded(batch.action),
            "gamma": batch.discount.unsqueeze(-1),
            "priority_weight": batch.weight,
            "index": batch.index,
            "next": {
                self.observation_key: batch.next_observation,
                "reward": batch.reward.unsqueeze(-1),
                "done": ended,
                "terminated": ended,
            },
        }
        if self._n_step > 1:
            entries["steps_to_next_obs"] = self._steps(batch.discount).unsqueeze(-1)
        # Without a device: naming it would cost more than the draw.
        return TensorDict(entries, batch_size=batch.action.shape)

    def _encoded(self, action: Tensor) -> Tensor:
        if self._one_hot_of is None:
            return action
        if self._encoding is None:
            self._encoding = torch.eye(self._one_hot_of, device=action.device).to(self._dtype)
        return self._encoding.index_select(0, action)

    def _steps(self, discount: Tensor) -> Tensor:
        """M of ``gamma^m``; 1 where the episode terminated, for there it counts nothing."""
        if self._gamma == 1:
            return torch.ones_like(discount, dtype=torch.int64)
        steps = (discount.double().log() / math.log(self._gamma)).round()
        return steps.masked_fill(discount == 0, 1).to(torch.int64)

    def state_dict(self) -> dict[str, Any]:
        """What is known of actions, as plain data."""
        dtype = str(self._dtype).removeprefix("torch.")
        return {"known": self._known, "one_hot_of": self._one_hot_of, "dtype": dtype}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._known, self._one_hot_of = state["known"], state["one_hot_of"]
        self._dtype, self._encoding = getattr(torch, state["dtype"]), None


def _form(one_hot_of: int | None) -> str:
    return "a number" if one_hot_of is None else f"one-hot of {one_hot_of}"

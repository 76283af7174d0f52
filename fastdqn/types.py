"""The two records that everything else passes around, and the letters of their shapes.

Dimension legend, used in every docstring:
    N  environments stepped together          T  rows per environment in the replay
    B  transitions in a batch                 S  frames in a stack
    A  actions                                O  shape of one frame, e.g. (84, 84) or (4,)
    n  steps of an n-step return
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastdqn.errors import ConfigError

if TYPE_CHECKING:
    from tensordict import TensorDict

Array = np.ndarray | Tensor

# What precedes an episode's first frame in a stack: zeros, or that frame again.
StackPadding = Literal["zero", "repeat"]


class TimeStep(NamedTuple):
    """One row per environment: an observation and *what led to it*; numpy or torch, axis 0 is N.

    ``first`` says that the observation came from a reset; the other scalars of that row are then
    0. ``terminated`` ends the return without bootstrap; ``truncated`` ends it with one. A row may
    end one transition and start the next (a life lost without a reset), so only ``first`` of the
    *next* row says that an episode is over.

    ``reset_observation`` and ``reset`` hold a second row for envs that have already moved on to
    the next episode within the same step (autoreset modes SAME_STEP and DISABLED); they are None
    for streams in which a reset always is a row of its own (NEXT_STEP).

    The arrays are valid until the next ``send`` or ``reset`` of the stream that returned them.
    """

    observation: Array
    """[N, *O], the newest frame of each env."""
    reward: Array
    """float32 [N], of the action that led here, unclipped."""
    terminated: Array
    """bool [N]: the episode ended."""
    truncated: Array
    """bool [N]: the episode was cut off."""
    first: Array
    """bool [N]: the observation came from a reset."""
    reset_observation: Array | None = None
    """[N, *O], of the next episode; it means something where ``reset``."""
    reset: Array | None = None
    """bool [N]: the env has moved on to the next episode within this step."""


class Batch(NamedTuple):
    """Transitions on the replay's device. With ``frame_stack=None`` the axis S is absent."""

    observation: Tensor
    """[B, S, *O], as stored: uint8 or float32."""
    action: Tensor
    """int64 [B], from 0."""
    reward: Tensor
    """float32 [B]: the sum of gamma^(k-1) r[t+k] for k = 1..m, m <= n."""
    discount: Tensor
    """float32 [B]: gamma^m (1 - terminated[t+m])."""
    next_observation: Tensor
    """[B, S, *O], that of t+m."""
    weight: Tensor
    """float32 [B]: importance weight; the largest of a batch is 1."""
    index: Tensor  # type: ignore[assignment]
    """int64 [B]: the rows, for ``update_priorities``."""

    def to_tensordict(self, gamma: float | None = None) -> TensorDict:
        """The batch under TorchRL's keys.

        TorchRL wants flags, so ``done`` and ``terminated`` are ``discount == 0``. Its estimators
        take one gamma, and raise it to ``steps_to_next_obs`` where that key is there::

            loss.make_value_estimator(gamma=0.99)
            loss(batch.to_tensordict(gamma=0.99))

        Args:
            gamma: The replay's, between 0 and 1; adds ``steps_to_next_obs``, m. Needed where
                n_step is not 1.
        """
        from tensordict import TensorDict

        terminated = (self.discount == 0).unsqueeze(-1)
        following: dict[str, Any] = {
            "observation": self.next_observation,
            "reward": self.reward.unsqueeze(-1),
            "done": terminated,
            "terminated": terminated.clone(),
        }
        batch_size = [self.action.shape[0]]
        entries: dict[str, Any] = {
            "observation": self.observation,
            "action": self.action,
            "gamma": self.discount.unsqueeze(-1),  # gamma^m, as MultiStep names it
            "priority_weight": self.weight,
            "index": self.index,
            "next": TensorDict(following, batch_size=batch_size),
        }
        if gamma is not None:
            if not isinstance(gamma, int | float) or not 0 < gamma < 1:
                raise ConfigError(f"gamma = {gamma} must lie between 0 and 1; leave it out at 1.")
            steps = (self.discount.double().log() / math.log(gamma)).round()
            steps = steps.to(torch.int64).masked_fill(self.discount == 0, 1)
            entries["steps_to_next_obs"] = steps.unsqueeze(-1)
        return TensorDict(entries, batch_size=batch_size, device=self.action.device)

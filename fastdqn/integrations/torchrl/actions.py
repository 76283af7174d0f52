"""Actions as TorchRL has them, numbers or one-hot, and as we do: int64 from 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchrl.data import Categorical, OneHot

from fastdqn.errors import EnvError, FastDQNError


def to_numbers(action: Tensor, shape: torch.Size) -> tuple[Tensor, int | None]:
    """Actions as int64 of a batch's shape, and the A of a one-hot encoding (else None).

    Args:
        action: ``shape`` or ``[*shape, 1]`` of numbers, or ``[*shape, A]`` one-hot.
        shape: Of the batch.

    Raises:
        FastDQNError: Where it is neither.
    """
    if action.shape == shape and not action.is_floating_point():
        return action.to(torch.int64), None
    if action.shape[:-1] == shape:
        if action.shape[-1] > 1:
            return action.to(torch.uint8).argmax(-1), int(action.shape[-1])
        if not action.is_floating_point() and action.dtype != torch.bool:
            return action.squeeze(-1).to(torch.int64), None
    raise FastDQNError(
        f"action has shape {list(action.shape)} and dtype {action.dtype} in a batch of "
        f"{list(shape)}; use one discrete action for each, as a number or one-hot."
    )


def one_hot(action: Tensor, num_actions: int, dtype: torch.dtype) -> Tensor:
    """[...] of numbers to [..., A]."""
    return torch.nn.functional.one_hot(action, num_actions).to(dtype)


def read_action_spec(spec: Any, name: str) -> tuple[int, bool]:
    """A, and whether actions are one-hot.

    Args:
        spec: Of an env's action.
        name: Of the env, for the message.

    Raises:
        EnvError: Where it is not one discrete action.
    """
    encoded = isinstance(spec, OneHot)
    if not encoded and type(spec) is not Categorical:
        raise EnvError(
            f"{name} has actions of {type(spec).__name__}, where one discrete action for each env "
            f"is needed; use an env whose action is Categorical or OneHot."
        )
    count = int(spec.space.n)
    if count < 1:
        raise EnvError(f"{name} has {count} actions; use an env that says how many it has.")
    return count, encoded

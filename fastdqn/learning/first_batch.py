"""What a learner looks at when it meets a batch or a replay for the first time.

Later ones of the same shapes are taken as they come: an update has no time to look again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.errors import ConfigError
from fastdqn.types import Batch

_NAMES = Batch._fields[:6]
_SAMPLES = {"action": torch.int64, "reward": torch.float32, "discount": torch.float32,
            "weight": torch.float32}  # fmt: skip
_FRAMES = (torch.uint8, torch.float32)
_CASTS = {torch.int64: ".long()", torch.float32: ".float()"}

Shapes = tuple[torch.Size, ...]


def shapes_of(batch: Any) -> Shapes | None:
    """Of the six fields that an update looks at; None where it has none."""
    try:
        a, b, c, d, e, f = batch[:6]  # half a microsecond faster than a loop
        return a.shape, b.shape, c.shape, d.shape, e.shape, f.shape
    except (AttributeError, TypeError, ValueError, KeyError):
        return None


def check_batch(batch: Any, device: torch.device) -> None:
    """Refuse what is no :class:`fastdqn.Batch` on the device.

    Raises:
        ConfigError: Where a field has another type, shape, dtype or device.
    """
    if not isinstance(batch, tuple) or len(batch) < len(_NAMES):
        raise ConfigError(
            f"batch is {type(batch).__name__}; pass a fastdqn.Batch, as replay.sample makes it."
        )
    fields = dict(zip(_NAMES, batch[:6], strict=True))
    for name, field in fields.items():
        if not isinstance(field, Tensor):
            raise ConfigError(
                f"batch.{name} is {type(field).__name__}; make it a tensor with torch.as_tensor."
            )
        if field.device != device:
            raise ConfigError(
                f"batch.{name} is on {field.device}, where the learner is on {device}; move it "
                f"with .to({str(device)!r})."
            )
    action = fields["action"]
    if action.dim() != 1 or not len(action):
        raise ConfigError(
            f"batch.action has shape {list(action.shape)}; use one action for each of B samples, "
            f"[B]."
        )
    size = len(action)
    for name, dtype in _SAMPLES.items():
        field = fields[name]
        if list(field.shape) != [size]:
            raise ConfigError(
                f"batch.{name} has shape {list(field.shape)}, where batch.action has {size} "
                f"samples; use one number for each, [{size}]."
            )
        if field.dtype != dtype:
            raise ConfigError(
                f"batch.{name} is {field.dtype}; make it {dtype} with {_CASTS[dtype]}."
            )
    _check_observations(fields["observation"], fields["next_observation"], size)


def _check_observations(observation: Tensor, following: Tensor, size: int) -> None:
    shape = list(observation.shape)
    if shape[:1] != [size]:
        raise ConfigError(
            f"batch.observation has shape {shape}, where batch.action has {size} samples; use "
            f"[{size}, ...]."
        )
    if list(following.shape) != shape or following.dtype != observation.dtype:
        raise ConfigError(
            f"batch.next_observation is {list(following.shape)} {following.dtype}, where "
            f"batch.observation is {shape} {observation.dtype}; make them alike."
        )
    if observation.dtype not in _FRAMES:
        raise ConfigError(
            f"batch.observation is {observation.dtype}; use uint8, or make it float32 with "
            f".float()."
        )


def check_actions(action: Tensor, num_actions: int) -> None:
    """Refuse actions that the network has no Q of, by a ConfigError; waits for the device."""
    low, high = int(action.min()), int(action.max())
    if low < 0 or high >= num_actions:
        raise ConfigError(
            f"batch.action holds {low if low < 0 else high}, where the network makes Q of "
            f"{num_actions} actions; count them from 0 to {num_actions - 1}."
        )


def check_replay(replay: Any, device: torch.device, batch_size: Any) -> None:
    """Refuse, by a ConfigError, what is no replay on the device, or no size of a batch."""
    check_argument("batch_size", batch_size, int, Range(1, 2**31))
    if not callable(getattr(replay, "sample", None)):
        raise ConfigError(
            f"replay is {type(replay).__name__}; pass a fastdqn.ReplayBuffer, or use update(batch) "
            f"for batches of your own."
        )
    where = getattr(replay, "device", device)
    if where != device:
        raise ConfigError(
            f"The replay is on {where}, where the learner is on {device}; make both on one device."
        )

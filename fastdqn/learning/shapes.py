"""Whether tensors belong together: [B] and [B, 1] would make [B, B] without a word."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fastdqn.config.arguments import check_argument
from fastdqn.errors import ConfigError


def check_shapes(**tensors: tuple[Any, str]) -> None:
    """Refuse, by a ConfigError, tensors whose axes do not belong together.

    Args:
        tensors: By name a tensor and its axes, as in ``"B A N"``; an axis has one size in all of
            them. Actions, ``"B"`` too, are int64, and everything else is floating point.
    """
    sizes: dict[str, int] = {}
    device: torch.device | None = None
    for name, (tensor, text) in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ConfigError(f"{name} is {type(tensor).__name__}; pass a tensor.")
        axes = text.split()
        wanted = [sizes.get(axis) for axis in axes]
        if tensor.dim() != len(axes) or any(
            size not in (None, found) for size, found in zip(wanted, tensor.shape, strict=True)
        ):
            known = [
                axis if size is None else f"{axis} = {size}"
                for axis, size in zip(axes, wanted, strict=True)
            ]
            raise ConfigError(
                f"{name} has shape {list(tensor.shape)}; use the shape [{', '.join(known)}]."
            )
        sizes |= dict(zip(axes, tensor.shape, strict=True))
        if name == "action" and tensor.dtype != torch.int64:
            raise ConfigError(f"action is {tensor.dtype}; make it int64 with .long().")
        if name != "action" and not tensor.is_floating_point():
            raise ConfigError(f"{name} is {tensor.dtype}; make it float32 with .float().")
        device = device or tensor.device
        if tensor.device != device:
            raise ConfigError(
                f"{name} is on {tensor.device}, where what comes before it is on {device}; move it "
                f"with .to({str(device)!r})."
            )


def check_numbers(**numbers: Any) -> None:
    """Refuse, by a ConfigError, what is no finite number."""
    for name, number in numbers.items():
        if type(number) is not float or not math.isfinite(number):
            check_argument(name, number, float)


def of_action(values: Tensor, action: Tensor) -> Tensor:
    """The numbers of one action of each sample: [B, A, N] and int64 [B] to [B, N].

    Raises:
        ConfigError: Where they are no distributions but Q itself.
    """
    if values.dim() != 3:
        raise ConfigError(
            f"The network's output has shape {list(values.shape)}, and this objective needs a "
            f"distribution for each action, [B, A, N]; use a network with head = 'c51', 'qr' or "
            f"'iqn'."
        )
    index = action.view(-1, 1, 1).expand(-1, 1, values.shape[-1])
    return values.gather(1, index).squeeze(1)

"""Rows and priorities of a caller, of any form, as tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastdqn.errors import FastDQNError


def whole_numbers(name: str, value: Any, device: torch.device) -> Tensor:
    """An int64 tensor, or FastDQNError where the value is none of whole numbers."""
    found = _tensor(name, value)
    if found.numel() and (found.dtype == torch.bool or not _is_integer(found)):
        raise FastDQNError(f"{name} is {found.dtype}; pass whole numbers such as int64.")
    return found.to(device, torch.int64)


def real_numbers(name: str, value: Any, device: torch.device) -> Tensor:
    """A float32 tensor, or FastDQNError where the value is none of real numbers."""
    found = _tensor(name, value)
    if found.is_complex():
        raise FastDQNError(f"{name} is {found.dtype}; pass real numbers such as float32.")
    return found.to(device, torch.float32)


def check_as_many(priority: Tensor, rows: int) -> None:
    """Refuse, by a FastDQNError, another number of priorities than there are rows."""
    if priority.numel() != rows:
        raise FastDQNError(
            f"There are {priority.numel()} priorities for {rows} rows; pass one for each."
        )


def _is_integer(value: Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex())


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise FastDQNError(
            f"{name} is {type(value).__name__} and makes no tensor; pass a tensor of numbers."
        ) from error

"""The few array operations that streams need, for numpy and torch alike."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fastdqn.types import Array

DType = Literal["bool", "uint8", "int64", "float32"]

_TORCH = {name: getattr(torch, name) for name in ("bool", "uint8", "int64", "float32")}
_NUMPY = {name: np.dtype(name) for name in _TORCH}


def on_host(x: Any) -> bool:
    """Whether the host may read ``x`` without waiting for a device."""
    return not isinstance(x, Tensor) or x.device.type == "cpu"


@functools.cache  # the names of dtypes are slow to make
def kind(dtype: Any) -> str:
    """``uint8``, ``bool``, ``int`` or ``float``: what a dtype is to a replay; else its name."""
    name = str(dtype).removeprefix("torch.")
    if name in ("uint8", "bool"):
        return name
    return "int" if "int" in name else "float" if "float" in name else name


def fits(found: str, said: str) -> bool:
    """Whether arrays of one :func:`kind` stand for numbers of another without a loss.

    Whole numbers are floats, flags are numbers, and bytes are whole numbers; not the other way.
    """
    order = ("bool", "uint8", "int", "float")
    if found not in order or said not in order:
        return found == said
    return found == said or (order.index(found) < order.index(said))


def without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape but for its axes of 1: where these are equal, a reshape is what is meant."""
    return tuple(size for size in shape if size != 1)


def cast(x: Any, dtype: DType) -> Any:
    """``x`` in another dtype; the same array where it has that dtype already."""
    if isinstance(x, Tensor):
        return x.to(_TORCH[dtype])
    return x.astype(_NUMPY[dtype], copy=False)


def as_kind_of(x: Any, reference: Array) -> Any:
    """``x`` as a tensor on the device of ``reference``, or as a numpy array if that is one."""
    if isinstance(reference, Tensor):
        return torch.as_tensor(x, device=reference.device)
    return to_numpy(x)


def to_numpy(x: Any) -> np.ndarray:
    """``x`` as a numpy array, without a copy where there can be one."""
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def without_tensors(nest: Any) -> Any:
    """``nest`` of dictionaries and lists with numpy arrays in the place of tensors."""
    if isinstance(nest, dict):
        return {key: without_tensors(value) for key, value in nest.items()}
    if isinstance(nest, list | tuple):
        return type(nest)(without_tensors(value) for value in nest)
    return to_numpy(nest) if isinstance(nest, Tensor) else nest


def has_tensors(nest: Any) -> bool:
    """Whether there is a tensor in ``nest`` of dictionaries and lists."""
    if isinstance(nest, dict):
        return any(map(has_tensors, nest.values()))
    if isinstance(nest, list | tuple):
        return any(map(has_tensors, nest))
    return isinstance(nest, Tensor)


def copy(x: Any) -> Any:
    """``x`` in memory of its own."""
    return x.clone() if isinstance(x, Tensor) else x.copy()


def no_flags(x: Array) -> Any:
    """False for each entry of axis 0 of ``x``."""
    if isinstance(x, Tensor):
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)
    return np.zeros(len(x), np.bool_)


def zero_where(mask: Any, x: Any) -> Any:
    """``x`` with zeros where ``mask``; also rids x of NaN there, unlike a product."""
    if isinstance(x, Tensor):
        return x.masked_fill(mask, 0)
    return np.where(mask, x.dtype.type(0), x)


def take(nest: Any, rows: np.ndarray, num: int) -> Any:
    """Rows of each array [num, ...] in ``nest`` of dictionaries and tuples; others stay whole."""
    if isinstance(nest, dict):
        return {key: take(value, rows, num) for key, value in nest.items()}
    if isinstance(nest, tuple):
        return tuple(take(value, rows, num) for value in nest)
    array = nest if isinstance(nest, Tensor) else np.asarray(nest)
    return array[rows] if array.shape[:1] == (num,) else array


def choose(mask: Any, yes: Any, no: Any) -> Any:
    """Rows of ``yes`` where ``mask`` (over axis 0), else of ``no``; always new memory."""
    mask = mask.reshape((-1,) + (1,) * (no.ndim - 1))
    if isinstance(no, Tensor):
        return torch.where(mask, yes, no)
    return np.where(mask, yes, no)

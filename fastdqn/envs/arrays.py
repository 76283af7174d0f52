"""The few array operations that streams need, for numpy and torch alike.

torch is looked up, never imported: a tensor can only arrive where torch is loaded already, and a
run that is refused because its env cannot be made should not have waited for the import.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from fastdqn.types import Array

DType = Literal["bool", "uint8", "int64", "float32"]


def is_tensor(x: Any) -> bool:
    """Whether ``x`` is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def is_array(x: Any) -> bool:
    """Whether ``x`` is a numpy array or a torch tensor."""
    return isinstance(x, np.ndarray) or is_tensor(x)


def on_host(x: Any) -> bool:
    """Whether the host may read ``x`` without waiting for a device."""
    return not is_tensor(x) or x.device.type == "cpu"


def kind(x: Array) -> str:
    """``uint8``, ``bool``, ``int`` or ``float``: what the dtype of ``x`` is to a replay."""
    name = str(x.dtype).removeprefix("torch.")
    if name in ("uint8", "bool"):
        return name
    return "int" if "int" in name else "float" if "float" in name else name


def cast(x: Any, dtype: DType) -> Any:
    """``x`` in another dtype; the same array where it has that dtype already."""
    if is_tensor(x):
        return x.to(getattr(sys.modules["torch"], dtype))
    return np.asarray(x).astype(dtype, copy=False)


def tensor(x: Any) -> Any:
    """``x`` as a tensor on the CPU."""
    return sys.modules["torch"].as_tensor(x)


def as_kind_of(x: Any, reference: Array) -> Any:
    """``x`` as a tensor on the device of ``reference``, or as a numpy array if that is one."""
    if is_tensor(reference):
        return sys.modules["torch"].as_tensor(x, device=reference.device)
    return x.cpu().numpy() if is_tensor(x) else np.asarray(x)


def without_tensors(nest: Any) -> Any:
    """``nest`` of dictionaries and lists with numpy arrays in the place of tensors."""
    if isinstance(nest, dict):
        return {key: without_tensors(value) for key, value in nest.items()}
    if isinstance(nest, list | tuple):
        return type(nest)(without_tensors(value) for value in nest)
    return nest.cpu().numpy() if is_tensor(nest) else nest


def copy(x: Any) -> Any:
    """``x`` in memory of its own."""
    return x.clone() if is_tensor(x) else np.array(x)


def no_flags(x: Array) -> Any:
    """False for each entry of axis 0 of ``x``."""
    if is_tensor(x):
        return sys.modules["torch"].zeros(len(x), dtype=sys.modules["torch"].bool, device=x.device)
    return np.zeros(len(x), np.bool_)


def zero_where(mask: Any, x: Any) -> Any:
    """``x`` with zeros where ``mask``; also rids x of NaN there, unlike a product."""
    if is_tensor(x):
        return x.masked_fill(mask, 0)
    return np.where(mask, x.dtype.type(0), x)


def choose(mask: Any, yes: Any, no: Any) -> Any:
    """Rows of ``yes`` where ``mask`` (over axis 0), else of ``no``; always new memory."""
    mask = mask.reshape((-1,) + (1,) * (no.ndim - 1))
    if is_tensor(no):
        return sys.modules["torch"].where(mask, yes, no)
    return np.where(mask, yes, no)

"""What a caller hands to a replay, looked at before anything is written.

Arrays of types, shapes, dtypes and devices that were met before are taken as they come: a step has
no time to look twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.errors import ConfigError, FastDQNError
from fastdqn.types import Array, TimeStep

_FLAGS = ("terminated", "truncated", "first", "reset", "mask")
_FRAMES = ("observation", "next_observation", "reset_observation")
_ROW = ("observation", "reward", "terminated", "truncated", "first")
# By whether there are actions, and a second row.
_ROWS = {
    (acted, two): _ROW + ("action",) * acted + ("reset_observation", "reset") * two
    for acted in (False, True)
    for two in (False, True)
}
_KINDS = {"b": "bool", "i": "int", "u": "int", "f": "float"}


class Incoming:
    """Refuses, by one sentence, what does not fit a replay.

    Args:
        num_envs: N.
        frame_shape: O.
        frame_dtype: Of the stored frames, uint8 or float32.
        num_actions: Actions lie in [0, num_actions); None: they are not looked at.
        device: Of the replay.
    """

    def __init__(
        self,
        num_envs: int,
        frame_shape: tuple[int, ...],
        frame_dtype: torch.dtype,
        num_actions: int | None,
        device: torch.device,
    ) -> None:
        self._num_envs, self._frame_shape = num_envs, frame_shape
        self._bytes = frame_dtype == torch.uint8
        self._num_actions, self._device = num_actions, device
        self._met: set[tuple[Any, ...]] = set()

    def row(self, step: TimeStep, actions: Array | None, *, anew: bool) -> list[Array]:
        """The arrays of a step that are there, without the actions.

        Args:
            step: Rows [N].
            actions: int [N], or None.
            anew: Whether nothing was added before.
        """
        try:
            observation, reward, terminated, truncated, first, before, reset = step
        except (TypeError, ValueError):
            raise FastDQNError(
                f"step is {type(step).__name__}; pass a fastdqn.TimeStep, as envs.recv() returns "
                f"it."
            ) from None
        arrays: list[Any] = [observation, reward, terminated, truncated, first]
        if actions is not None:
            arrays.append(actions)
        if reset is not None:
            arrays += [before, reset]
        self.check(_ROWS[actions is not None, reset is not None], arrays)
        if (actions is None or anew) and not bool(first.all()):
            raise FastDQNError(
                "first is not set for every env in "
                + ("a step without actions" if actions is None else "the first row of a replay")
                + "; add what envs.reset() returned, with actions = None."
            )
        return arrays if actions is None else arrays[:5] + arrays[6:]

    def check(self, names: tuple[str, ...], arrays: list[Any], lead: tuple[int, ...] = ()) -> None:
        """Refuse arrays that do not belong to N envs; each is [*lead, N, ...].

        Raises:
            FastDQNError: Where one has another type, shape, dtype or device, or an action that lies
                on the host is out of range.
        """
        try:
            shapes, dtypes = [a.shape for a in arrays], [a.dtype for a in arrays]
            devices = [a.device for a in arrays if type(a) is not np.ndarray]
            seen = (names, *map(type, arrays), *shapes, *dtypes, *devices)
            known = not lead and seen in self._met
        except (AttributeError, TypeError):
            known, seen = False, ()
        if not known:
            for name, array in zip(names, arrays, strict=True):
                self._check(name, array, lead)
            if not lead:
                self._met.add(seen)
        if self._num_actions is not None and "action" in names:
            self._check_range(arrays[names.index("action")])

    def _check(self, name: str, array: Any, lead: tuple[int, ...]) -> None:
        frames = name in _FRAMES
        tail = self._frame_shape if frames else ()
        wanted = [*lead, self._num_envs, *tail]
        if not isinstance(array, Array):
            raise FastDQNError(
                f"{name} is {type(array).__name__}; pass a NumPy array or a tensor of shape "
                f"{wanted}."
            )
        if list(array.shape) != wanted:
            raise FastDQNError(
                f"{name} has shape {list(array.shape)}; use {wanted}, "
                + ("one frame" if frames else "one number")
                + (" for each step and env." if lead else f" for each of {self._num_envs} envs.")
            )
        kind = _kind(array)
        if name in _FLAGS:
            good, fix = kind == "bool", "make it bool"
        elif name == "action":
            good, fix = kind == "int", "make it int64"
        elif name == "reward" or not self._bytes:
            good, fix = kind != "", "make it float32"
        else:
            good, fix = str(array.dtype).endswith("uint8"), "frames of this replay are uint8"
        if not good:
            raise FastDQNError(f"{name} is {array.dtype}; {fix}.")
        if isinstance(array, Tensor) and array.device.type not in ("cpu", self._device.type):
            raise FastDQNError(
                f"{name} is on {array.device}, where the replay is on {self._device}; move it "
                f"with .to({str(self._device)!r})."
            )

    def _check_range(self, action: Array) -> None:
        """Only where it costs no wait for a device."""
        if (isinstance(action, Tensor) and action.device.type != "cpu") or 0 in action.shape:
            return
        low, high = int(action.min()), int(action.max())
        if low < 0 or high >= self._num_actions:  # type: ignore[operator]
            raise FastDQNError(
                f"action holds {low if low < 0 else high}, where there are {self._num_actions} "
                f"actions; count them from 0 to {self._num_actions - 1}."  # type: ignore[operator]
            )


def check_index(index: Any, capacity: int, device: torch.device, *, later: bool = False) -> None:
    """Refuse what are no rows [B], by a FastDQNError.

    Args:
        index: To be int64.
        capacity: How many rows there are.
        device: Of the replay; on a CPU the range is looked at, too.
        later: But what comes next looks at the range.
    """
    _check_vector("index", index, device)
    if index.dtype != torch.int64:
        raise FastDQNError(f"index is {index.dtype}; make it int64 with .long().")
    if device.type == "cpu" and not later and len(index):
        check_inside(bool(((index >= 0) & (index < capacity)).all()), index, capacity)


def check_inside(inside: bool, index: Tensor, capacity: int) -> None:
    """Raise FastDQNError where an index is none of ``capacity`` rows or leaves."""
    if not inside:
        raise FastDQNError(
            f"index has values from {int(index.min())} to {int(index.max())}; use numbers from 0 "
            f"to {capacity - 1}."
        )


def check_drawable(found: bool) -> None:
    """Raise FastDQNError where no row of a replay may be drawn."""
    if not found:
        raise FastDQNError(
            "The replay holds no transition that may be drawn: the few rows that it keeps of each "
            "env are margin or end episodes; add more steps first."
        )


def check_values(name: str, values: Any, index: Tensor, device: torch.device) -> None:
    """Refuse what is no floating-point number for each index, by a FastDQNError."""
    _check_vector(name, values, device)
    if not values.is_floating_point():
        raise FastDQNError(f"{name} is {values.dtype}; make it float32 with .float().")
    if values.shape != index.shape:
        raise FastDQNError(
            f"{name} has shape {list(values.shape)}, where index has {list(index.shape)}; use one "
            f"number for each."
        )


def check_beta(beta: Any, device: torch.device) -> float | Tensor:
    """The exponent of importance weights, or a ConfigError where it is none."""
    if not isinstance(beta, Tensor):
        return float(check_argument("beta", beta, float, Range(0.0)))
    if beta.dim():
        raise ConfigError(f"beta has shape {list(beta.shape)}; use one number, 0-d.")
    if beta.device.type != device.type:
        raise ConfigError(
            f"beta is on {beta.device}, where the replay is on {device}; move it with "
            f".to({str(device)!r})."
        )
    return beta


def check_uniform(uniform: Any, levels: int, device: torch.device) -> None:
    """Refuse what are no uniform numbers float32 [levels, B], by a FastDQNError."""
    good = isinstance(uniform, Tensor) and uniform.dim() == 2 and len(uniform) == levels
    if not good or uniform.dtype != torch.float32 or uniform.device.type != device.type:
        what = type(uniform).__name__
        if isinstance(uniform, Tensor):
            what = f"{list(uniform.shape)} {uniform.dtype} on {uniform.device}"
        raise FastDQNError(
            f"uniform is {what}; use float32 numbers from 0 to 1 on {device}, [{levels}, B]."
        )


def _check_vector(name: str, tensor: Any, device: torch.device) -> None:
    if not isinstance(tensor, Tensor):
        raise FastDQNError(
            f"{name} is {type(tensor).__name__}; make it a tensor with torch.as_tensor."
        )
    if tensor.device.type != device.type:
        raise FastDQNError(
            f"{name} is on {tensor.device}, where the replay is on {device}; move it with "
            f".to({str(device)!r})."
        )
    if tensor.dim() != 1:
        raise FastDQNError(
            f"{name} has shape {list(tensor.shape)}; use one number for each of B rows, [B]."
        )


def _kind(array: Array) -> str:
    """``bool``, ``int``, ``float``, or nothing where torch has no such numbers."""
    if isinstance(array, np.ndarray):
        known = array.dtype.isnative and array.dtype.itemsize <= 8
        return _KINDS.get(array.dtype.kind, "") if known else ""
    if array.dtype == torch.bool:
        return "bool"
    return "float" if array.is_floating_point() else "" if array.is_complex() else "int"

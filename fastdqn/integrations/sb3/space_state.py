"""Gymnasium's spaces as plain data, for files that hold no pickle."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Tensor

from fastdqn.config.checks import shown
from fastdqn.errors import CheckpointError, EnvError, cut_short

_DTYPES = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
           "float16", "float32", "float64")  # fmt: skip


def space_state(space: spaces.Space) -> dict[str, Any]:
    """A space as dictionaries, numbers, texts and arrays.

    Raises:
        EnvError: For a kind that is not known here.
    """
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "parts": {k: space_state(part) for k, part in space.items()}}
    if isinstance(space, spaces.Box):
        return {"kind": "Box", "low": space.low, "high": space.high, "dtype": str(space.dtype)}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        nvec, start = (np.array(part, dtype=np.int64) for part in (space.nvec, space.start))
        return {"kind": "MultiDiscrete", "nvec": nvec, "start": start}
    if isinstance(space, spaces.MultiBinary):
        n = space.n
        return {"kind": "MultiBinary", "n": n if isinstance(n, int) else list(space.shape)}
    raise EnvError(f"{shown(space)} cannot be saved; wrap each env so that it is a Box.")


def space_of(state: Any) -> spaces.Space:
    """What :func:`space_state` made, read back; it may be a forger's.

    Raises:
        CheckpointError: Where it is something else.
    """
    try:
        return _space_of(state, 0)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"A space is described by {cut_short(state)} ({cut_short(error)}); take another."
        ) from None


def _space_of(state: Any, depth: int) -> spaces.Space:
    kind = state["kind"]
    if kind == "Dict" and depth == 0:
        return spaces.Dict({k: _space_of(part, 1) for k, part in state["parts"].items()})
    if kind == "Box":
        if state["dtype"] not in _DTYPES:
            raise ValueError("a dtype that is none")
        dtype = np.dtype(state["dtype"])
        low, high = (_array(state[name]).astype(dtype) for name in ("low", "high"))
        return spaces.Box(low, high, dtype=dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(state["n"], start=state["start"])
    if kind == "MultiDiscrete":
        nvec = _array(state["nvec"])
        # Files written before starts were kept have none.
        start = _array(state["start"]) if "start" in state else None
        return spaces.MultiDiscrete(nvec, start=start)
    if kind == "MultiBinary":
        return spaces.MultiBinary(state["n"])
    raise ValueError("a kind that is none")


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, np.ndarray):
        return value
    raise TypeError("no array")

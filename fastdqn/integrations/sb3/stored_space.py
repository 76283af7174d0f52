"""Which spaces a replay of arrays can hold, and as what."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from fastdqn.errors import EnvError

_EXACT = 2**24  # float32 has every whole number up to here


def check_spaces(space: Any, actions: Any) -> None:
    """Refuse, by an EnvError, what is not one array, not discrete, or would be rounded."""
    kinds = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    if not isinstance(space, kinds):
        raise EnvError(
            f"observation_space = {space} is not one array; use SB3's own replay buffer."
        )
    if not isinstance(actions, spaces.Discrete):
        raise EnvError(f"action_space = {actions} is not Discrete(n); use SB3's own replay buffer.")
    if (largest := _largest(space)) > _EXACT:
        raise EnvError(
            f"observation_space = {space} has whole numbers up to {largest:.0f}, which float32 "
            f"rounds; wrap each env so that it is a Box of smaller ones."
        )


def _largest(space: spaces.Space) -> float:
    """The largest whole number in it; 0 where there are none, or few."""
    if isinstance(space, spaces.Discrete):
        return float(space.n)
    if isinstance(space, spaces.Box) and space.dtype.kind in "iu" and space.dtype.itemsize > 2:
        return max(abs(float(space.low.min())), abs(float(space.high.max())))
    return 0.0


def stored_space(space: spaces.Space, shape: tuple[int, ...]) -> spaces.Box:
    """Bytes as they are, all else as float32.

    Args:
        space: Of an observation, or of a frame of it.
        shape: Its shape, as SB3 counts: a category has one axis.
    """
    if isinstance(space, spaces.Box) and space.dtype == np.uint8:
        return space
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


def torch_dtype(dtype: Any) -> torch.dtype:
    """That of NumPy's in torch."""
    return torch.from_numpy(np.empty(0, dtype)).dtype

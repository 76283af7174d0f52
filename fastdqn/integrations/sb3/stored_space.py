"""Which spaces a replay of arrays can hold, as what, and whether arrays are of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from fastdqn.config.checks import shown
from fastdqn.errors import EnvError

_NUMBERS = "biuf"  # kinds of dtypes
_EXACT = 2**24  # float32 has every whole number up to here


def check_spaces(space: Any, actions: Any) -> None:
    """Refuse, by an EnvError, what is not one array, not discrete, or would be rounded."""
    kinds = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    if not isinstance(space, kinds):
        raise EnvError(
            f"observation_space = {shown(space)} is not one array; use SB3's own replay buffer."
        )
    if not isinstance(actions, spaces.Discrete):
        raise EnvError(
            f"action_space = {shown(actions)} is not Discrete(n); use SB3's own replay buffer."
        )
    if (largest := _largest(space)) > _EXACT:
        raise EnvError(
            f"observation_space = {shown(space)} has whole numbers up to {largest:.0f}, which "
            f"float32 rounds; wrap each env so that it is a Box of smaller ones."
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


def checked_observations(
    name: str, observations: Any, num_envs: int, shape: tuple[int, ...]
) -> np.ndarray:
    """As [N, *shape]; Discrete ones come without their last axis. EnvError for other arrays."""
    found, expected = np.asarray(observations), (num_envs, *shape)
    if found.size != math.prod(expected) or found.dtype.kind not in _NUMBERS:
        raise EnvError(
            f"{name} has shape {found.shape} of {found.dtype}, where {num_envs} envs have "
            f"{expected} of numbers; pass the observations of all of them."
        )
    return found.reshape(expected)


def checked_numbers(name: str, values: Any, num_envs: int) -> np.ndarray:
    """As [N]; EnvError where they are not one number of each env."""
    found = np.asarray(values)
    if found.size != num_envs or found.dtype.kind not in _NUMBERS:
        raise EnvError(
            f"{name} = {shown(values)} is not a number of each of {num_envs} envs; pass an array "
            f"of shape ({num_envs},)."
        )
    return found.reshape(num_envs)


def time_limits(infos: Sequence[Mapping[str, Any]], num_envs: int) -> np.ndarray:
    """Whether a time limit cut each env's episode short, bool [N]; EnvError for other infos."""
    if not isinstance(infos, list | tuple) or not all(isinstance(x, Mapping) for x in infos):
        raise EnvError(f"infos = {shown(infos)} must be a list of one dictionary of each env.")
    ends = [bool(info.get("TimeLimit.truncated", False)) for info in infos]
    return checked_numbers("infos", ends, num_envs)


def torch_dtype(dtype: Any) -> torch.dtype:
    """That of NumPy's in torch."""
    return torch.from_numpy(np.empty(0, dtype)).dtype

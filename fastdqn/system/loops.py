"""Loops in Python, compiled by Numba for a CPU; without it torch does the same work."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.errors import ConfigError


@cache
def find_njit() -> Callable[..., Any] | None:
    """Numba's compiler, or None where it is not installed.

    It takes 0.2 s to import, so whoever has loops imports their module where they are to run.
    """
    try:
        from numba import njit
    except ImportError:
        return None
    compiler: Callable[..., Any] = njit
    return compiler


def choose_loops(device: torch.device, insist: bool | None = None) -> bool:
    """Whether loops do the work, or torch.

    Args:
        device: Where the data lie; the loops are for a CPU only.
        insist: None takes them where Numba is installed, True insists.

    Raises:
        ConfigError: Where they are insisted on and not to be had.
    """
    if insist and device.type != "cpu":
        raise ConfigError(f"compiled = True wants device = 'cpu', not {str(device)!r}.")
    if not isinstance(insist, bool | None):
        raise ConfigError(f"compiled is {type(insist).__name__}; use True, False or None.")
    if device.type != "cpu" or insist is False:
        return False
    if insist and find_njit() is None:
        raise ConfigError("compiled = True needs Numba: pip install 'fastdqn[cpu]'.")
    return find_njit() is not None


def compiled(function: Callable[..., Any]) -> Any:
    """Machine code at the first call, kept on disk for the next process where that can be."""
    njit = find_njit()
    if njit is None:
        return function
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no directory to keep it in
        return njit(nogil=True, error_model="numpy")(function)


def to_array(tensor: Tensor) -> np.ndarray:
    """The memory of a CPU tensor in the one layout that the loops are compiled for."""
    return tensor.contiguous().numpy()

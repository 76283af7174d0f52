"""Loops in Python, compiled by Numba for a CPU; without it torch does the same work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.errors import ConfigError

try:
    from numba import njit
except ImportError:
    njit = None


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
    if insist and njit is None:
        raise ConfigError("compiled = True needs Numba: pip install 'fastdqn[cpu]'.")
    return device.type == "cpu" and njit is not None and insist is not False


def compiled(function: Callable[..., Any]) -> Any:
    """Machine code at the first call, kept on disk for the next process where that can be."""
    if njit is None:
        return function
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no directory to keep it in
        return njit(nogil=True, error_model="numpy")(function)


def to_array(tensor: Tensor) -> np.ndarray:
    """The memory of a CPU tensor in the one layout that the loops are compiled for."""
    return tensor.contiguous().numpy()

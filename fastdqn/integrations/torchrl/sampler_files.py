"""A sampler's state on disk, in the files of TorchRL's ``PrioritizedSampler``.

They are arrays of float64 and a JSON document, so a buffer saved with either loads with the other.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.errors import CheckpointError

_ABOUT, _LEAVES, _SMALLEST = "sampler_metadata.json", "sumtree.memmap", "mintree.memmap"
_NAMES = ("alpha", "beta", "eps")


def directory_of(path: Any) -> Path:
    """The path of a caller, absolute; CheckpointError where it is none."""
    if not isinstance(path, str | os.PathLike):
        raise CheckpointError(f"path is {type(path).__name__}; name a directory, a str or a Path.")
    return Path(path).absolute()


def write_files(directory: Path, leaves: Tensor, largest: float, values: dict[str, float]) -> None:
    """Write them.

    Args:
        directory: Made where it is missing.
        leaves: float32 [rows], 0 where there is no row.
        largest: The largest priority, raw.
        values: ``alpha``, ``beta`` and ``eps``.

    Raises:
        CheckpointError: Where they cannot be written.
    """
    array = leaves.double().cpu().numpy()
    about = {
        **{f"_{name}": values[name] for name in _NAMES},
        "_max_priority": [largest, float(array.argmax())],
        "_max_capacity": float(array.size),
        "_schema_version": 1,
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        array.tofile(directory / _LEAVES)
        np.where(array > 0, array, np.inf).tofile(directory / _SMALLEST)
        (directory / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            f"{directory} cannot be written ({error}); name a directory that can be made, and make "
            f"room."
        ) from error


def read_files(directory: Path) -> tuple[Tensor, float, dict[str, float]]:
    """The three last arguments of :func:`write_files`; CheckpointError where they are none."""
    try:
        about = json.loads((directory / _ABOUT).read_text(encoding="utf-8"))
        capacity = int(about["_max_capacity"])
        values = {name: float(about[f"_{name}"]) for name in _NAMES}
        largest = about["_max_priority"][0]
        largest = 1.0 if largest is None else float(largest)
        leaves = np.frombuffer((directory / _LEAVES).read_bytes(), np.float64)
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise CheckpointError(
            f"{directory} holds no saved sampler ({type(error).__name__}); name a directory that "
            f"dumps wrote."
        ) from error
    sound = np.isfinite(leaves).all() and (leaves >= 0).all() and math.isfinite(largest)
    if not sound or largest < 0 or leaves.size != capacity:
        raise CheckpointError(
            f"{directory / _LEAVES} holds no priorities of {capacity} rows; name a directory that "
            f"dumps wrote."
        )
    return torch.from_numpy(leaves.astype(np.float32)), largest, values

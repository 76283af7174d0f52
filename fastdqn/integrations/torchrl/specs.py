"""What the specs of TorchRL's envs say of an observation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torchrl.data import Composite, TensorSpec

from fastdqn.errors import ConfigError, EnvError


def observation_key_of(spec: Composite, key: Any, name: str) -> Any:
    """The key of the observation among an env's entries, or EnvError."""
    known = list(spec.keys(True, True))
    if key is not None:
        if key not in known:
            raise EnvError(
                f"observation_key = {key!r} is no entry of {name}; use one of "
                f"{', '.join(map(repr, known))}."
            )
        return key
    if len(known) == 1 or "observation" in known:
        return known[0] if len(known) == 1 else "observation"
    raise EnvError(
        f"{name} has {len(known)} entries in its observation ({', '.join(map(repr, known))}); set "
        f"observation_key to one of them."
    )


def box_of(spec: Any, batch_dims: int, key: Any, name: str) -> Box:
    """The space of one env's frame, or EnvError where it is none of bytes or floats."""
    shape = tuple(spec.shape[batch_dims:])
    if not shape or not (spec.dtype == torch.uint8 or spec.dtype.is_floating_point):
        raise EnvError(
            f"{name} has an observation {key!r} of shape {list(shape)} and dtype {spec.dtype}; use "
            f"one of bytes or floats with one dimension or more."
        )
    if spec.dtype == torch.uint8:
        return Box(0, 255, shape, np.uint8)
    return Box(-np.inf, np.inf, shape, np.float32)


def space_of(spec: Any, key: Any) -> tuple[Box, Any]:
    """The space of one frame, and the key of the observation.

    Args:
        spec: A Box, the spec of one frame, or an env's ``observation_spec``.
        key: Of the observation; None: the one there is, or ``observation``.

    Raises:
        FastDQNError: Where it is none of those.
    """
    if isinstance(spec, Box):
        return spec, "observation" if key is None else key
    if isinstance(spec, Composite):
        key = observation_key_of(spec, key, "observation_spec")
        return box_of(spec[key], len(spec.shape), key, "observation_spec"), key
    if not isinstance(spec, TensorSpec):
        raise ConfigError(
            f"observation_spec is {type(spec).__name__}; pass a gymnasium.spaces.Box, or a spec "
            f"such as env.observation_spec."
        )
    key = "observation" if key is None else key
    return box_of(spec, 0, key, "observation_spec"), key

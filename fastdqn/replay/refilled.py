"""What would lose shared memory in a pickle, and so is made anew and then filled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def copies(state: Mapping[str, Any]) -> dict[str, Any]:
    """A nested ``state_dict`` of copies, for a view would bring along all that it is a view of."""
    return {name: _copy(part) for name, part in state.items()}


def _copy(part: Any) -> Any:
    if isinstance(part, Mapping):
        return copies(part)
    return part.clone(memory_format=torch.contiguous_format) if isinstance(part, Tensor) else part


def refilled(
    kind: type[Any], arguments: tuple[Any, ...], options: dict[str, Any], state: dict[str, Any]
) -> Any:
    """``kind(*arguments, **options)``, with that state loaded."""
    made = kind(*arguments, **options)
    made.load_state_dict(state)
    return made

"""An optimizer's moments by parameter name, in canonical shapes: as checkpoints hold them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastdqn.errors import CheckpointError
from fastdqn.learning.flat_parameters import FlatParameters


def moments_by_name(flat: FlatParameters, moments: dict[str, Tensor]) -> dict[str, Any]:
    """For each moment its part of every parameter; one that all share as it is."""
    return {
        name: flat.named_views(value) if value.shape == flat.data.shape else value
        for name, value in moments.items()
    }


@torch.no_grad()
def restore_moments(
    flat: FlatParameters, moments: dict[str, Tensor], saved: dict[str, Any]
) -> None:
    """Copy :func:`moments_by_name` into place; CheckpointError where they are another optimizer's.

    Args:
        flat: The parameters that the moments belong to.
        moments: Of the optimizer at hand.
        saved: What was saved.
    """
    if set(saved) != set(moments):
        raise CheckpointError(
            f"The saved optimizer has {sorted(saved)}, this one {sorted(moments)}; use the "
            f"optimizer it was saved with."
        )
    for name, value in moments.items():
        if isinstance(saved[name], dict):
            for key, view in flat.named_views(value).items():
                view.copy_(saved[name][key])
        else:
            value.copy_(saved[name])

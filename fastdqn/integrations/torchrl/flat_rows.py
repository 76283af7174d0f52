"""The indices of TorchRL's buffers and writers as rows of a tree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastdqn.errors import FastDQNError
from fastdqn.integrations.torchrl.numbers import whole_numbers


def flat_rows(index: Any, storage: Any, device: torch.device) -> Tensor:
    """Flat indices, int64 [B]; negative where one of a row's numbers is.

    Args:
        index: A number, integers [B] or [B, 1], or of a storage of several dimensions [B, ndim] or
            a tuple of [B].
        storage: Whose; None: of one dimension.
        device: Of the answer.

    Raises:
        FastDQNError: Where the index does not fit the storage.
    """
    if isinstance(index, tuple):
        parts = [whole_numbers("index", part, device) for part in index]
        if len({part.shape for part in parts}) != 1:
            raise FastDQNError(
                f"index has parts of shapes {[list(part.shape) for part in parts]}; pass as many "
                f"numbers for each dimension."
            )
        index = torch.stack(parts, -1)
    rows = whole_numbers("index", index, device)
    if rows.ndim > 1 and getattr(storage, "ndim", 1) > 1:
        shape = tuple(storage.shape)
        if rows.shape[-1] != len(shape):
            raise FastDQNError(
                f"index has shape {list(rows.shape)} for a storage of {len(shape)} dimensions; "
                f"pass one number for each dimension."
            )
        flat = rows[..., 0]
        for size, part in zip(shape[1:], rows.unbind(-1)[1:], strict=True):
            flat = flat * size + part
        rows = flat.masked_fill((rows < 0).any(-1), -1)
    elif rows.ndim > 1 and rows.shape[-1] != 1:
        raise FastDQNError(
            f"index has shape {list(rows.shape)}; pass storage, or one number for each row."
        )
    return rows.reshape(-1)

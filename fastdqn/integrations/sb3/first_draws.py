"""Draws from a replay that holds a few transitions: SB3 draws from the first one on.

``ReplayBuffer.sample`` need not look at the device, and so waits for a few rows more.
"""

from __future__ import annotations

from typing import Any

import torch

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.errors import FastDQNError
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.types import Batch


def draw_from_few(replay: ReplayBuffer, batch_size: Any) -> Batch:
    """Uniform draws, with replacement; waits for the device.

    Raises:
        FastDQNError: Where nothing can be drawn.
        ConfigError: Where ``batch_size`` is no number above 0.
    """
    batch_size = check_argument("batch_size", batch_size, int, Range(1, 2**31))
    rows = (replay.tree.leaves > 0).nonzero().squeeze(1)
    if not len(rows):
        raise FastDQNError("The replay holds nothing that can be drawn yet; add more steps first.")
    places = torch.randint(
        len(rows), (batch_size,), generator=replay.generator, device=replay.device
    )
    return replay.gather(rows[places])

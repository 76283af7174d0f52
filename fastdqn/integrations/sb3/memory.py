"""Whether a replay fits in memory, in the words of Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastdqn.errors import MemoryPlanError
from fastdqn.replay.buffer import ReplayBuffer


def rows_for(buffer_size: int, num_envs: int, frame_stack: int | None, n_step: int) -> int:
    """Rows that hold so many transitions: those that cannot be drawn come on top."""
    return (max(1, buffer_size // num_envs) + (frame_stack or 1) + n_step) * num_envs


def check_memory(arguments: Mapping[str, Any], batch_size: int = 1) -> None:
    """Refuse a replay of these arguments where it does not fit.

    Raises:
        MemoryPlanError: With the largest ``buffer_size`` that does.
    """
    try:
        ReplayBuffer.plan(**arguments, batch_size=batch_size)
    except MemoryPlanError as error:
        n = arguments["num_envs"]
        margin = rows_for(n, n, arguments["frame_stack"], arguments["n_step"]) - n
        fits = max(0, error.fits - margin)
        refused = MemoryPlanError(
            f"buffer_size = {arguments['capacity'] - margin} does not fit on "
            f"{arguments['device']}; the largest that does is {fits}."
        )
        refused.fits = fits
        raise refused from None

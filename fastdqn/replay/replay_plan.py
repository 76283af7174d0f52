"""What a replay takes before it is made: rows per env, and bytes per part."""

from __future__ import annotations

import warnings

import torch
from gymnasium.spaces import Box

from fastdqn.config.arguments import SIZES, check_argument, check_sizes
from fastdqn.errors import ConfigError, FastDQNError
from fastdqn.replay.frame_ring import row_bytes
from fastdqn.replay.memory_plan import MemoryPlan, make_plan
from fastdqn.replay.sum_tree import level_sizes

_LOST_ROWS_WORTH_A_WARNING = 0.05


def rows_per_env(capacity: int, num_envs: int, frame_stack: int | None, n_step: int) -> int:
    """T; FastDQNError where the rows are too few to hold one transition."""
    rows, need = capacity // num_envs, (frame_stack or 1) + n_step + 1
    if rows < need:
        raise FastDQNError(
            f"replay_capacity = {capacity} leaves {rows} rows for each of {num_envs} envs; with "
            f"frame_stack = {frame_stack} and n_step = {n_step} use at least {need * num_envs}."
        )
    return rows


def warn_of_lost_rows(rows: int, frame_stack: int | None, n_step: int) -> None:
    """Warn whoever makes a replay where much of it is margin; to be called by its ``__init__``.

    Args:
        rows: T, rows per env.
        frame_stack: S, or None.
        n_step: n.
    """
    margin = (frame_stack or 1) + n_step
    if margin / rows > _LOST_ROWS_WORTH_A_WARNING:
        warnings.warn(
            f"{margin / rows:.0%} of the replay's rows cannot be drawn: each env keeps {rows}, of "
            f"which frame_stack + n_step = {margin} are margin; raise replay_capacity or lower "
            f"num_envs.",
            stacklevel=3,
        )


def plan_replay(
    capacity: int,
    num_envs: int,
    observation_space: Box,
    *,
    batch_size: int,
    frame_stack: int | None,
    n_step: int,
    device: torch.device | str,
) -> MemoryPlan:
    """As :meth:`fastdqn.replay.buffer.ReplayBuffer.plan`."""
    check_sizes(capacity=capacity, num_envs=num_envs, batch_size=batch_size, n_step=n_step)
    check_argument("frame_stack", frame_stack, int | None, SIZES)
    if not isinstance(observation_space, Box):
        raise ConfigError(
            f"observation_space is {type(observation_space).__name__}; pass the Box of one frame."
        )
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError, ValueError):
        kind = "none"
    if kind not in ("cpu", "cuda"):  # a CUDA device need not be here to be planned for
        raise ConfigError(f"device = {device!r} is none for fastdqn; use cpu or cuda.")
    capacity = rows_per_env(capacity, num_envs, frame_stack, n_step) * num_envs
    row = row_bytes(observation_space)

    def parts(rows: int) -> dict[str, int]:
        return {
            "frames": row["frames"] * (rows + 1),  # and the zero frame
            "scalars": row["scalars"] * rows,
            "sum tree": 4 * sum(level_sizes(rows, None, kind)[1]),
            "batch": batch_size * (2 * (frame_stack or 1) * row["frames"] + 5 * 8),
        }

    return make_plan(str(device), capacity, parts, num_envs)

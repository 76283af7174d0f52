"""Rows added in any case: a reset may bring a second row, and the first rows find none before them.

The usual case, one row per env behind n others, is what a replay's backend does faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fastdqn.replay.buffer import ReplayBuffer


def add_rows(replay: ReplayBuffer, row: tuple[Tensor, ...], second: list[Tensor]) -> None:
    """Write one or two rows of every env and switch the leaves that they switch; in torch.

    Args:
        replay: Written to.
        row: Observation, action, reward, terminated, truncated, first; [N, ...] each.
        second: Observation of a reset within the same step and where there was one, bool [N]; or
            nothing.
    """
    at = newest = replay.cursor + 1
    observation, action, reward, *flags = row
    reward = replay._clipped(reward)
    replay.ring.write(replay._index(at), observation, action, reward, *flags)
    written = at.unsqueeze(0)
    if second:
        reset_observation, reset = second
        # Written for every env, so that nothing depends on data: where the env did not reset, the
        # row after the newest is scratch, and its leaf writes repeat those of ``at``.
        replay.ring.write_first(replay._index(at + 1), reset_observation)
        newest = at + reset
        written = torch.stack((at, newest))
    switch_leaves(replay, written, newest)
    replay.cursor.copy_(newest)
    replay._newest.copy_(replay._index(newest))


def switch_leaves(
    replay: ReplayBuffer, written: Tensor, newest: Tensor, mask: Tensor | None = None
) -> None:
    """Switch leaves off and on after one or two rows per env.

    Args:
        replay: Whose rows are written and whose cursor is not yet moved.
        written: The rows, int64 [R, N].
        newest: The newest of them, [N].
        mask: Envs that wrote rows, bool [N]; None: all.
    """
    ready = replay._index(written - replay.n_step)
    on = torch.where(drawable(replay, written - replay.n_step, newest), replay._new_leaf(), 0.0)
    if mask is not None:
        on = torch.where(mask, on, replay.tree.read(ready.view(-1)).view_as(on))
    expired = replay._index(written + replay._stack)  # the slot of row written - T + S
    off = torch.zeros_like(on)
    replay.tree.write(torch.cat((expired, ready)).view(-1), torch.cat((off, on)).view(-1))


def drawable(replay: ReplayBuffer, row: Tensor, newest: Tensor) -> Tensor:
    """Whether rows, none of them younger than ``newest - n``, may start a transition."""
    stored = (row >= 0) & (row > newest - replay.rows + replay._stack)
    reset = replay.ring.is_first(replay._index(row + 1))
    return stored & replay._goes_on(replay._index(row), reset)

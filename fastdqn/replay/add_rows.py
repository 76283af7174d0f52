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
    _switch(replay, written, newest)
    replay.cursor.copy_(newest)
    replay._newest.copy_(replay._index(newest))


def _switch(replay: ReplayBuffer, written: Tensor, newest: Tensor) -> None:
    """Switch leaves off and on after one or two rows per env, [R, N]; ``newest`` [N]."""
    ready = written - replay.n_step
    leaf = replay._leaf(replay.max_priority) if replay.prioritized else 1.0
    on = torch.where(_drawable(replay, ready, newest), leaf, 0.0)
    expired = replay._index(written + replay._stack)  # the slot of row written - T + S
    index = torch.cat((expired, replay._index(ready)))
    replay.tree.set(index.view(-1), torch.cat((torch.zeros_like(on), on)).view(-1))


def _drawable(replay: ReplayBuffer, row: Tensor, newest: Tensor) -> Tensor:
    """Whether rows, none of them younger than ``newest - n``, may start a transition."""
    stored = (row >= 0) & (row > newest - replay.rows + replay._stack)
    reset = replay.ring.is_first(replay._index(row + 1))
    return stored & replay._goes_on(replay._index(row), reset)

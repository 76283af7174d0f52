"""Transitions (s, a, r, s') as rows: what one of them shares with the next is written once.

A transition writes the row of s'. That of s was written by the transition before it, unless an
episode ended there or s is another frame: then s is written first, as the row of a reset. So any
sequence of transitions comes out as it was given, and a run of them takes one frame for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastdqn.replay.add_rows import drawable, switch_leaves
from fastdqn.system.staging import as_tensor
from fastdqn.types import Array

if TYPE_CHECKING:
    from fastdqn.replay.buffer import ReplayBuffer

_CHUNK_BYTES = 1 << 26  # of frames that are handled at a time


def add_transition(
    replay: ReplayBuffer,
    observation: Tensor,
    action: Tensor,
    reward: Tensor,
    following: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    mask: Tensor | None = None,
) -> None:
    """One transition of every env, or of those in ``mask``, bool [N]; no host branch.

    Args:
        replay: Written to.
        observation: s, [N, *O].
        action: [N]; ``reward``, ``terminated`` and ``truncated`` likewise.
        reward: Before it is clipped.
        following: s', [N, *O].
        terminated: bool.
        truncated: bool.
        mask: The other envs' rows, leaves and cursors stay as they are.
    """
    fresh = _starts_anew(replay, observation)
    at = replay.cursor + 1
    if mask is None:
        row = newest = at + fresh
    else:
        fresh &= mask
        row = at + fresh
        at, newest = torch.where(mask, at, replay.cursor), torch.where(mask, row, replay.cursor)
    # Written for every env, so that nothing depends on data: where the env goes on, the row of s'
    # takes the same place, and behind an env that is left out lies scratch.
    replay.ring.write_first(replay._index(replay.cursor + 1), observation)
    no = torch.zeros_like(terminated)
    reward = replay._clipped(reward)
    replay.ring.write(
        replay._index(row), following, action, reward, terminated, truncated, first=no
    )
    switch_leaves(replay, torch.stack((at, newest)), newest, mask)
    replay.cursor.copy_(newest)
    replay._newest.copy_(replay._index(newest))


def _starts_anew(replay: ReplayBuffer, observation: Tensor) -> Tensor:
    """Envs whose next row is that of a reset, bool [N]."""
    ring, newest = replay.ring, replay._newest
    frames = ring.frames.index_select(0, newest)
    differs = _differ(frames, observation.to(frames.dtype), 1)
    ended = ring.scalars["terminated"][newest] | ring.scalars["truncated"][newest]
    return differs | ended | (replay.cursor < 0)


def _differ(frames: Tensor, others: Tensor, axes: int) -> Tensor:
    return (frames != others).flatten(axes).any(axes) if frames.dim() > axes else frames != others


def extend(replay: ReplayBuffer, arrays: Sequence[Array]) -> Tensor:
    """Transitions [L, N, ...] in order of time, in as many pieces as memory asks for.

    Args:
        replay: Written to.
        arrays: s, action, reward, s', terminated, truncated; on the host they may be files mapped
            into memory, for a piece is read at a time.

    Returns:
        Flat index of the row that each starts at, int64 [L, N].
    """
    # A piece writes no slot twice: a transition takes up to two rows of T.
    size = min(replay.rows // 2, _CHUNK_BYTES // max(1, arrays[0][:1].nbytes))
    places = [torch.empty((0, replay.num_envs), dtype=torch.int64, device=replay.device)]
    for start in range(0, len(arrays[0]), max(1, size)):
        piece = (as_tensor(array[start : start + max(1, size)]) for array in arrays)
        places.append(_extend_piece(replay, *(part.to(replay.device) for part in piece)))
    return torch.cat(places)


def _extend_piece(
    replay: ReplayBuffer,
    observation: Tensor,
    action: Tensor,
    reward: Tensor,
    following: Tensor,
    terminated: Tensor,
    truncated: Tensor,
) -> Tensor:
    ring, before = replay.ring, replay.cursor.clone()
    dtype = ring.frames.dtype
    observation, following = observation.to(dtype), following.to(dtype)
    goes_on = ~(terminated | truncated)[:-1] & ~_differ(observation[1:], following[:-1], 2)
    fresh = torch.cat((_starts_anew(replay, observation[0]).unsqueeze(0), ~goes_on))
    row = before + (1 + fresh.to(torch.int64)).cumsum(0)  # [L, N]
    place = replay._index(row)
    where = fresh.flatten().nonzero().squeeze(1)
    if len(where):
        resets = observation.flatten(0, 1)[where]
        ring.write_first(replay._index(row - 1).flatten()[where], resets)
    scalars = (action, replay._clipped(reward), terminated, truncated, torch.zeros_like(terminated))
    ring.write(place.flatten(), following.flatten(0, 1), *(part.flatten() for part in scalars))
    newest = row[-1]
    _switch_all(replay, before, newest)
    replay.cursor.copy_(newest)
    replay._newest.copy_(place[-1])
    return replay._index(row - 1)


def _switch_all(replay: ReplayBuffer, before: Tensor, newest: Tensor) -> None:
    """Leaves of the rows from ``before - n`` on, and of the S rows that are about to go."""
    span = int((newest - before).max()) + replay.n_step
    steps = torch.arange(1 - replay.n_step, span + 1 - replay.n_step, device=replay.device)
    row = torch.minimum(before + steps.unsqueeze(1), newest)  # [R, N]; the newest is never on
    ready = drawable(replay, row, newest) & (row <= newest - replay.n_step)
    going = torch.arange(1, replay._stack + 1, device=replay.device).unsqueeze(1)
    expired = newest - replay.rows + going
    # A row may be among both where the ring has just gone round: it is off in both.
    index = replay._index(torch.cat((expired, row)))
    values = torch.where(ready, replay._new_leaf(), 0.0)
    off = torch.zeros_like(expired, dtype=values.dtype)
    replay.tree.write(index.flatten(), torch.cat((off, values)).flatten())

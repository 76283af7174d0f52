"""What SB3 asks of a replay beyond its methods: early draws, ends from outside, a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.errors import FastDQNError
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.types import Batch


def draw_from_few(replay: ReplayBuffer, batch_size: Any) -> Batch:
    """Uniform draws, with replacement, from the first transition on; waits for the device.

    ``ReplayBuffer.sample`` need not look at the device, and so waits for a few rows more.

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


def end_episodes(replay: ReplayBuffer, envs: np.ndarray) -> None:
    """Let the newest rows of envs, bool [N], end an episode: of their value it says nothing."""
    which = torch.from_numpy(np.flatnonzero(envs)).to(replay.device)
    newest = replay.cursor % replay.rows * replay.num_envs
    newest += torch.arange(replay.num_envs, device=replay.device)
    replay.ring.scalars["truncated"][newest[which]] = True


def arrays_of(replay: ReplayBuffer) -> dict[str, Any]:
    """Its state, of which only rows that were written are kept; on a CPU views of its memory."""
    state = replay.state_dict()
    used = min(int(replay.cursor.max()) + 1, replay.rows) * replay.num_envs
    parts = {k: _array(part) if isinstance(part, Tensor) else part for k, part in state.items()}
    ring = {name: _array(rows[:used]) for name, rows in state["ring"].items()}
    return {**parts, "ring": ring, "tree": _array(replay.tree.leaves[:used])}


def restore(replay: ReplayBuffer, arrays: Mapping[str, Any]) -> None:
    """Put :func:`arrays_of` into a new replay made with the same arguments, on any device."""
    own = replay.state_dict()
    for name, rows in arrays["ring"].items():
        own["ring"][name][: len(rows)].copy_(torch.from_numpy(rows))
    leaves = torch.from_numpy(arrays["tree"]).to(replay.device)
    replay.tree.set(torch.arange(len(leaves), device=replay.device), leaves)
    parts = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in arrays.items()}
    # What is in its place already is copied onto itself, which takes no memory.
    replay.load_state_dict({**parts, "ring": own["ring"], "tree": own["tree"]})


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()

"""The rows of a replay as arrays, and back: what a pickle of it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.replay.buffer import ReplayBuffer


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

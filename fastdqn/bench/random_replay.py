"""A replay filled to capacity with random rows, as if the ring had been written round twice.

Zeros run up to 13 % faster than real data on a GPU, and a half-filled ring may lie in a cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastdqn.replay.buffer import ReplayBuffer

MEAN_EPISODE_LENGTH = 500


def fill_random(replay: ReplayBuffer, num_actions: int, *, seed: int = 0) -> None:
    """Overwrite every row with random numbers, and switch on what the law of the replay allows.

    Drawable are rows t with ``c - T + S + 1 <= t <= c - n`` and not ``first[t + 1]``. Priorities,
    where there are any, are absolute normal numbers.

    Args:
        replay: Of any size and device.
        num_actions: A.
        seed: Of the numbers.
    """
    rows, num_envs = replay.rows, replay.num_envs
    generator = torch.Generator(replay.device).manual_seed(seed)
    state = replay.state_dict()
    ring = state["ring"]

    def chance(probability: float) -> torch.Tensor:
        uniform = torch.rand((rows, num_envs), generator=generator, device=replay.device)
        return uniform < probability

    frames = ring["observation"]
    if frames.dtype == torch.uint8:
        frames.random_(0, 256, generator=generator)
    else:
        frames.normal_(generator=generator)
    newest = 2 * rows + rows // 3
    terminated, truncated = chance(1 / MEAN_EPISODE_LENGTH), chance(0.1 / MEAN_EPISODE_LENGTH)
    first = (terminated | truncated).roll(1, dims=0)
    ring["action"].random_(0, num_actions, generator=generator).mul_(~first.view(-1))
    ring["reward"].normal_(generator=generator).mul_(~first.view(-1))
    ring["terminated"].copy_((terminated & ~first).view(-1))
    ring["truncated"].copy_((truncated & ~first).view(-1))
    ring["first"].copy_(first.view(-1))

    slot = torch.arange(rows, device=replay.device)
    row = newest - (newest - slot) % rows  # the youngest row that lies in each slot
    stack = replay.ring.frame_stack or 1
    stored = (row >= newest - rows + stack + 1) & (row <= newest - replay.n_step)
    drawable = stored.unsqueeze(1) & ~first.roll(-1, dims=0)
    leaf = torch.ones((rows, num_envs), device=replay.device)
    if replay.prioritized:
        priority = leaf.normal_(generator=generator).abs_()
        state["max_priority"].copy_(priority.max())
        leaf = (priority + replay.priority_epsilon) ** replay.alpha
    index = torch.arange(replay.capacity, device=replay.device)
    replay.tree.set(index, torch.where(drawable, leaf, 0.0).view(-1))
    state["cursor"].fill_(newest)
    replay.load_state_dict({**state, "tree": replay.tree.state_dict(), "rows_added": newest + 1})


def rows_near_resets(replay: ReplayBuffer, count: int) -> Tensor:
    """Drawable rows, int64 [<= count], whose stack or whose n steps meet an episode's start."""
    reset = replay.ring.scalars["first"].nonzero().view(-1)
    offsets = torch.arange(-replay.n_step - 1, replay.ring.frame_stack or 1, device=replay.device)
    index = replay.ring.later(reset.unsqueeze(1), offsets).view(-1)
    index = index[replay.tree.get(index) > 0]
    step = max(1, index.numel() // count)
    return index[::step][:count]

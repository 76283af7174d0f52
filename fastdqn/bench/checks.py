"""Comparisons that a case makes with a plain way of doing the same, before it is timed."""

from __future__ import annotations

import torch
from torch import Tensor

from fastdqn.bench.workload import CheckError
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.types import Batch

SAMPLES = 16  # transitions rebuilt one by one


def expect(condition: bool, what: str) -> None:
    """Raise CheckError unless the condition holds."""
    if not condition:
        raise CheckError(what)


def expect_close(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Raise CheckError unless ``|actual - expected| <= tolerance |expected|`` in the 2-norm."""
    expect(actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)}")
    actual, expected = actual.detach().double(), expected.detach().double()
    scale = float(expected.norm())
    error = float((actual - expected).norm()) / (scale or 1.0)
    expect(error <= tolerance, f"{what}: off by {error:.2g} (allowed: {tolerance:.2g})")


def expect_transitions(replay: ReplayBuffer, batch: Batch) -> None:
    """Raise CheckError unless the first transitions are what walking the rows one by one gives."""
    rows = dict(replay.ring.storage.items())
    for place, index in enumerate(batch.index[:SAMPLES].tolist()):
        observation, action, reward, discount, following = _transition(replay, rows, index)
        what = f"transition {place}"
        expect(torch.equal(batch.observation[place].cpu(), observation), f"{what}: observation")
        expect(torch.equal(batch.next_observation[place].cpu(), following), f"{what}: next")
        expect(int(batch.action[place]) == action, f"{what}: action")
        expect(abs(float(batch.reward[place]) - reward) < 1e-5, f"{what}: reward")
        expect(abs(float(batch.discount[place]) - discount) < 1e-5, f"{what}: discount")


def _transition(
    replay: ReplayBuffer, rows: dict[str, Tensor], index: int
) -> tuple[Tensor, int, float, float, Tensor]:
    slot, env = divmod(index, replay.num_envs)

    def at(name: str, offset: int) -> Tensor:
        return rows[name][(slot + offset) % replay.rows, env].cpu()

    def stack(offset: int) -> Tensor:
        depth = replay.ring.frame_stack
        if depth is None:
            return at("observation", offset)
        frames = [at("observation", offset)]
        alive = True
        for k in range(1, depth):
            alive = alive and not bool(at("first", offset - k + 1))
            frames.append(at("observation", offset - k) if alive else torch.zeros_like(frames[0]))
        return torch.stack(frames[::-1])

    reward, steps = 0.0, 0
    while steps < replay.n_step:
        steps += 1
        reward += replay.gamma ** (steps - 1) * float(at("reward", steps))
        over = bool(at("terminated", steps) | at("truncated", steps) | at("first", steps + 1))
        if over:
            break
    alive = not bool(at("terminated", steps))
    discount = replay.gamma**steps * alive
    return stack(0), int(at("action", 1)), reward, discount, stack(steps)


def expect_distribution(index: Tensor, leaves: Tensor) -> None:
    """Raise CheckError unless draws fall on leaves in proportion to their values.

    The leaves are put into 64 bins of neighbours; each bin's count must lie within six standard
    deviations of its expectation, and no leaf of 0 may be drawn.
    """
    expect(bool((leaves.index_select(0, index) > 0).all()), "a leaf of value 0 was drawn")
    share = torch.stack([part.double().sum() for part in leaves.chunk(64)])
    share = (share / share.sum()).cpu()
    size = -(-leaves.numel() // 64)
    count = torch.bincount((index // size).cpu(), minlength=share.numel()).double()
    draws = index.numel()
    spread = (draws * share * (1 - share)).sqrt().clamp(min=1.0)
    worst = float(((count - draws * share) / spread).abs().max())
    expect(worst < 6, f"draws are {worst:.1f} standard deviations off their leaves' share")

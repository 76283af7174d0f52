"""What a TensorDict costs as the owner of a ring's tensors."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict

from benchmarks.peers.measure import Work, interleaved_s
from benchmarks.peers.ours_replay import VECTOR
from benchmarks.peers.settings import VECTOR_ROWS
from fastdqn.replay.frame_ring import FrameRing
from fastdqn.replay.returns import n_step_return


class PlainRing:
    """FrameRing's write and one-step gather, operation by operation, on tensors of nobody."""

    def __init__(self, rows: int, num_envs: int) -> None:
        self.num_envs, self.size = num_envs, rows * num_envs
        self.frames = torch.zeros(self.size + 1, 4)
        self.action = torch.zeros(self.size, dtype=torch.int64)
        self.reward = torch.zeros(self.size)
        self.terminated, self.truncated, self.first = torch.zeros(3, self.size, dtype=torch.bool)

    def write(self, index: Any, observation: Any, *scalars: Any) -> None:
        """As FrameRing.write."""
        action, reward, terminated, truncated, first = scalars
        keep = ~first
        self.frames.index_copy_(0, index, observation.to(self.frames.dtype))
        self.action.index_copy_(0, index, action.to(torch.int64) * keep)
        self.reward.index_copy_(0, index, torch.where(keep, reward.to(torch.float32), 0.0))
        self.terminated.index_copy_(0, index, terminated & keep)
        self.truncated.index_copy_(0, index, truncated & keep)
        self.first.index_copy_(0, index, first)

    def transition(self, index: Any, gamma_powers: Any) -> tuple[torch.Tensor, ...]:
        """As FrameRing.transition for n = 1."""
        following = (index + self.num_envs) % self.size
        action = self.action.index_select(0, following)
        window = following.unsqueeze(1)
        reward = self.reward.index_select(0, window.view(-1)).view(window.shape)
        terminated = self.terminated.index_select(0, window.view(-1)).view(window.shape)
        reward, discount, _ = n_step_return(reward, terminated, terminated[:, :0], gamma_powers)
        observation = self.frames.index_select(0, index)
        return observation, action, reward, discount, self.frames.index_select(0, following)


def tensordict(work: Work) -> dict[str, Any]:
    """What a TensorDict as the owner of its tensors costs the ring that writes and reads."""
    rows, envs, batch_size = work.scaled(VECTOR_ROWS, 6_400) // 64, 64, 256
    # Both in torch: what a loop costs does not depend on who owns the tensors.
    ring, plain = FrameRing(rows, envs, VECTOR, compiled=False), PlainRing(rows, envs)
    assert isinstance(ring.storage, TensorDict)
    generator = torch.Generator().manual_seed(0)
    powers = torch.tensor([1.0, 0.99])
    draws = [torch.randint(0, rows * envs, (batch_size,), generator=generator) for _ in range(64)]
    slots = [torch.randperm(rows * envs, generator=generator)[:envs] for _ in range(64)]
    row = (
        torch.randn(envs, 4, generator=generator),
        torch.ones(envs, dtype=torch.int64),
        torch.randn(envs, generator=generator),
        *(torch.rand(3, envs, generator=generator) < 0.1),
    )
    for store in (ring, plain):
        for slot in slots:
            store.write(slot, *row)
    for draw in draws:
        pair = zip(ring.transition(draw, 1, powers), plain.transition(draw, powers), strict=True)
        if not all(torch.equal(a, b) for a, b in pair):
            raise RuntimeError("the plain ring and FrameRing differ")
    turn = 0

    def next_of(indices: list[torch.Tensor]) -> torch.Tensor:
        nonlocal turn
        turn += 1
        return indices[turn % len(indices)]

    times = interleaved_s(
        {
            "write plain": lambda: plain.write(next_of(slots), *row),
            "write fastdqn": lambda: ring.write(next_of(slots), *row),
            "sample plain": lambda: plain.transition(next_of(draws), powers),
            "sample fastdqn": lambda: ring.transition(next_of(draws), 1, powers),
        },
        work.seconds / 2,
    )
    labels = {"plain": "plain tensors", "fastdqn": "fastdqn (TensorDict)"}
    return {
        "values": {
            f"tensordict-{what}": {
                label: times[f"{what} {kind}"] * 1e6 for kind, label in labels.items()
            }
            for what in ("write", "sample")
        }
    }

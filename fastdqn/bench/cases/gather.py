"""Rebuilding transitions from rows: both stacks, the n-step return, the discount."""

from __future__ import annotations

import torch

from fastdqn.bench.checks import SAMPLES, expect_transitions
from fastdqn.bench.context import Context, is_mlp
from fastdqn.bench.floors import FRAME_BYTES, STACK
from fastdqn.bench.random_replay import rows_near_resets
from fastdqn.bench.workload import Floor, Workload
from fastdqn.types import Batch

_BATCHES = 16  # index batches drawn beforehand, so that frames are not in a cache


def make(context: Context, *, net: str, batch_size: int, n_step: int) -> Workload:
    """The workload of one ``gather/`` case: a repeat is one batch."""
    batch_size = context.small(batch_size, 32)
    replay = context.replay(net, n_step=n_step)
    batches = [replay.sample(batch_size).index for _ in range(_BATCHES)]
    powers = torch.tensor([replay.gamma**k for k in range(n_step + 1)], device=context.device)

    def run(repeats: int) -> None:
        for turn in range(repeats):
            replay.ring.transition(batches[turn % _BATCHES], n_step, powers)

    def check() -> None:
        near = rows_near_resets(replay, SAMPLES // 2)
        index = torch.cat((near, batches[0]))[:batch_size]
        observation, action, reward, discount, following = replay.ring.transition(
            index, n_step, powers
        )
        weight = torch.ones_like(reward)
        expect_transitions(
            replay, Batch(observation, action, reward, discount, following, weight, index)
        )

    observation = 4 * 4 if is_mlp(net) else STACK * FRAME_BYTES
    moved = 2 * 2 * batch_size * observation  # s and s', read and written
    return Workload(
        run=run,
        check=check,
        unit="batch",
        counts={"samples": batch_size, "bytes": moved},
        floor=Floor(0, moved),
        threads=context.threads(net),
        details={"capacity": replay.capacity, "replay_bytes": replay.nbytes()},
    )

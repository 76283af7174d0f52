"""Rebuilding transitions from rows: both stacks, the n-step return, the discount."""

from __future__ import annotations

import torch

from fastdqn.bench.checks import SAMPLES, expect_close, expect_transitions
from fastdqn.bench.context import Context, is_mlp
from fastdqn.bench.floors import FRAME_BYTES, STACK
from fastdqn.bench.ladder.fused_gather import gather_inputs
from fastdqn.bench.random_replay import rows_near_resets
from fastdqn.bench.workload import Floor, UnavailableError, Workload
from fastdqn.types import Batch

_BATCHES = 16  # index batches drawn beforehand, so that frames are not in a cache


def make(
    context: Context, *, net: str, batch_size: int, n_step: int, inputs_by: str = ""
) -> Workload:
    """The workload of one ``gather/`` case: a repeat is one batch.

    With ``inputs_by`` it ends in the input of the ladder's first convolution; the check then is
    against torch, which the plain cases check.
    """
    batch_size = context.small(batch_size, 32)
    if inputs_by == "triton" and context.device.type != "cuda":
        raise UnavailableError("needs a CUDA device")
    replay = context.replay(net, n_step=n_step)
    batches = [replay.sample(batch_size).index for _ in range(_BATCHES)]
    powers = torch.tensor([replay.gamma**k for k in range(n_step + 1)], device=context.device)

    def gather(index: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if inputs_by:
            return inputs(index, kernels=inputs_by == "triton")
        return replay.ring.transition(index, n_step, powers)

    def inputs(index: torch.Tensor, *, kernels: bool) -> tuple[torch.Tensor, ...]:
        dtype = torch.bfloat16 if context.precision(net) == "bf16" else torch.float32
        return gather_inputs(replay.ring, index, n_step, powers, dtype, kernels=kernels)

    def run(repeats: int) -> None:
        for turn in range(repeats):
            gather(batches[turn % _BATCHES])

    def check() -> None:
        near = rows_near_resets(replay, SAMPLES // 2)
        index = torch.cat((near, batches[0]))[:batch_size]
        if inputs_by:
            names = ("inputs", "actions", "returns", "discounts")
            for name, a, b in zip(names, gather(index), inputs(index, kernels=False), strict=True):
                expect_close(a, b, 1e-6, name)
            return
        observation, action, reward, discount, following = gather(index)
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

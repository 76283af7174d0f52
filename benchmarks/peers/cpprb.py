"""cpprb: prioritized replay, with stacks stored whole or one frame each (``one frame``)."""

from __future__ import annotations

from typing import Any

import cpprb
import numpy as np

from benchmarks.peers.cycle import Drawn, measure_cycles, raw_priorities
from benchmarks.peers.measure import Work, resident_bytes, start
from benchmarks.peers.settings import (
    ALPHA,
    BETA,
    FRAME,
    PIXEL_BATCHES,
    PIXEL_ROWS,
    STACK,
    VECTOR_BATCHES,
    VECTOR_ROWS,
    transitions,
)


def _fields(shape: tuple[int, ...], dtype: Any, one_frame: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "obs": {"shape": shape, "dtype": dtype},
        "act": {"dtype": np.int64},
        "rew": {},
        "done": {},
    }
    return fields if one_frame else {**fields, "next_obs": {"shape": shape, "dtype": dtype}}


def fill_vector(count: int) -> cpprb.PrioritizedReplayBuffer:
    """Random observations, 10,000 at a time."""
    random = np.random.default_rng(0)
    buffer = cpprb.PrioritizedReplayBuffer(count, _fields((4,), np.float32, False), alpha=ALPHA)
    chunk = min(10_000, count)
    for _ in range(count // chunk):
        observation, following = random.standard_normal((2, chunk, 4), dtype=np.float32)
        buffer.add(
            obs=observation, next_obs=following, act=np.ones(chunk), rew=np.ones(chunk),
            done=np.zeros(chunk),
        )  # fmt: skip
    return buffer


def fill_pixels(count: int, one_frame: bool) -> cpprb.PrioritizedReplayBuffer:
    """A stream of frames of one env; ``stack_compress`` wants the stack last."""
    shape = (*FRAME, STACK) if one_frame else (STACK, *FRAME)
    kwargs = {"next_of": "obs", "stack_compress": "obs"} if one_frame else {}
    buffer = cpprb.PrioritizedReplayBuffer(
        count, _fields(shape, np.uint8, one_frame), alpha=ALPHA, **kwargs
    )
    for stack, following, done in transitions(count):
        if one_frame:
            stack, following = np.moveaxis(stack, 0, -1), np.moveaxis(following, 0, -1)
        buffer.add(obs=stack, next_obs=following, act=1, rew=1.0, done=done)
        if done:
            buffer.on_episode_end()
    return buffer


def main(work: Work) -> dict[str, Any]:
    values: dict[str, Any] = {}
    one_frame = work.variant == "one frame"
    if work.row == "per-vector":
        buffer = fill_vector(work.scaled(VECTOR_ROWS, 10_000))
        batches, shape = VECTOR_BATCHES, (4,)
    else:
        count = work.scaled(PIXEL_ROWS, 1_000)
        fill_pixels(1_000, one_frame)  # what is loaded and compiled at first use is not the data's
        before = resident_bytes()
        buffer = fill_pixels(count, one_frame)
        values["memory-100k"] = (resident_bytes() - before) / 1e9
        batches = PIXEL_BATCHES
        shape = (*FRAME, STACK) if one_frame else (STACK, *FRAME)
    rows = buffer.get_stored_size()
    buffer.update_priorities(np.arange(rows), raw_priorities(rows))

    def cycle(batch_size: int, priority: np.ndarray) -> Any:
        batch = buffer.sample(batch_size, BETA)
        buffer.update_priorities(batch["indexes"], priority)
        return batch

    def read(batch: dict[str, np.ndarray]) -> Drawn:
        return Drawn(batch["obs"], batch["next_obs"], batch["indexes"], batch["weights"])

    cycles = measure_cycles(work, cycle, batches, shape, rows=rows, read=read)
    return {"values": {**values, **cycles}}


if __name__ == "__main__":
    start(main)

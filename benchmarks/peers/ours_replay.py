"""fastdqn's replay: filled through its public interface, its prioritized cycle, its memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from benchmarks.peers.cycle import Drawn, measure_cycles, raw_priorities
from benchmarks.peers.measure import Work, resident_bytes
from benchmarks.peers.settings import (
    ALPHA,
    BETA,
    EPISODE,
    FRAME,
    PIXEL_BATCHES,
    PIXEL_ROWS,
    STACK,
    VECTOR_BATCHES,
    VECTOR_ROWS,
    frames,
)
from fastdqn import Batch, ReplayBuffer, TimeStep

VECTOR = Box(-np.inf, np.inf, (4,), np.float32)
PIXELS = Box(0, 255, FRAME, np.uint8)


def stream(count: int, num_envs: int, observations: Iterator[np.ndarray]) -> Iterator[TimeStep]:
    """``count`` vector steps after a reset; every episode ends by termination."""
    reward, no = np.ones(num_envs, np.float32), np.zeros(num_envs, bool)
    for step in range(count + 1):
        first = np.full(num_envs, step % (EPISODE + 1) == 0)
        ended = np.full(num_envs, step % (EPISODE + 1) == EPISODE)
        yield TimeStep(next(observations), np.where(first, 0, reward), ended & ~first, no, first)


def fill(replay: ReplayBuffer, rows: int, observations: Iterator[np.ndarray]) -> None:
    """Add rows through the public interface."""
    steps = stream(rows // replay.num_envs, replay.num_envs, observations)
    replay.add(next(steps), None)
    actions = np.ones(replay.num_envs, np.int64)
    for step in steps:
        replay.add(step, actions)


def vectors(num_envs: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    while True:
        yield random.standard_normal((num_envs, 4), dtype=np.float32)


def images(num_envs: int) -> Iterator[np.ndarray]:
    pool, step = frames(), 0
    offsets = np.arange(num_envs) * 31
    while True:
        yield pool[(step * 7 + offsets) % 256]
        step += 1


def pixel_replay(rows: int, num_envs: int, device: str, **kwargs: Any) -> ReplayBuffer:
    """Filled; every frame stored once."""
    replay = ReplayBuffer(
        rows, num_envs, PIXELS, frame_stack=STACK, alpha=ALPHA, device=device, **kwargs
    )
    fill(replay, rows, images(num_envs))
    return replay


def prioritized(work: Work) -> dict[str, Any]:
    """The cycle, and on pixels the memory that filling took."""
    values: dict[str, Any] = {}
    if work.row == "per-vector":
        rows, envs, batches, shape = VECTOR_ROWS, 64, VECTOR_BATCHES, (4,)
        replay = ReplayBuffer(
            work.scaled(rows, 6_400), envs, VECTOR, prioritized=True, alpha=ALPHA,
            device=work.device,
        )  # fmt: skip
        fill(replay, replay.capacity, vectors(envs))
    else:
        batches, shape = PIXEL_BATCHES, (STACK, *FRAME)
        pixel_replay(1_024, 8, work.device, prioritized=True)  # what is loaded at first use
        before = resident_bytes()
        replay = pixel_replay(work.scaled(PIXEL_ROWS, 1_000), 8, work.device, prioritized=True)
        if work.device == "cpu":
            values["memory-100k"] = (resident_bytes() - before) / 1e9
    everything = torch.arange(replay.capacity, device=work.device)
    raw = torch.from_numpy(raw_priorities(replay.capacity)).to(work.device)
    replay.update_priorities(everything, raw)

    def cycle(batch_size: int, priority: torch.Tensor) -> Any:
        batch = replay.sample(batch_size, beta=BETA)
        replay.update_priorities(batch.index, priority)
        return batch

    def read(batch: Batch) -> Drawn:
        return Drawn(batch.observation, batch.next_observation, batch.index, batch.weight)

    def convert(priority: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(priority).to(work.device)

    cycles = measure_cycles(
        work, cycle, batches, shape, rows=replay.capacity, read=read, convert=convert
    )
    return {"values": {**values, **cycles}}

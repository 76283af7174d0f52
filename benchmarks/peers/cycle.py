"""The cycle of prioritized replay: draw, gather, importance weights, write the priorities back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers.measure import MALLOC, Work, call_s, keep_freed_memory

# A system's cycle: batch size, new priorities float32 [B] in its own form -> its batch.
Cycle = Callable[[int, Any], Any]


class Drawn(NamedTuple):
    """What every system's batch must hold; arrays of any library."""

    observation: Any  # [B, *O]
    next_observation: Any  # [B, *O]
    index: Any  # integers [B] of the rows drawn
    weight: Any  # [B], the importance weights


def raw_priorities(count: int, seed: int = 0) -> np.ndarray:
    """Float32 in [0.01, 1.01)."""
    return np.random.default_rng(seed).random(count, dtype=np.float32) + np.float32(0.01)


def measure_cycles(
    work: Work,
    cycle: Cycle,
    batches: Sequence[int],
    shape: tuple[int, ...],
    *,
    rows: int,
    read: Callable[[Any], Drawn],
    convert: Callable[[np.ndarray], Any] = lambda priority: priority,
) -> dict[str, dict[str, float]]:
    """Microseconds per cycle by row, pixels also with glibc told to keep freed memory.

    Args:
        work: Whose row is ``per-vector`` or ``pixels``.
        cycle: Of the system, on a filled replay.
        batches: Batch sizes.
        shape: Of one observation.
        rows: In the replay.
        read: What a batch of the cycle holds, which is checked before anything is timed.
        convert: A priority array in the system's own form (torch, say).

    Raises:
        RuntimeError: Where a batch is not whole.
    """
    name = "per-vector" if work.row == "per-vector" else "per-pixels"
    # Many sets, so that no tree is found warm in the cache by writing the same leaves again.
    sets = {b: [convert(raw_priorities(b, seed)) for seed in range(16)] for b in batches}
    turn = 0

    def once(batch_size: int) -> Any:
        nonlocal turn
        turn += 1
        return cycle(batch_size, sets[batch_size][turn % 16])

    for batch_size in batches:
        check(read(once(batch_size)), batch_size, shape, rows)

    with_malloc = name == "per-pixels" and work.device == "cpu"
    seconds = work.seconds / len(batches) / (2 if with_malloc else 1)

    def all_batches() -> dict[int, float]:
        return {b: 1e6 * call_s(lambda b=b: once(b), seconds, work.device) for b in batches}

    found = {"": all_batches()}
    if with_malloc:
        keep_freed_memory()
        found[MALLOC] = all_batches()
    return {f"{name}-{b}": {suffix: found[suffix][b] for suffix in found} for b in batches}


def check(drawn: Drawn, batch_size: int, shape: tuple[int, ...], rows: int) -> None:
    """RuntimeError where a batch is not the whole of what the cycle is about."""
    for stack in (drawn.observation, drawn.next_observation):
        if tuple(stack.shape) != (batch_size, *shape):
            raise RuntimeError(
                f"observations of shape {tuple(stack.shape)}, not {(batch_size, *shape)}"
            )
    index, weight = drawn.index.reshape(-1), drawn.weight.reshape(-1)
    if len(index) != batch_size or len(weight) != batch_size:
        raise RuntimeError(f"{len(index)} rows and {len(weight)} weights, not {batch_size}")
    if index.min() < 0 or index.max() >= rows:
        raise RuntimeError(f"rows {int(index.min())} to {int(index.max())} of {rows}")
    if not (weight.min() > 0 and weight.max() < float("inf")):  # nor NaN
        raise RuntimeError("an importance weight is not a positive number")

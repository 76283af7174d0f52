"""The cycle of prioritized replay: draw, gather, importance weights, write the priorities back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.peers.measure import MALLOC, Work, call_s, keep_freed_memory

# A system's cycle: batch size, new priorities float32 [B] in its own form -> the observations and
# the importance weights.
Cycle = Callable[[int, Any], tuple[Any, Any]]


def raw_priorities(count: int, seed: int = 0) -> np.ndarray:
    """Float32 in [0.01, 1.01)."""
    return np.random.default_rng(seed).random(count, dtype=np.float32) + np.float32(0.01)


def measure_cycles(
    work: Work,
    cycle: Cycle,
    batches: Sequence[int],
    shape: tuple[int, ...],
    convert: Callable[[np.ndarray], Any] = lambda priority: priority,
) -> dict[str, dict[str, float]]:
    """Microseconds per cycle by row, pixels also with glibc told to keep freed memory.

    Args:
        work: Whose row is ``per-vector`` or ``pixels``.
        cycle: Of the system, on a filled replay.
        batches: Batch sizes.
        shape: Of one observation: what the system returns is checked before it is timed.
        convert: A priority array in the system's own form (torch, say).

    Raises:
        RuntimeError: Where a batch is of another shape, or its weights are none.
    """
    name = "per-vector" if work.row == "per-vector" else "per-pixels"
    # Many sets, so that no tree is found warm in the cache by writing the same leaves again.
    sets = {b: [convert(raw_priorities(b, seed)) for seed in range(16)] for b in batches}
    turn = 0

    def once(batch_size: int) -> tuple[Any, Any]:
        nonlocal turn
        turn += 1
        return cycle(batch_size, sets[batch_size][turn % 16])

    for batch_size in batches:
        observation, weight = once(batch_size)
        got = tuple(observation.shape)
        if got != (batch_size, *shape):
            raise RuntimeError(f"observations of shape {got}, not {(batch_size, *shape)}")
        weights = np.asarray(weight.cpu() if hasattr(weight, "cpu") else weight).reshape(-1)
        if weights.shape != (batch_size,) or not (np.isfinite(weights) & (weights > 0)).all():
            raise RuntimeError(f"not {batch_size} importance weights that are finite and above 0")

    with_malloc = name == "per-pixels" and work.device == "cpu"
    seconds = work.seconds / len(batches) / (2 if with_malloc else 1)

    def all_batches() -> dict[int, float]:
        return {b: 1e6 * call_s(lambda b=b: once(b), seconds, work.device) for b in batches}

    found = {"": all_batches()}
    if with_malloc:
        keep_freed_memory()
        found[MALLOC] = all_batches()
    return {f"{name}-{b}": {suffix: found[suffix][b] for suffix in found} for b in batches}

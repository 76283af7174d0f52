"""Triton kernels of :mod:`benchmarks.gpu.ladder.block_sums`. Imported only where they run.

No autotuning: its first call waits for the device. All of this runs in Triton's interpreter
(``TRITON_INTERPRET=1``), which is how it was checked; it knows nothing of races, so what two
programs of one launch may both touch is argued for here in words. Not run on a GPU.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

_ALMOST_ONE: tl.constexpr = tl.constexpr(1.0 - 2.0**-24)
_LARGEST: tl.constexpr = tl.constexpr(2.0**86)  # fastdqn.replay.priorities.LARGEST_PRIORITY


@triton.jit
def _pick(values, uniform, SIZE: tl.constexpr):
    """First position whose cumulative sum exceeds ``uniform * sum`` and whose value is positive."""
    at = tl.arange(0, SIZE)
    cumulative = tl.cumsum(values, 0)
    threshold = tl.minimum(uniform, _ALMOST_ONE) * tl.max(cumulative, 0)
    passed = (cumulative > threshold) & (values > 0)
    # Sums made in parallel may round so that none passes: then the first positive serves.
    place = tl.where(passed, at, tl.where(values > 0, at + SIZE, 2 * SIZE))
    return tl.min(place, 0) % SIZE


@triton.jit
def draw(
    leaves, sums, uniform, index, value, batch, groups, FANOUT: tl.constexpr, TOP: tl.constexpr
):
    """One leaf per program: a group by its sum, then a leaf of it by its value.

    Args:
        leaves: float32 [groups * FANOUT].
        sums: float32 [groups], groups <= TOP.
        uniform: float32 [2, batch].
        index: int64 [batch], written.
        value: float32 [batch], written.
        batch: B.
        groups: Entries of ``sums``.
        FANOUT: Leaves in a group, a power of two.
        TOP: A power of two.
    """
    i = tl.program_id(0)
    at = tl.arange(0, TOP)
    tops = tl.load(sums + at, mask=at < groups, other=0.0)
    group = _pick(tops, tl.load(uniform + i), TOP)
    inside = tl.load(leaves + group * FANOUT + tl.arange(0, FANOUT))
    row = group * FANOUT + _pick(inside, tl.load(uniform + batch + i), FANOUT)
    tl.store(index + i, row.to(tl.int64))
    tl.store(value + i, tl.load(leaves + row))


@triton.jit
def _cleaned(priority, largest):
    """Priorities in bounds; one that is not finite becomes the largest seen before this batch."""
    finite = tl.abs(priority) < float("inf")  # false of NaN
    return tl.minimum(tl.maximum(tl.where(finite, priority, largest), 0.0), _LARGEST)


@triton.jit
def write(
    leaves, index, value, largest, alpha, epsilon,
    BATCH: tl.constexpr, PRIORITIES: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Write leaves, BLOCK per program; of duplicates the largest wins, whoever comes last.

    A program looks through the whole batch for larger rivals, so all who write a leaf write the
    same value. With PRIORITIES the values are raw priorities and a leaf of 0 stays 0: what a
    program reads of a leaf is only whether it is positive, and no writer of the same launch changes
    that.

    Args:
        leaves: float32, written.
        index: int64 [BATCH].
        value: float32 [BATCH].
        largest: float32, the largest priority seen; for PRIORITIES.
        alpha: Exponent of the priorities.
        epsilon: Added to them.
        BATCH: B; a constant, for the interpreter of Triton 3.6 cannot count up to a number.
        PRIORITIES: Whether values are priorities and not leaves.
        BLOCK: Entries per program.
        CHUNK: Rivals looked at at once.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < BATCH
    row = tl.load(index + at, mask=inside, other=-1)
    own = tl.load(value + at, mask=inside, other=0.0)
    seen = tl.load(largest)
    if PRIORITIES:
        own = _cleaned(own, seen)
    beaten = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, BATCH, CHUNK):
        others = start + tl.arange(0, CHUNK)
        rows = tl.load(index + others, mask=others < BATCH, other=-2)
        theirs = tl.load(value + others, mask=others < BATCH, other=0.0)
        if PRIORITIES:
            theirs = _cleaned(theirs, seen)
        rival = (rows[None, :] == row[:, None]) & (theirs[None, :] > own[:, None])
        beaten = tl.maximum(beaten, tl.max(rival.to(tl.int32), 1))
    wins = inside & (beaten == 0)
    if PRIORITIES:
        drawable = tl.load(leaves + row, mask=wins, other=0.0) > 0
        own = tl.where(drawable, tl.exp2(alpha * tl.log2(own + epsilon)), 0.0)
    tl.store(leaves + row, own, mask=wins)


@triton.jit
def add_up(
    leaves, sums, index, value, largest, nonfinite,
    BATCH: tl.constexpr, PRIORITIES: tl.constexpr, FANOUT: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Sum the group of each leaf written anew; two programs of one group write the same sum.

    With PRIORITIES the first program also raises the largest priority seen, and the flag where one
    was not finite: here, for :func:`write` wants the value from before.

    Args:
        leaves: float32 [groups * FANOUT].
        sums: float32 [groups], written.
        index: int64 [BATCH].
        value: float32 [BATCH].
        largest: float32, written for PRIORITIES.
        nonfinite: uint8, written for PRIORITIES.
        BATCH: B; a constant, for the interpreter of Triton 3.6 cannot count up to a number.
        PRIORITIES: Whether values are priorities and not leaves.
        FANOUT: Leaves in a group.
        CHUNK: Priorities looked at at once.
    """
    i = tl.program_id(0)
    group = tl.load(index + i) // FANOUT
    inside = tl.load(leaves + group * FANOUT + tl.arange(0, FANOUT))
    tl.store(sums + group, tl.sum(inside, 0))
    if PRIORITIES:  # noqa: SIM102  (one is decided when compiling, one when running)
        if i == 0:
            seen = tl.load(largest)
            top, bad = seen, tl.load(nonfinite).to(tl.int32)
            for start in range(0, BATCH, CHUNK):
                at = start + tl.arange(0, CHUNK)
                chunk = tl.load(value + at, mask=at < BATCH, other=0.0)
                finite = tl.abs(chunk) < float("inf")
                bad = tl.maximum(bad, tl.max(tl.where(finite, 0, 1), 0))
                top = tl.maximum(top, tl.max(_cleaned(chunk, seen), 0))
            tl.store(largest, top)
            tl.store(nonfinite, bad.to(tl.uint8))

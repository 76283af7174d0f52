"""Inner loops of :class:`SumTreeSampler` for a CPU, compiled by Numba, on NumPy arrays.

A tree is as :mod:`fastdqn.replay.kernels` has it.
"""

from __future__ import annotations

import numpy as np

from fastdqn.replay.kernels import draw_leaves, set_leaves
from fastdqn.replay.priorities import LARGEST_PRIORITY
from fastdqn.system.loops import compiled

_LARGEST = np.float32(LARGEST_PRIORITY)


@compiled
def draw(tree, starts, shift, uniform, beta, smallest, index, weight):  # type: ignore[no-untyped-def]
    """Fill ``index`` and ``weight`` [B]; False where no leaf is positive.

    ``smallest`` is the leaf whose weight is 1; 0 takes the smallest one drawn.
    """
    count = len(index)
    for i in range(count):
        uniform[0, i] = (uniform[0, i] + np.float32(i)) / np.float32(count)
    draw_leaves(tree, starts, shift, uniform, index, weight)
    least = smallest if smallest > 0 else weight.min()
    if not least > 0:
        return False
    for i in range(count):
        weight[i] = (least / weight[i]) ** beta
    return True


@compiled
def write(tree, starts, shift, capacity, index, priority, epsilon, alpha, largest):  # type: ignore[no-untyped-def]
    """Leaves of raw priorities; a negative index is passed over.

    Returns 0; 1, and nothing done, where an index is ``capacity`` or more.
    """
    kept = 0
    for leaf in index:
        if leaf >= capacity:
            return 1
        kept += leaf >= 0
    leaves, values = np.empty(kept, np.int64), np.empty(kept, np.float32)
    at, before = 0, largest[()]
    for i in range(len(index)):
        if index[i] < 0:
            continue
        raw = priority[i]
        if not np.isfinite(raw):
            raw = before
        raw = min(max(raw, np.float32(0)), _LARGEST)
        largest[()] = max(largest[()], raw)
        leaves[at], values[at] = index[i], (raw + epsilon) ** alpha
        at += 1
    set_leaves(tree, starts, shift, capacity, leaves, values)
    return 0


@compiled
def smallest_up(leaves, levels, starts, shift, index):  # type: ignore[no-untyped-def]
    """Follow the leaves at ``index``: the minimum of each group above them; 0 counts as infinite.

    ``levels`` is all levels one after the other, ``starts`` where each begins.
    """
    for leaf in index:
        at, before = leaf, levels[leaf]
        now = leaves[leaf] if leaves[leaf] > 0 else np.float32(np.inf)
        levels[leaf] = now
        for level in range(1, len(starts)):
            at >>= shift
            slot = starts[level] + at
            least = levels[slot]
            if now > least:
                if before > least:
                    break  # it neither was nor is the smallest of its group
                start = starts[level - 1] + (at << shift)
                now = levels[start : start + (1 << shift)].min()
            if now == least:
                break
            levels[slot] = now
            before = least

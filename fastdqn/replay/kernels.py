"""Inner loops of the replay for a CPU, compiled by Numba, on NumPy arrays.

An operation of torch costs 2 to 3 us whatever its size, and a cycle of prioritized replay has about
sixty of them; each function here is one call. Where Numba is not installed or the replay is on
another device, the same work is done in torch, to which the tests hold it.

A tree is one float32 array of all levels, leaves first; ``starts`` holds where each level begins
and, last, the length of the array. ``shift`` is the binary logarithm of the fanout.
"""

from __future__ import annotations

import numpy as np

from fastdqn.replay.priorities import LARGEST_PRIORITY
from fastdqn.system.loops import compiled

_ALMOST_ONE = np.float32(1.0 - 2.0**-24)  # the largest float32 below 1
_LARGEST = np.float32(LARGEST_PRIORITY)


@compiled
def _wrapped(index, size):  # type: ignore[no-untyped-def]
    """``index`` modulo ``size`` for one at most ``size`` outside; a division takes far longer."""
    if index < 0:
        return index + size
    return index - size if index >= size else index


@compiled
def _group_sum(tree, start, fanout):  # type: ignore[no-untyped-def]
    # Four sums side by side, for an addition waits for the one before it.
    a = b = c = d = np.float32(0)
    for j in range(start, start + fanout, 4):
        a += tree[j]
        b += tree[j + 1]
        c += tree[j + 2]
        d += tree[j + 3]
    return (a + b) + (c + d)


@compiled
def _sum_up(tree, starts, shift, index):  # type: ignore[no-untyped-def]
    """Recompute every sum above the leaves at ``index``."""
    fanout = 1 << shift
    for level in range(1, len(starts) - 1):
        below, at = starts[level - 1], starts[level]
        last = -1
        for leaf in index:
            group = leaf >> (shift * level)
            if group != last:
                tree[at + group] = _group_sum(tree, below + (group << shift), fanout)
                last = group


@compiled
def set_leaves(tree, starts, shift, capacity, index, value):  # type: ignore[no-untyped-def]
    """Write leaves, of duplicates the largest; False, and nothing done, where one is outside."""
    for leaf in index:
        if leaf < 0 or leaf >= capacity:
            return False
    for leaf in index:
        tree[leaf] = -np.inf
    for i in range(len(index)):
        if not value[i] <= tree[index[i]]:  # so that a NaN is kept for check_valid to find
            tree[index[i]] = value[i]
    _sum_up(tree, starts, shift, index)
    return True


@compiled
def draw_leaves(tree, starts, shift, uniform, index, value):  # type: ignore[no-untyped-def]
    """Fill ``index`` and ``value`` [B] with leaves drawn by ``uniform`` [levels, B].

    A leaf of value 0 is never drawn, for only a positive value raises a cumulative sum.
    """
    fanout = 1 << shift
    levels = len(starts) - 1
    top = starts[levels - 1]
    cumulative = np.empty(starts[levels] - top, np.float32)
    total = np.float32(0)
    for j in range(len(cumulative)):
        total += tree[top + j]
        cumulative[j] = total
    for i in range(len(index)):
        threshold = min(uniform[0, i], _ALMOST_ONE) * total
        low, high = 0, len(cumulative) - 1
        while low < high:
            middle = (low + high) >> 1
            if cumulative[middle] > threshold:
                high = middle
            else:
                low = middle + 1
        index[i] = low
    for level in range(levels - 2, -1, -1):
        for i in range(len(index)):  # fetch the groups first; see transitions
            start = starts[level] + (index[i] << shift)
            value[i] = tree[start] + tree[start + fanout // 2]
        # Draws in the inner loop and no jump that depends on data: a processor works on several
        # of them at a time.
        for i in range(len(index)):
            threshold = min(uniform[levels - 1 - level, i], _ALMOST_ONE)
            threshold *= tree[starts[level + 1] + index[i]]
            start = starts[level] + (index[i] << shift)
            passed = np.float32(0)
            inside = 0
            for j in range(start, start + fanout):
                passed += tree[j]
                inside += passed <= threshold
            if inside == fanout:  # by a rounding; the last positive one was meant
                inside -= 1
                while inside > 0 and tree[start + inside] == 0:
                    inside -= 1
            index[i] = (index[i] << shift) + inside
    for i in range(len(index)):
        value[i] = tree[index[i]]


@compiled
def set_priorities(  # type: ignore[no-untyped-def]
    tree, starts, shift, capacity, index, priority, epsilon, alpha, largest, nonfinite
):
    """Leaves of raw priorities, as ReplayBuffer.update_priorities has it; False as above."""
    for leaf in index:
        if leaf < 0 or leaf >= capacity:
            return False
    value = np.empty(len(index), np.float32)
    before = largest[()]
    for i in range(len(index)):
        raw = priority[i]
        if not np.isfinite(raw):
            nonfinite[()] = True
            raw = before
        raw = min(max(raw, np.float32(0)), _LARGEST)
        largest[()] = max(largest[()], raw)
        value[i] = (raw + epsilon) ** alpha if tree[index[i]] > 0 else np.float32(0)
    return set_leaves(tree, starts, shift, capacity, index, value)


@compiled
def importance_weights(value, beta, weight):  # type: ignore[no-untyped-def]
    """Weights [B] of leaves drawn, the largest 1; ``weight`` may be ``value``."""
    smallest = value.min()
    for i in range(len(value)):
        weight[i] = (smallest / value[i]) ** np.float32(beta)


@compiled
def add_row(  # type: ignore[no-untyped-def]
    tree, starts, shift, rows_of_ring, stack, n_step,
    prioritized, epsilon, alpha, largest,
    frames, actions, rewards, terminations, truncations, firsts, cursor, newest,
    observation, action, reward, terminated, truncated, first,
):  # fmt: skip
    """One row for every env: its frame, its scalars and its leaves, as BufferInTorch.add_row."""
    num_envs = len(newest)
    size = rows_of_ring * num_envs
    leaf = (largest[()] + epsilon) ** alpha if prioritized else np.float32(1)
    changed = np.empty(2 * num_envs, np.int64)
    for env in range(num_envs):
        at = _wrapped(newest[env] + num_envs, size)
        ready = _wrapped(newest[env] + (1 - n_step) * num_envs, size)
        expired = _wrapped(newest[env] + (1 + stack) * num_envs, size)
        frames[at] = observation[env]
        firsts[at] = first[env]
        keep = not first[env]
        actions[at] = action[env] if keep else 0
        rewards[at] = reward[env] if keep else np.float32(0)
        terminations[at] = terminated[env] and keep
        truncations[at] = truncated[env] and keep
        tree[expired] = 0
        # The row after it belongs to the same episode; where n is 1 that row was just written.
        tree[ready] = np.float32(0) if firsts[_wrapped(ready + num_envs, size)] else leaf
        changed[env], changed[num_envs + env] = expired, ready
        newest[env] = at
        cursor[env] += 1
    _sum_up(tree, starts, shift, changed)


@compiled
def all_go_on(frames, terminations, truncations, cursor, newest, observation):  # type: ignore[no-untyped-def]
    """Whether every env's newest row is in mid-episode and holds ``observation`` [N, size]."""
    for env in range(len(newest)):
        at = newest[env]
        if cursor[env] < 0 or terminations[at] or truncations[at]:
            return False
        differs = 0
        for j in range(frames.shape[1]):  # no jump within: many at a time
            differs |= frames[at, j] != observation[env, j]
        if differs:
            return False
    return True


@compiled
def stack_rows(index, age, first, size, num_envs, repeat, out):  # type: ignore[no-untyped-def]
    """Rows of the frames of the stack at ``index``, oldest first, into ``out`` [S].

    ``age`` is how many steps the episode has behind it, -1 where ``first`` is to say so. Returns
    it, at most S - 1. The frame of row ``size`` is zero.
    """
    stack = len(out)
    if age < 0:
        age = 0
        while age < stack - 1 and not first[_wrapped(index - age * num_envs, size)]:
            age += 1
    for place in range(stack):
        back = stack - 1 - place
        if back > age and not repeat:
            out[place] = size
        else:
            out[place] = _wrapped(index - min(back, age) * num_envs, size)
    return age


@compiled
def stacks(index, first, num_envs, repeat, out):  # type: ignore[no-untyped-def]
    """Rows of the frames of the stacks at ``index`` [B], into ``out`` [B, S]."""
    for i in range(len(index)):
        stack_rows(index[i], -1, first, len(first), num_envs, repeat, out[i])


@compiled
def copy_frames(frames, rows, out):  # type: ignore[no-untyped-def]
    """Frames at ``rows`` [H, B, S] of ``frames`` [rows, size] into ``out`` [H, B, S, size].

    Both stacks of a transition one after the other, for they share all frames but n: those come
    from the cache the second time, where a whole batch of first stacks would have driven them out.
    """
    halves, count, stack = rows.shape
    for i in range(count):
        for half in range(halves):
            for place in range(stack):
                row = rows[half, i, place]
                for j in range(frames.shape[1]):  # becomes a copy of memory
                    out[half, i, place, j] = frames[row, j]


@compiled
def transitions(  # type: ignore[no-untyped-def]
    index, num_envs, gamma_powers, repeat,
    actions, rewards, terminations, truncations, firsts,
    action, reward, discount, frames,
):  # fmt: skip
    """What FrameRing.transition returns, with rows of frames, [2, B, S], instead of frames."""
    size = len(firsts)
    n_step = len(gamma_powers) - 1
    # A loop of its own, so short that a processor waits for dozens of rows at a time. What else a
    # row holds comes from memory with its action.
    for i in range(len(index)):
        action[i] = actions[_wrapped(index[i] + num_envs, size)]
    for i in range(len(index)):
        following = _wrapped(index[i] + num_envs, size)
        last, steps = following, 1
        total = np.float64(rewards[last])
        # Nothing after a step belongs to the episode if it ended there by a flag or without one.
        while steps < n_step and not (terminations[last] or truncations[last]):
            after = _wrapped(last + num_envs, size)
            if firsts[after]:
                break
            total += np.float64(rewards[after]) * gamma_powers[steps]
            last = after
            steps += 1
        reward[i] = total
        discount[i] = np.float32(0) if terminations[last] else gamma_powers[steps]
        age = stack_rows(index[i], -1, firsts, size, num_envs, repeat, frames[0, i])
        # No reset lies between the two rows, so s' has as many steps more behind it.
        stack_rows(last, age + steps, firsts, size, num_envs, repeat, frames[1, i])


@compiled
def sample(  # type: ignore[no-untyped-def]
    tree, starts, shift, uniform, stratified, beta,
    num_envs, gamma_powers, repeat,
    actions, rewards, terminations, truncations, firsts, frames,
    index, action, reward, discount, weight, observations,
):  # fmt: skip
    """A whole batch, as ReplayBuffer.sample has it: fills the last six, and ``uniform`` is used up.

    Without ``stratified`` the weights are 1. ``observations`` is [2, B, S, size]: s and s'. False,
    and nothing to be read, where every leaf is 0.
    """
    count = len(index)
    if stratified:
        for i in range(count):
            uniform[0, i] = (uniform[0, i] + np.float32(i)) / np.float32(count)
    draw_leaves(tree, starts, shift, uniform, index, weight)
    if weight[0] == 0:
        return False
    if stratified:
        importance_weights(weight, beta, weight)
    else:
        weight[:] = np.float32(1)
    rows = np.empty(observations.shape[:3], np.int64)
    transitions(
        index, num_envs, gamma_powers, repeat,
        actions, rewards, terminations, truncations, firsts,
        action, reward, discount, rows,
    )  # fmt: skip
    copy_frames(frames, rows, observations)
    return True

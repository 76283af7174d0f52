"""Triton kernel of :mod:`benchmarks.gpu.ladder.fused_gather`. Imported only where it runs.

Checked in Triton's interpreter, and compiled for a GPU; not run on one.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gather(
    frames, actions, rewards, terminateds, truncateds, firsts, index, powers,
    inputs, action, reward, discount,
    batch, size, num_envs,
    N_STEP: tl.constexpr, STACK: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
    SIDE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """One row of blocks of one stack per program: [2 batch, HEIGHT / SIDE] programs.

    The first ``batch`` stacks are s, the others s'. Each program walks the n steps anew, which are
    a few bytes; those that write no part of a transition's scalars throw them away.

    Args:
        frames: uint8 [size + 1, HEIGHT * WIDTH]; the last is zero.
        actions: int64, of row i at 2 i (the scalars of a row lie in 16 bytes).
        rewards: float32, of row i at 4 i.
        terminateds: uint8, of row i at 16 i.
        truncateds: Likewise.
        firsts: Likewise.
        index: int64 [batch], rows at which transitions start.
        powers: float32 [N_STEP + 1], of gamma.
        inputs: [2 batch, HEIGHT / SIDE, WIDTH / SIDE, SIDE * SIDE * STACK], written.
        action: int64 [batch], written.
        reward: float32 [batch], written.
        discount: float32 [batch], written.
        batch: B.
        size: Rows.
        num_envs: N; the row after row i is i + N modulo ``size``.
        N_STEP: n.
        STACK: S.
        HEIGHT: Of a frame.
        WIDTH: Of a frame.
        SIDE: Of a block.
        LANES: A power of two, at least WIDTH * SIDE * STACK.
    """
    which, block_row = tl.program_id(0), tl.program_id(1)
    start = tl.load(index + which % batch)
    row, last = start, start
    total, steps, alive = 0.0, 0, 1
    stopped = 0
    for k in tl.static_range(N_STEP):
        row = (row + num_envs) % size
        if k > 0:  # a reset without a flag ends an episode, too
            stopped = tl.maximum(stopped, tl.load(firsts + 16 * row).to(tl.int32))
        going = stopped == 0
        total += tl.where(going, tl.load(powers + k) * tl.load(rewards + 4 * row), 0.0)
        over = tl.load(terminateds + 16 * row).to(tl.int32)
        alive = tl.where(going & (over > 0), 0, alive)
        steps += tl.where(going, 1, 0)
        last = tl.where(going, row, last)
        stopped = tl.maximum(stopped, over)
        stopped = tl.maximum(stopped, tl.load(truncateds + 16 * row).to(tl.int32))
    if (which < batch) & (block_row == 0):
        tl.store(action + which, tl.load(actions + 2 * ((start + num_envs) % size)))
        tl.store(reward + which, total)
        tl.store(discount + which, tl.load(powers + steps) * alive)

    newest = tl.where(which < batch, start, last)
    lane = tl.arange(0, LANES)
    channel = lane % (SIDE * SIDE * STACK)
    age = STACK - 1 - channel % STACK  # the oldest frame first
    pixel = channel // STACK
    y = block_row * SIDE + pixel // SIDE
    x = lane // (SIDE * SIDE * STACK) * SIDE + pixel % SIDE
    before = tl.zeros((LANES,), tl.int32)  # whether the frame is of the episode before
    for k in tl.static_range(STACK - 1):
        first = tl.load(firsts + 16 * ((newest + size - k * num_envs) % size)).to(tl.int32)
        before = tl.maximum(before, tl.where(age > k, first, 0))
    source = (newest + size - age.to(tl.int64) * num_envs) % size
    inside = lane < WIDTH * SIDE * STACK
    byte = tl.load(
        frames + source * (HEIGHT * WIDTH) + y * WIDTH + x,
        mask=inside & (before == 0), other=0,
    )  # fmt: skip
    width = WIDTH * SIDE * STACK
    place = inputs + (which * (HEIGHT // SIDE) + block_row).to(tl.int64) * width + lane
    tl.store(place, byte.to(tl.float32).to(inputs.dtype.element_ty), mask=inside)

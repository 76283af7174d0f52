"""Triton kernel of :mod:`benchmarks.gpu.ladder.flat_adam`. Imported only where it runs.

Checked in Triton's interpreter, and compiled for a GPU; not run on one. The interpreter cuts where
it should round to bfloat16, so that rounding is checked on a GPU only.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def adam(
    parameter, gradient, exp_avg, exp_avg_sq, lowered, step, learning_rate, epsilon, count,
    LOWERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One step on BLOCK parameters per program, and their copy in bfloat16.

    Args:
        parameter: float32 [count], written.
        gradient: float32 [count].
        exp_avg: float32 [count], written.
        exp_avg_sq: float32 [count], written.
        lowered: bfloat16 [count], written where LOWERS.
        step: float32, this step's number, from 1.
        learning_rate: float32.
        epsilon: Added to the root.
        count: Parameters.
        LOWERS: Whether there is a copy.
        BLOCK: A power of two.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    g = tl.load(gradient + at, mask=inside, other=0.0)
    m = tl.load(exp_avg + at, mask=inside, other=0.0)
    v = tl.load(exp_avg_sq + at, mask=inside, other=0.0)
    p = tl.load(parameter + at, mask=inside, other=0.0)
    t = tl.load(step).to(tl.float64)
    m += 0.1 * (g - m)
    v = 0.999 * v + 0.001 * g * g
    # beta^t = 2^(t log2 beta); in float64, for at the first steps it is almost 1, and what a GPU
    # has for exp2 in float32 is an approximation.
    rate = (tl.load(learning_rate) / (1.0 - tl.exp2(t * -0.15200309344504997))).to(tl.float32)
    correction = tl.sqrt((1.0 - tl.exp2(t * -0.0014434168696687186)).to(tl.float32))
    p -= rate * m / (tl.sqrt(v) / correction + epsilon)
    tl.store(exp_avg + at, m, mask=inside)
    tl.store(exp_avg_sq + at, v, mask=inside)
    tl.store(parameter + at, p, mask=inside)
    if LOWERS:
        tl.store(lowered + at, p.to(tl.bfloat16), mask=inside)

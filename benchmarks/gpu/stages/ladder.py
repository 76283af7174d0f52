"""Whole updates, drawing and writing back included, rung by rung."""

from __future__ import annotations

import copy
import time
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.ladder.fused_gather import KernelReplay
from benchmarks.gpu.ladder.rung_learner import rung_learner, rung_replay
from benchmarks.gpu.ladder.rungs import LAUNCHES, RUNGS, Rung
from benchmarks.gpu.session import Session
from fastdqn.bench.checks import expect
from fastdqn.learning.learner import Learner
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.system.compilation import unchanged

# How it trains first, then what could take its place.
ORDER = {
    32: (
        "2_graph", "7_fused", "2a_eager_replay", "6_2B", "4_s2d", "3_flatadam", "5_streams",
        "0_eager", "1_compile",
    ),
    256: ("2_graph", "7_fused", "2a_eager_replay", "6_2B", "0_eager"),
}  # fmt: skip
# Hessel 2018, as in the presets for Atari. It also keeps the first steps of Adam from being mere
# signs, so that two ways of computing one gradient can be compared by the steps they lead to.
_OPTIONS: dict[str, Any] = {
    "learning_rate": 6.25e-5, "optimizer_epsilon": 1.5e-4, "target_period_updates": 10**6
}  # fmt: skip
_BETA = 0.6
# Of the change of all parameters, in the 2-norm; twice the gradient is off by 0.3. float32
# convolutions are TF32 on CUDA.
_TOLERANCE = {"fp32": 5e-2, "bf16": 0.2}


def measure(session: Session, *, batch_size: int) -> None:
    """An entry for each rung: times per update by updates per launch, its launches, its memory."""
    for name in ORDER[batch_size]:
        session.measure(name, partial(measure_rung, session, RUNGS[name], batch_size))


def measure_rung(session: Session, rung: Rung, batch_size: int) -> dict[str, Any]:
    """Check one against the eager learner in float32, then time it; one compilation for all K."""
    context = session.context
    batch_size = context.small(batch_size, 4)
    plain = context.replay("nature", prioritized=True, mode=rung.replay_mode)
    network = context.network("nature")
    options = {"device": session.device, **_OPTIONS}
    reference = Learner(copy.deepcopy(network), mode="eager", precision="fp32", **options)
    if context.smoke:  # the same tracing without minutes of code generation
        options["compile_backend"] = "aot_eager"
    learner = rung_learner(network, rung, **options)
    replay = rung_replay(plain, rung, learner)
    if session.on_cuda:
        torch.cuda.reset_peak_memory_stats(session.device)

    began = time.perf_counter()
    off = _difference(learner, replay, reference, batch_size)
    if not off <= _TOLERANCE[learner.precision]:  # the times are worth having all the same
        session.fail(f"{rung.name}/check", f"parameters move {off:.3g} off the eager learner's")
    context.synchronize()
    found: dict[str, Any] = {
        "precision": learner.precision,
        "mode": learner.mode,
        "first_call_s": round(time.perf_counter() - began, 1),
        "parameters_off": off,
    }
    for launch in LAUNCHES if rung.mode == "graph" else (1,):
        learner.updates_per_launch = launch
        update = partial(learner.update_from, replay, launch, batch_size=batch_size, beta=_BETA)
        found[f"K{launch}"] = session.time(update, units=launch)
    learner.updates_per_launch = 1
    single = partial(learner.update_from, replay, 1, batch_size=batch_size, beta=_BETA)
    found["kernels"] = session.kernels(single)  # last: nothing is timed after a profile
    statistics = learner.read_statistics()
    expect(statistics["finite"] == learner.updates, "a loss is not finite")
    if session.on_cuda:
        found["peak_bytes"] = torch.cuda.max_memory_allocated(session.device)
    return found


def _difference(
    learner: Learner, replay: ReplayBuffer, reference: Learner, batch_size: int
) -> float:
    """One update by each on the same draws: how far the one moves the parameters off the other.

    Returns:
        The difference of the two moves over the reference's, in the 2-norm.
    """
    before = learner.flat.data.clone()
    # Kernels draw a neighbour now and then where sums round otherwise, so both draw by them.
    stacks = KernelReplay(replay, dtype=None) if isinstance(replay, KernelReplay) else replay
    written = [*replay.tree.tensors(), replay.max_priority, replay.nonfinite_priority]
    with unchanged(written, [replay.generator]):
        reference.update_from(stacks, 1, batch_size=batch_size, beta=_BETA)
    learner.update_from(replay, 1, batch_size=batch_size, beta=_BETA)
    moved, expected = learner.flat.data - before, reference.flat.data - before
    return round(float((moved - expected).norm() / expected.norm()), 4)

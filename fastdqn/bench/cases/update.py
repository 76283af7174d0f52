"""Whole updates: sample, gather, targets, gradients, optimizer, and write-back if prioritized."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fastdqn.bench.checks import expect, expect_close
from fastdqn.bench.context import Context, network_work
from fastdqn.bench.floors import NetworkWork
from fastdqn.bench.workload import UnavailableError, Workload
from fastdqn.learning.choose_objective import objective_for
from fastdqn.learning.learner import Learner
from fastdqn.learning.munchausen import Munchausen
from fastdqn.learning.objectives import Forward, Objective, first_trained
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.system.compilation import unchanged

# Hessel 2018, as in the presets for Atari. It also keeps the first steps of Adam from being mere
# signs, so that two ways of computing one gradient can be compared by the steps they lead to.
_OPTIMIZER: dict[str, Any] = {"learning_rate": 6.25e-5, "optimizer_epsilon": 1.5e-4}
_BETA = 0.6
# Of the change of all parameters, in the 2-norm. float32 convolutions are TF32 on CUDA.
_TOLERANCE = {"fp32": 5e-2, "bf16": 0.3}


def make(
    context: Context,
    *,
    net: str,
    batch_size: int,
    mode: str,
    launch: int,
    options: Mapping[str, Any] | None = None,
    munchausen: bool = False,
    prioritized: bool = False,
    n_step: int = 1,
) -> Workload:
    """The workload of one ``update/`` case: a repeat is one call of K updates.

    ``options`` are the network's. The learner and the one that it is checked against draw the same
    random numbers, where they draw any: both have the same seed.

    ``compile_s`` is the time of the first call. What an earlier learner of the process has compiled
    already is not compiled again, so it belongs to the first case of a family.
    """
    _require(context, mode)
    batch_size = context.small(batch_size, 4)
    replay = context.replay(
        net, prioritized=prioritized, n_step=n_step, mode="eager" if mode == "eager" else "auto"
    )
    options = options or {}

    def make_learner(**more: Any) -> Learner:
        network = context.network(net, **options)
        objective = objective_for(network, munchausen=Munchausen()) if munchausen else None
        return Learner(
            network,
            objective=objective,
            updates_per_launch=launch,
            device=context.device,
            **_OPTIMIZER,
            **more,
        )

    # In a smoke run the same tracing without minutes of code generation.
    learner = make_learner(mode=mode, compile_backend="aot_eager" if context.smoke else "inductor")
    work, others = _forwards(learner.objective, net, options)
    details: dict[str, Any] = {
        "precision": learner.precision,
        "mode": learner.mode,
        "updates_per_launch": launch,
        "replay_bytes": replay.nbytes(),
    }

    def run(repeats: int) -> None:
        for _ in range(repeats):
            learner.update_from(replay, launch, batch_size=batch_size, beta=_BETA)

    def check() -> None:
        parameters = sum(p.numel() for p in learner.network.parameters())
        expect(parameters == work.parameters, f"{parameters:,} parameters, not {work.parameters:,}")
        reference = make_learner(mode="eager", precision="fp32")
        before = learner.flat.data.clone()
        with unchanged(_written(replay), [replay.generator]):
            expected = reference.update_from(replay, launch, batch_size=batch_size, beta=_BETA)
            assert expected is not None
            errors = expected.td_error.clone()
        began = time.perf_counter()
        actual = learner.update_from(replay, launch, batch_size=batch_size, beta=_BETA)
        context.synchronize()
        if learner.mode != "eager":
            details["compile_s"] = time.perf_counter() - began
        tolerance = _TOLERANCE[learner.precision]
        if actual is not None:
            expect_close(actual.td_error, errors, tolerance, "TD errors")
        expect_close(
            learner.flat.data - before,
            reference.flat.data - before,
            tolerance,
            f"change of the parameters in {launch} update(s), against eager float32",
        )

    precision = learner.precision
    return Workload(
        run=run,
        check=check,
        unit="update",
        units=launch,
        counts={"updates": 1, "samples": batch_size},
        floor=work.update_beside(others, batch_size, precision),
        threads=context.threads(net),
        details=details,
    )


def _forwards(
    objective: Objective, net: str, options: Mapping[str, Any]
) -> tuple[NetworkWork, list[NetworkWork]]:
    """The forward that trains, and the others of an update."""
    samples: Mapping[Forward, int] = getattr(objective, "samples", {})
    works = {
        forward: network_work(net, **options, fractions=samples.get(forward))
        for forward in objective.forwards
    }
    return works.pop(first_trained(objective)), list(works.values())


def _require(context: Context, mode: str) -> None:
    if mode == "graph" and context.device.type != "cuda":
        raise UnavailableError("needs a CUDA device")
    if mode == "compile" and not context.smoke:
        context.require_compiler()


def _written(replay: ReplayBuffer) -> list[Tensor]:
    """What an update changes of the replay."""
    return [*replay.tree.tensors(), replay.max_priority, replay.nonfinite_priority]


def eager_learner(context: Context, net: str) -> Learner:
    """The plain learner that peers are checked against."""
    return Learner(
        context.network(net),
        mode="eager",
        precision="fp32",
        loss="huber",
        device=context.device,
        **_OPTIMIZER,
    )

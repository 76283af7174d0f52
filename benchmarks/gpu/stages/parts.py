"""The parts of a turn, each alone: acting, storing, drawing, writing back, Adam.

Beside each kernel of the ladder stands what torch does in its place, and beside the sum tree of
2^20 leaves one cumulative sum over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from benchmarks.gpu.ladder.flat_adam import FlatAdam
from benchmarks.gpu.ladder.fused_gather import KernelReplay
from benchmarks.gpu.session import Session
from fastdqn.acting.actor import Actor
from fastdqn.bench.cases import per
from fastdqn.bench.random_replay import fill_random
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.learning.learner import Learner
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.system.compilation import CapturedStep, compile_pure
from fastdqn.types import TimeStep

_LEAVES = 2**20


def measure(session: Session) -> None:
    """Its entries, what the targets are about first, and one of each kind before the others."""
    _trees(session, 256)
    _turn(session, 64)
    _replay(session, 32)
    for by in _ways(session):
        session.measure(f"adam/{by}", partial(_adam, session, by))
    for tree in ("sumtree", "torchrl", "cumsum"):
        for work in ("sample", "update"):
            session.measure(f"per/{work}/{tree}", partial(_per_case, session, work, tree))
    _replay(session, 256)
    _trees(session, 32)
    _turn(session, 16)
    _turn(session, 128)


def _ways(session: Session) -> tuple[str, ...]:
    """Of doing what the ladder has a kernel for; on a CPU kernels need Triton's interpreter."""
    return ("torch", "triton") if session.on_cuda else ("torch",)


# --- acting and storing --------------------------------------------------------------------------


def _turn(session: Session, num_envs: int) -> None:
    """Acting on the newest stacks, actions on the host; and storing a row from the host."""
    context, device = session.context, session.device
    modes = ("graph", "eager") if session.on_cuda else ("eager",)
    num_envs_here = context.small(num_envs, 4)
    for mode in modes:

        def act(mode: str = mode) -> dict[str, Any]:
            replay = context.replay("nature", prioritized=True, num_envs=num_envs_here, mode=mode)
            learner = Learner(context.network("nature"), device=device, mode="eager")
            actor = Actor(learner.acting_network, num_envs_here, device=device, mode=mode)
            call = partial(actor.act_from, replay)
            return {**session.time(call, host_clock=True), "kernels": session.kernels(call)}

        def add(mode: str = mode) -> dict[str, Any]:
            replay = context.replay("nature", prioritized=True, num_envs=num_envs_here, mode=mode)
            nothing = np.zeros(num_envs_here, bool)
            frames = np.random.default_rng(0).integers(0, 256, (num_envs_here, 84, 84), np.uint8)
            step = TimeStep(frames, np.zeros(num_envs_here, np.float32), nothing, nothing, nothing)
            actions = np.zeros(num_envs_here, np.int64)

            def call() -> None:
                replay.add(step, actions)
                context.synchronize()

            return {**session.time(call, host_clock=True), "kernels": session.kernels(call)}

        session.measure(f"act/N{num_envs}/{mode}", act)
        session.measure(f"add/N{num_envs}/{mode}", add)
        context.forget_replays()  # 7 GB for each number of envs and mode


# --- drawing and writing back --------------------------------------------------------------------


def _replay(session: Session, batch_size: int) -> None:
    """Both stacks and all that belongs to them, from a replay of images."""
    context = session.context
    size = context.small(batch_size, 8)
    dtype = torch.bfloat16 if context.precision("nature") == "bf16" else torch.float32
    ways = {
        "compiled": lambda: context.replay("nature", prioritized=True),
        "eager": lambda: context.replay("nature", prioritized=True, mode="eager"),
        "triton": lambda: KernelReplay(context.replay("nature", prioritized=True), dtype=dtype),
    }
    if not session.on_cuda:
        del ways["triton"], ways["compiled"]
    for way, make in ways.items():

        def sample(make: Callable[[], ReplayBuffer] = make) -> dict[str, Any]:
            replay, beta = make(), torch.tensor(0.6, device=session.device)
            call = partial(replay.sample, size, beta=beta)
            return {**session.time(call), "kernels": session.kernels(call)}

        def write(make: Callable[[], ReplayBuffer] = make) -> dict[str, Any]:
            replay = make()
            index = replay.sample(size, beta=0.6).index
            priority = torch.rand(size, device=session.device)
            call = partial(replay.write_priorities, index, priority)
            return {**session.time(call), "kernels": session.kernels(call)}

        session.measure(f"sample/B{batch_size}/{way}", sample)
        session.measure(f"write/B{batch_size}/{way}", write)


# --- the sum tree alone --------------------------------------------------------------------------


def _trees(session: Session, batch_size: int) -> None:
    """A draw and its write-back at 2^20 leaves, arithmetic of the priorities included."""
    for way in ("graph", "graph_triton", "cumsum") if session.on_cuda else ("eager", "cumsum"):
        key = f"tree/1M/B{batch_size}/{way}"
        session.measure(key, partial(_tree, session, batch_size, way))


def _tree(session: Session, batch_size: int, way: str) -> dict[str, Any]:
    batch_size = session.context.small(batch_size, 8)
    replay = _vectors(session, kernels=way == "graph_triton")
    draw = replay.tree.sample
    if way == "graph":  # as the replay compiles its own, with the rows behind it
        draw = compile_pure(draw, replay.mode)
    generator = session.context.generator(1)
    priority = torch.rand(batch_size, generator=generator, device=session.device)
    leaves = replay.tree.leaves.clone()

    def cycle() -> tuple[Tensor, ...]:
        if way == "cumsum":
            index = _by_cumulative_sum(leaves, batch_size, generator)
            leaves.index_copy_(0, index, (priority + replay.priority_epsilon) ** replay.alpha)
        else:
            shape = (replay.tree.levels, batch_size)
            uniform = torch.rand(shape, generator=generator, device=session.device)
            index, _ = draw(uniform)
            replay.write_priorities(index, priority)
        return (index,)

    if not session.on_cuda:
        return {**session.time(cycle)}
    state = [leaves, *replay.tree.tensors(), replay.max_priority, replay.nonfinite_priority]
    captured = CapturedStep(cycle, state, [generator], session.device)
    return {**session.time(captured), "kernels": session.kernels(captured)}


def _vectors(session: Session, *, kernels: bool) -> ReplayBuffer:
    """A full replay of four numbers per row, 2^20 rows."""
    leaves = session.context.small(_LEAVES, 2**12)
    replay = ReplayBuffer(
        leaves, 16, Box(-np.inf, np.inf, (4,), np.float32), prioritized=True, device=session.device
    )
    fill_random(replay, num_actions=2)
    return KernelReplay(replay, dtype=None) if kernels else replay


def _by_cumulative_sum(leaves: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Draws, int64 [B], without a tree."""
    cumulative = leaves.double().cumsum(0)  # a float32 sum of 2^20 leaves loses the small ones
    uniform = torch.rand(batch_size, generator=generator, device=leaves.device, dtype=torch.float64)
    return torch.searchsorted(cumulative, uniform * cumulative[-1], right=True).clamp_(
        max=len(leaves) - 1
    )


def _per_case(session: Session, work: str, tree: str) -> dict[str, float]:
    """Eager, each call on its own, checked: as ``fastdqn bench`` has it."""
    workload = per.make(session.context, work=work, tree=tree, size=_LEAVES, batch_size=256)
    return session.time_workload(workload)


# --- the optimizer -------------------------------------------------------------------------------


def _adam(session: Session, by: str) -> dict[str, Any]:
    """A step on the Nature network's parameters, and their copy in bfloat16."""
    flat = FlatParameters(session.context.network("nature"))
    optimizer = FlatAdam(
        flat.data, 1e-4, 1e-8, lowered=flat.data.bfloat16(), kernels=by == "triton"
    )
    gradient = torch.randn_like(flat.data)
    call = partial(optimizer.step, gradient)
    return {**session.time(call), "kernels": session.kernels(call)}

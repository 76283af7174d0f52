"""A learner that computes its update as one rung of the ladder does, and the replay it draws from.

Neither knows of the ladder: a rung is another function for the gradients, another optimizer, and a
replay whose batches hold what that function takes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.ladder.flat_adam import FlatAdam
from benchmarks.gpu.ladder.fused_gather import KernelReplay
from benchmarks.gpu.ladder.gradients import Pieces, from_inputs, one_online_forward, three_streams
from benchmarks.gpu.ladder.nature import nature_torso, with_space_to_depth
from benchmarks.gpu.ladder.rungs import Rung
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.learning.learner import Learner
from fastdqn.learning.update import Gradients, make_gradients
from fastdqn.networks.q_network import QNetwork
from fastdqn.replay.buffer import ReplayBuffer


def rung_learner(
    network: QNetwork,
    rung: Rung,
    *,
    mode: str | None = None,
    learning_rate: float = 1e-4,
    optimizer_epsilon: float = 1e-8,
    **options: Any,
) -> Learner:
    """The learner on one rung; captured on CUDA, and on a CPU the same functions eager.

    Args:
        network: A Nature network.
        rung: Which.
        mode: None for the rung's own, or eager where that cannot be on this device.
        learning_rate: As for :class:`fastdqn.learning.learner.Learner`.
        optimizer_epsilon: Likewise.
        options: Likewise.

    Raises:
        ConfigError: Where the network is another, or an argument not possible on this device.
    """
    nature_torso(network)
    on_cuda = torch.device(options.get("device", "cpu")).type == "cuda"
    own = rung.mode if on_cuda or rung.mode != "graph" else "eager"
    if "adam" in rung.parts:
        options["optimizer"] = partial(_flat_adam, learning_rate, optimizer_epsilon)
    return Learner(
        network,
        mode=mode or own,
        learning_rate=learning_rate,
        optimizer_epsilon=optimizer_epsilon,
        make_gradients=partial(_gradients, rung),
        **options,
    )


def rung_replay(replay: ReplayBuffer, rung: Rung, learner: Learner) -> ReplayBuffer:
    """The replay that the rung's learner draws from, on the memory of ``replay``."""
    if "replay" not in rung.parts:
        return replay
    return KernelReplay(replay, dtype=torch.bfloat16 if learner.bf16 else torch.float32)


def _flat_adam(
    learning_rate: float, epsilon: float, parameter: Tensor, lowered: Tensor | None
) -> FlatAdam:
    return FlatAdam(parameter, learning_rate, epsilon, lowered=lowered)


def _gradients(
    rung: Rung,
    training: nn.Module,
    acting: nn.Module,
    target: nn.Module,
    flat: FlatParameters,
    *,
    autocast: bool,
    compiled: Callable[[Callable[..., Any]], Any],
    **options: Any,
) -> Gradients:
    """As :func:`fastdqn.learning.update.make_gradients`, computed in the rung's way."""
    if "s2d" not in rung.parts or rung.parts == ("s2d",):
        if "s2d" in rung.parts:
            training, acting, target = map(with_space_to_depth, (training, acting, target))
        return make_gradients(
            training, acting, target, flat, autocast=autocast, compiled=compiled, **options
        )
    assert isinstance(training, QNetwork) and isinstance(target, QNetwork)
    pieces = Pieces(training, target, flat, compiled=compiled, **options)
    if "replay" in rung.parts:
        join = from_inputs
    else:
        join = three_streams if "streams" in rung.parts else one_online_forward
    return join(pieces, flat.data.device)

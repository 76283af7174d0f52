"""A learner that computes its update as one rung of the ladder does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fastdqn.bench.ladder.flat_adam import FlatAdam
from fastdqn.bench.ladder.fused_gather import KernelReplay
from fastdqn.bench.ladder.gradients import (
    Gradients,
    Pieces,
    from_inputs,
    one_online_forward,
    three_streams,
)
from fastdqn.bench.ladder.nature import nature_torso, with_space_to_depth
from fastdqn.bench.ladder.rungs import Rung
from fastdqn.compilation import compile_pure
from fastdqn.errors import ConfigError
from fastdqn.flat import FlatParameters
from fastdqn.gradients import make_gradients
from fastdqn.learner import Learner, UpdateResult
from fastdqn.networks import QNetwork
from fastdqn.optimizers import Adam
from fastdqn.replay import ReplayBuffer
from fastdqn.types import Batch


class RungLearner(Learner):
    """The learner on one rung; captured on CUDA, and on a CPU the same functions eager.

    What 7_fused does to the replay takes a :class:`KernelReplay`; from any other it draws as usual,
    as 2b_draw does from one that is uniform or whose draw Numba has compiled.

    Args:
        network: A Nature network.
        rung: Which.
        mode: None for the rung's own, or eager where that cannot be on this device.
        options: As for :class:`fastdqn.learner.Learner`.
    """

    def __init__(
        self, network: QNetwork, rung: Rung, *, mode: str | None = None, **options: Any
    ) -> None:
        nature_torso(network)  # or ConfigError
        self.rung = rung
        self._backend = str(options.get("compile_backend", "inductor"))
        self._draws: dict[int, tuple[ReplayBuffer, Callable[..., Batch]]] = {}
        on_cuda = torch.device(options.get("device", "cpu")).type == "cuda"
        own = rung.mode if on_cuda or rung.mode != "graph" else "eager"
        super().__init__(network, mode=mode or own, make_gradients=self._gradients_of, **options)
        if "adam" in rung.parts:
            plain = self._optimizer
            if not isinstance(plain, Adam) or self.max_grad_norm or self.max_grad_value:
                raise ConfigError("The flat Adam is for optimizer = 'adam' without clipping.")
            self._optimizer = FlatAdam(
                self.flat.data,
                float(plain.learning_rate),
                plain.epsilon,
                lowered=None if self._twin is None else self._twin.data,
            )

    def _gradients_of(
        self,
        training: nn.Module,
        acting: nn.Module,
        target: nn.Module,
        flat: FlatParameters,
        *,
        compiled: Callable[[Callable[..., Any]], Any],
        **options: Any,
    ) -> Gradients:
        if "s2d" not in self.rung.parts:
            return make_gradients(training, acting, target, flat, compiled=compiled, **options)
        assert isinstance(training, QNetwork) and isinstance(target, QNetwork)
        assert isinstance(acting, QNetwork)
        if self.rung.parts == ("s2d",):
            online, choosing, valuing = map(with_space_to_depth, (training, acting, target))
            return make_gradients(online, choosing, valuing, flat, compiled=compiled, **options)
        options.pop("autocast")
        pieces = Pieces(training, target, flat, compiled=compiled, **options)
        if "replay" in self.rung.parts:
            self._gradients_of_inputs = from_inputs(pieces, self.device)
        join = three_streams if "streams" in self.rung.parts else one_online_forward
        return join(pieces, self.device)

    def _steps(self, replay: ReplayBuffer, batch_size: int, launch: int) -> UpdateResult:
        if "draw" in self.rung.parts and replay.prioritized and not replay.compiled:
            return self._steps_with_draw(replay, batch_size, launch)
        if not isinstance(replay, KernelReplay):
            return super()._steps(replay, batch_size, launch)
        computing = self.network if self._twin is None else self._twin.network
        dtype = nature_torso(computing).conv1.weight.dtype
        for _ in range(launch):
            inputs, weight, index = replay.sample_inputs(batch_size, self._beta, dtype)
            gradient, summary, td, priority = self._gradients_of_inputs(*inputs, weight)
            with torch.no_grad():
                self._apply(gradient, summary)
            replay.update_priorities(index, priority)
        return UpdateResult(summary[0], td, priority)

    def _steps_with_draw(self, replay: ReplayBuffer, batch_size: int, launch: int) -> UpdateResult:
        """The draw only reads, so Inductor may fuse its ninety operations; writes stay outside."""
        if id(replay) not in self._draws:
            draw = compile_pure(replay._sample, self.mode, self._backend)
            self._draws[id(replay)] = (replay, draw)  # the reference keeps the id unique
        draw = self._draws[id(replay)][1]
        for _ in range(launch):
            batch = draw(
                torch.rand(
                    (replay.tree.levels, batch_size),
                    generator=replay.generator, device=self.device,
                ),
                self._beta,
            )  # fmt: skip
            result = self._update(batch)
            replay.update_priorities(batch.index, result.priority)
        return result

    def _apply(self, gradient: Tensor, summary: Tensor) -> None:
        if not isinstance(self._optimizer, FlatAdam):
            return super()._apply(gradient, summary)
        self._optimizer.step(gradient)
        self.statistics.add_(summary)
        if self.target_period_updates == 1:
            self.sync_target(self.target_tau)

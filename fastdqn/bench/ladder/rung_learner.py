"""A learner that computes its update as one rung of the ladder does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastdqn.bench.ladder.gradients import Gradients, Pieces, one_online_forward, three_streams
from fastdqn.bench.ladder.nature import nature_torso, with_space_to_depth
from fastdqn.bench.ladder.rungs import Rung
from fastdqn.compilation import compile_pure
from fastdqn.gradients import make_gradients
from fastdqn.learner import Learner
from fastdqn.networks import QNetwork


class RungLearner(Learner):
    """The learner on one rung; captured on CUDA, and on a CPU the same functions eager.

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
        on_cuda = torch.device(options.get("device", "cpu")).type == "cuda"
        own = rung.mode if on_cuda or rung.mode != "graph" else "eager"
        super().__init__(network, mode=mode or own, **options)

    def _make_gradients(
        self,
        training: nn.Module,
        target: nn.Module,
        *,
        loss: Callable[[Tensor], Tensor],
        double: bool,
        backend: str,
    ) -> Gradients:
        compiled = partial(compile_pure, mode=self.mode, backend=backend)
        if "s2d" not in self.rung.parts:
            return super()._make_gradients(
                training, target, loss=loss, double=double, backend=backend
            )
        assert isinstance(training, QNetwork) and isinstance(target, QNetwork)
        if self.rung.parts == ("s2d",):
            gradients = make_gradients(
                with_space_to_depth(training),
                with_space_to_depth(self.acting_network),
                with_space_to_depth(target),
                self.flat,
                loss=loss,
                double=double,
                autocast=self.autocast,
            )
            return compiled(gradients)
        pieces = Pieces(training, target, self.flat, loss=loss, double=double, compile=compiled)
        join = three_streams if "streams" in self.rung.parts else one_online_forward
        return join(pieces, self.device)

"""The random numbers of an update, drawn outside what is compiled (:mod:`fastdqn.networks.draws`).

The learner draws them from a generator of its own, which it saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastdqn.errors import ConfigError
from fastdqn.learning.objectives import Forward, Objective
from fastdqn.networks.draws import Draw, draw_all, draws_of


class UpdateDraws:
    """Which random numbers each forward of an update gets.

    Args:
        network: One without ``random_shapes`` takes none.
        objective: Each of its forwards gets its own, and of quantile fractions as many as its
            ``samples`` say.
    """

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        self._shapes: Any = getattr(network, "random_shapes", None)
        samples: Mapping[Forward, int] = getattr(objective, "samples", {})
        self._samples = {forward: int(count) for forward, count in samples.items()}
        self._forwards: tuple[Forward, ...] = ()
        if draws_of(network, "random_shapes", 1):
            self._forwards = tuple(objective.forwards)
            try:
                list(self._each(1))
            except TypeError as error:
                raise ConfigError(
                    f"The objective ({type(objective).__name__}) wants quantile fractions of a "
                    f"number of its own, and the network's random_shapes does not take it "
                    f"({error}); give it a second argument, samples."
                ) from error

    def __bool__(self) -> bool:
        return bool(self._forwards)

    def draw(self, batch_size: int, generator: torch.Generator) -> list[Tensor]:
        """Float32 tensors in the order of :meth:`by_forward`, on the generator's device."""
        if not self._forwards:
            return []
        return draw_all([draw for _, _, draw in self._each(batch_size)], generator)

    def by_forward(
        self, tensors: Sequence[Tensor], batch_size: int
    ) -> dict[Forward, dict[str, Tensor]]:
        """What :meth:`draw` made, under the names that the network gave them."""
        found: dict[Forward, dict[str, Tensor]] = {forward: {} for forward in self._forwards}
        for (forward, name, _), tensor in zip(self._each(batch_size), tensors, strict=True):
            found[forward][name] = tensor
        return found

    def _each(self, batch_size: int) -> Iterator[tuple[Forward, str, Draw]]:
        for forward in self._forwards:
            own = self._samples.get(forward)
            shapes: Mapping[str, Draw] = (
                self._shapes(batch_size) if own is None else self._shapes(batch_size, own)
            )
            for name, draw in shapes.items():
                yield forward, name, draw

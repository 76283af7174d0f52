"""The random numbers of an update, drawn outside what is compiled.

What is compiled draws other numbers than what is not, and no default generator belongs to one run.
So a network that takes random numbers in its forward (noise, quantile fractions) says which, in a
method ``random_shapes(batch_size)``, and gets them as the argument ``randoms``; the learner draws
them from a generator of its own, which it saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fastdqn.learning.objectives import Forward


class Draw(NamedTuple):
    """One tensor of random numbers: what ``random_shapes`` names."""

    distribution: Literal["uniform", "normal"]  # of [0, 1), or standard
    shape: tuple[int, ...]


class UpdateDraws:
    """Which random numbers each forward of an update gets.

    Args:
        network: One without ``random_shapes`` takes none.
        forwards: Of the objective; each gets its own.
    """

    def __init__(self, network: nn.Module, forwards: Sequence[Forward]) -> None:
        self._shapes = getattr(network, "random_shapes", None)
        self._forwards = () if self._shapes is None else tuple(forwards)

    def __bool__(self) -> bool:
        return bool(self._forwards)

    def draw(self, batch_size: int, generator: torch.Generator) -> list[Tensor]:
        """Float32 tensors in the order of :meth:`by_forward`, on the generator's device.

        One operation for each distribution; the tensors are views of what it drew.
        """
        if not self._forwards:
            return []
        wanted = [draw for _, _, draw in self._each(batch_size)]
        counts = [torch.Size(draw.shape).numel() for draw in wanted]
        parts: dict[str, list[Tensor]] = {}
        for name, function in (("uniform", torch.rand), ("normal", torch.randn)):
            sizes = [n for n, draw in zip(counts, wanted, strict=True) if draw[0] == name]
            if sizes:
                flat = function(sum(sizes), generator=generator, device=generator.device)
                parts[name] = list(flat.split(sizes))
        return [parts[draw.distribution].pop(0).view(draw.shape) for draw in wanted]

    def by_forward(
        self, tensors: Sequence[Tensor], batch_size: int
    ) -> dict[Forward, dict[str, Tensor]]:
        """What :meth:`draw` made, under the names that the network gave them."""
        found: dict[Forward, dict[str, Tensor]] = {forward: {} for forward in self._forwards}
        for (forward, name, _), tensor in zip(self._each(batch_size), tensors, strict=True):
            found[forward][name] = tensor
        return found

    def _each(self, batch_size: int) -> Iterator[tuple[Forward, str, Draw]]:
        if self._shapes is None:
            return
        shapes: Mapping[str, Draw] = self._shapes(batch_size)
        for forward in self._forwards:
            for name, draw in shapes.items():
                yield forward, name, draw

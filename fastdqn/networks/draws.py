"""Random numbers that a network takes in its forward, drawn outside of it.

What is compiled draws other numbers than what is not, and no default generator belongs to one run.
So a network that takes random numbers (noise, quantile fractions) says which, and gets them as the
argument ``randoms``, by name:

- ``random_shapes(batch_size)``: those of a forward in an update;
- ``acting_shapes(num_envs)``: those of a forward that acts in training. Without that method a
  network acts without any.

Called with the observation alone, as in evaluation, it is deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fastdqn.config.checks import shown
from fastdqn.errors import ConfigError

_FUNCTIONS = {"uniform": torch.rand, "normal": torch.randn}


class Draw(NamedTuple):
    """One tensor of random numbers."""

    distribution: Literal["uniform", "normal"]  # of [0, high), or standard
    shape: tuple[int, ...]
    high: float = 1.0


Randoms = Mapping[str, Tensor]


def draws_of(network: Any, method: str, size: int) -> dict[str, Draw]:
    """What a network's ``random_shapes`` or ``acting_shapes`` says for so many rows.

    Nothing where it has no such method.

    Raises:
        ConfigError: Where it raises, or returns something else than draws by name.
    """
    shapes = getattr(network, method, None)
    if shapes is None:
        return {}
    name = f"{method} of the network ({type(network).__name__})"
    try:
        found = shapes(size)
    except Exception as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"{name} does not take a number of rows ({type(error).__name__}: {why}); give it that "
            f"argument."
        ) from error
    if not isinstance(found, Mapping) or not all(map(_is_draw, found.values())):
        raise ConfigError(
            f"{name} returned {shown(found)}; return a dict of fastdqn.networks.draws.Draw, such "
            f"as Draw('normal', (8,)) or Draw('uniform', (8,))."
        )
    return dict(found)


def _is_draw(draw: Any) -> bool:
    return (
        isinstance(draw, Draw)
        and draw.distribution in _FUNCTIONS
        and isinstance(draw.shape, Sequence)
    )


def draw_all(wanted: Sequence[Draw], generator: torch.Generator) -> list[Tensor]:
    """Float32 tensors on the generator's device, in order.

    One operation for each distribution; the tensors are views of what it drew.
    """
    counts = [torch.Size(draw.shape).numel() for draw in wanted]
    parts: dict[str, list[Tensor]] = {}
    for name, function in _FUNCTIONS.items():
        sizes = [n for n, draw in zip(counts, wanted, strict=True) if draw[0] == name]
        if sizes:
            flat = function(sum(sizes), generator=generator, device=generator.device)
            parts[name] = list(flat.split(sizes))
    drawn = [parts[draw.distribution].pop(0).view(draw.shape) for draw in wanted]
    return [
        numbers if draw.high == 1.0 else numbers * draw.high
        for numbers, draw in zip(drawn, wanted, strict=True)
    ]

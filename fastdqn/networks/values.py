"""What the numbers of a head stand for: Q itself, or a distribution of the return.

A head of distributions makes N numbers for each action, [B, A, N]; Q is their expectation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastdqn.config.arguments import SIZES, check_argument
from fastdqn.config.ranges import Range, are_apart
from fastdqn.errors import ConfigError

_FLOAT32 = Range(-1e30, 1e30)


@dataclass(frozen=True)
class ScalarValues:
    """Q itself, [B, A]."""

    @property
    def numbers(self) -> int | None:
        """N, for each action; None: one, without an axis of its own."""
        return None

    def q_values(self, output: Tensor) -> Tensor:
        """[B, A], as it is."""
        return output


@dataclass(frozen=True)
class CategoricalValues:
    """Logits of atoms at fixed values (Bellemare 2017, arXiv 1707.06887), [B, A, N].

    Attributes:
        value_min: Of the first atom.
        value_max: Of the last.
        atoms: N.

    Raises:
        ConfigError: Where one is of another type or out of range, or ``value_min`` is not so far
            below ``value_max`` that the atoms differ in float32.
    """

    value_min: float = -10.0
    value_max: float = 10.0
    atoms: int = 51

    def __post_init__(self) -> None:
        """Check all of them, and make them Python's own."""
        for name in ("value_min", "value_max"):
            value = check_argument(name, getattr(self, name), float, _FLOAT32)
            object.__setattr__(self, name, float(value))
        atoms = check_argument("atoms", self.atoms, int, Range(2, 2**31))
        object.__setattr__(self, "atoms", atoms)
        if not self.value_min < self.value_max:
            raise ConfigError(
                f"value_min = {self.value_min} must be below value_max = {self.value_max}."
            )
        if not are_apart(self.value_min, self.value_max, atoms):
            raise ConfigError(
                f"value_min = {self.value_min} leaves {atoms} atoms up to value_max = "
                f"{self.value_max} no room in float32; lower it."
            )

    @property
    def numbers(self) -> int | None:
        """N, for each action."""
        return self.atoms

    def support(self, device: torch.device) -> Tensor:
        """The atoms' values, float32 [N]."""
        return torch.linspace(self.value_min, self.value_max, self.atoms, device=device)

    def q_values(self, output: Tensor) -> Tensor:
        """``sum_i z_i softmax(logits)_i``, [B, A]."""
        return (output.softmax(dim=-1) * self.support(output.device)).sum(dim=-1)


@dataclass(frozen=True)
class QuantileValues:
    """Values at fractions of the distribution (Dabney 2018a, arXiv 1710.10044), [B, A, N].

    Attributes:
        quantiles: N, at the midpoints ``(i + 0.5) / N``; None: a network of implicit quantiles
            makes one for each fraction that it is given.

    Raises:
        ConfigError: Where that is neither a whole number from 1 nor None.
    """

    quantiles: int | None = 200

    def __post_init__(self) -> None:
        """Check it, and make it Python's own."""
        quantiles = check_argument("quantiles", self.quantiles, int | None, SIZES)
        object.__setattr__(self, "quantiles", quantiles)

    @property
    def numbers(self) -> int | None:
        """N, for each action; None: one in each forward."""
        return self.quantiles

    def q_values(self, output: Tensor) -> Tensor:
        """Their mean, [B, A]."""
        return output.mean(dim=-1)


Values = ScalarValues | CategoricalValues | QuantileValues


def midpoints(count: int, device: torch.device) -> Tensor:
    """``(i + 0.5) / count`` for i = 0 .. count - 1, float32 [count]."""
    return (torch.arange(count, dtype=torch.float32, device=device) + 0.5) / count

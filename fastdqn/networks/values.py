"""What the numbers of a head stand for: Q itself, or a distribution of the return.

A head of distributions makes N numbers for each action, [B, A, N]; Q is their expectation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
    """

    value_min: float = -10.0
    value_max: float = 10.0
    atoms: int = 51

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
    """

    quantiles: int | None = 200

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

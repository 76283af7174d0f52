"""Whether an exported network does what the network does: the same actions, the same Q."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_TOLERANCE = 1e-4  # of |Q|, or of 1 where that is more; float32 sums in another order err by 1e-6
_BATCH = 100


@dataclass(frozen=True)
class Agreement:
    """What came of a comparison.

    Attributes:
        observations: How many were compared.
        same_actions: Of these, those with the same greedy action. Where two actions are worth the
            same within the tolerance, either is.
        same_values: Those whose every Q is the same within the tolerance, 1e-4 of it.
        largest_difference: Of any Q; NaN where one is no number.
    """

    observations: int
    same_actions: int
    same_values: int
    largest_difference: float

    @property
    def holds(self) -> bool:
        """Whether all agree."""
        return self.same_actions == self.same_values == self.observations


@torch.no_grad()
def compare(
    network: Callable[..., Tensor],
    exported: Callable[[tuple[Tensor, ...]], Tensor],
    arrays: tuple[Tensor, ...],
) -> Agreement:
    """Run both on the same observations: on the first one alone, then in batches of 100.

    Args:
        network: Takes the arrays one by one.
        exported: Takes them as one tuple.
        arrays: [N, ...] each, N of 1 or more.
    """
    actions = values = 0
    largest: list[Tensor] = []
    for batch in _batches(arrays):
        expected, found = network(*batch), exported(batch)
        if found.shape != expected.shape or found.dtype != expected.dtype:
            return Agreement(len(arrays[0]), 0, 0, float("nan"))
        difference = (found - expected).abs()
        tolerance = _TOLERANCE * expected.abs().clamp(min=1.0)
        values += int((difference <= tolerance).all(dim=1).sum())
        chosen = found.argmax(dim=1, keepdim=True)
        best = expected.max(dim=1, keepdim=True).values
        worth = expected.gather(1, chosen)
        actions += int((worth >= best - _TOLERANCE * best.abs().clamp(min=1.0)).sum())
        largest.append(difference.max())
    return Agreement(len(arrays[0]), actions, values, float(torch.stack(largest).max()))


def _batches(arrays: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    starts = [0, *range(1, len(arrays[0]), _BATCH)]
    for start, stop in zip(starts, [*starts[1:], len(arrays[0])], strict=True):
        yield tuple(array[start:stop] for array in arrays)

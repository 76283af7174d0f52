"""Adding to a replay as CUDA graphs: one for each place that the arrays come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastdqn.system.compilation import CapturedStep


class CapturedAdds:
    """Graphs by the arrays that they read; a graph reads where it was captured.

    Args:
        device: Of the replay.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graphs: dict[tuple[int, ...], tuple[tuple[Tensor, ...], CapturedStep]] = {}

    def __len__(self) -> int:
        return len(self._graphs)

    def __deepcopy__(self, memo: dict[int, Any]) -> CapturedAdds:
        """None of the graphs: they write to the replay that they were captured of."""
        return CapturedAdds(self._device)

    def of(self, arrays: tuple[Tensor, ...]) -> CapturedStep | None:
        """The graph that adds what lies in these arrays; None: there is none yet."""
        found = self._graphs.get(self._places(arrays))
        return None if found is None else found[1]

    def capture(
        self, arrays: tuple[Tensor, ...], add: Callable[[], Any], state: list[Tensor]
    ) -> CapturedStep:
        """Make the graph for these arrays.

        Args:
            arrays: What is read; those of one place are the same objects every time.
            add: Does it, and holds the replay weakly.
            state: What it changes beside rows.
        """
        captured = CapturedStep(add, state, [], self._device)
        # The reference to the arrays keeps their ids unique.
        self._graphs[self._places(arrays)] = (arrays, captured)
        return captured

    @staticmethod
    def _places(arrays: tuple[Tensor, ...]) -> tuple[int, ...]:
        return tuple(map(id, arrays))

"""The most memory that was in use while a case was timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fastdqn.system.host import resident_bytes


class PeakMemory:
    """Bytes by case: allocated on a GPU, resident on a CPU.

    What the other cases of the family hold meanwhile, and in host memory the interpreter and
    torch themselves, is part of the figure.

    Args:
        device: Where the cases run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.peaks: dict[str, int] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """While a window of this case runs."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        yield
        if self._device.type == "cuda":
            used = torch.cuda.max_memory_allocated(self._device)
        else:
            used = resident_bytes()
        if used:
            self.peaks[name] = max(used, self.peaks.get(name, 0))

"""torch's default generators, which dropout and some envs draw from: part of a run's state.

They belong to the whole process. A run seeds them, saves them and gives them back as they were;
those of NumPy and of Python's ``random`` are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fastdqn.system.devices import restore_generator


class DefaultGenerators:
    """That of the CPU, and on CUDA that of the device, too.

    Args:
        device: Of the run; CUDA with its index.
    """

    def __init__(self, device: torch.device) -> None:
        self._generators = {"cpu": torch.default_generator}
        if device.type == "cuda":
            torch.cuda.init()  # before it there are none
            self._generators["cuda"] = torch.cuda.default_generators[device.index]

    def seed(self, seed: int) -> None:
        """Start all of them at one seed."""
        for generator in self._generators.values():
            generator.manual_seed(seed)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Leave no trace of what is drawn inside."""
        before = self.state_dict()
        try:
            yield
        finally:
            self.load_state_dict(before)

    def state_dict(self) -> dict[str, Any]:
        """Their states, bytes, by type of device."""
        return {name: {"generator": g.get_state()} for name, g in self._generators.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; a type of device that it lacks stays as it is."""
        for name, generator in self._generators.items():
            if name in state:
                restore_generator(generator, state[name]["generator"])

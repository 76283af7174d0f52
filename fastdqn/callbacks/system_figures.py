"""What a run takes of its machine: figures for dashboards."""

from __future__ import annotations

import os
import time

import torch

from fastdqn.system.host import memory_available, resident_bytes


class SystemFigures:
    """Processor and memory of this process, read when a row is logged.

    Args:
        device: Of the run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._since = time.monotonic(), _cpu_s()

    def read(self) -> dict[str, float]:
        """``system/...``: CPUs used since the last reading, bytes, the machine's load."""
        now = time.monotonic(), _cpu_s()
        wall, cpu = (b - a for a, b in zip(self._since, now, strict=True))
        self._since = now
        figures: dict[str, float | None] = {
            "cpus_used": cpu / wall if wall > 0 else None,
            "memory_resident_bytes": resident_bytes(),
            "memory_available_bytes": memory_available(),
            "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        }
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            figures["gpu_memory_used_bytes"] = total - free
            figures["gpu_memory_allocated_bytes"] = torch.cuda.memory_allocated(self._device)
        return {f"system/{name}": float(x) for name, x in figures.items() if x is not None}


def _cpu_s() -> float:
    """Seconds of processor time of this process and of children that have ended."""
    return sum(os.times()[:4])

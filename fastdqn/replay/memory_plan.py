"""Memory is planned before it is allocated: what a replay needs, and what there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fastdqn.errors import MemoryPlanError
from fastdqn.system import host

# Left to everything that no plan knows: the allocator's slack, cuDNN workspaces, the interpreter.
HEADROOM = 0.9


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes per part on one device, before anything is allocated."""

    device: str
    """Where it would lie."""
    capacity: int
    """Rows, a multiple of num_envs."""
    parts: Mapping[str, int]
    """Bytes by name."""
    available: int | None
    """Bytes free on the device; None where nobody says."""

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        """A line per part, for people."""
        width = max(len(name) for name in self.parts)
        lines = [
            f"  {name:<{width}}  {format_bytes(size):>10}" for name, size in self.parts.items()
        ]
        lines.append(f"  {'total':<{width}}  {format_bytes(self.total):>10} on {self.device}")
        if self.available is not None:
            lines[-1] += f" ({format_bytes(self.available)} available)"
        return "\n".join(lines)


def make_plan(
    device: str, capacity: int, parts_of: Callable[[int], dict[str, int]], rows_step: int
) -> MemoryPlan:
    """The plan, or MemoryPlanError naming the largest capacity that fits.

    Args:
        device: Where all parts live.
        capacity: Rows planned for.
        parts_of: Bytes by name for a number of rows; more rows never take less.
        rows_step: The capacity is a multiple of this.
    """
    available = available_memory(device)
    plan = MemoryPlan(device, capacity, MappingProxyType(parts_of(capacity)), available)
    if available is not None and plan.total > available * HEADROOM:
        fits, too_many = 0, capacity // rows_step
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if sum(parts_of(middle * rows_step).values()) <= available * HEADROOM:
                fits = middle
            else:
                too_many = middle
        advice = (
            f"the largest replay_capacity that fits is {fits * rows_step}"
            if fits
            else "not even the smallest replay fits, so free memory or take another device"
        )
        error = MemoryPlanError(
            f"replay_capacity = {capacity} needs {format_bytes(plan.total)} on {device}, where "
            f"{format_bytes(available)} are available ({HEADROOM:.0%} of it is used at most); "
            f"{advice}."
        )
        error.fits = fits * rows_step
        raise error
    return plan


def available_memory(device: str) -> int | None:
    """Bytes that can still be allocated on the device; for a CPU the cgroup's limit counts."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(torch.device(device))
        return free
    return host.memory_available()


def format_bytes(size: float) -> str:
    """``7060000000`` as ``7.06 GB`` (decimal units)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.2f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"

"""Memory is planned before it is allocated: what a replay needs, and what there is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fastdqn.errors import MemoryPlanError

# Left to everything that no plan knows: the allocator's slack, cuDNN workspaces, the interpreter.
HEADROOM = 0.9


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes per part on one device, before anything is allocated."""

    device: str
    capacity: int  # rows, a multiple of num_envs
    parts: Mapping[str, int]  # bytes by name
    available: int | None  # bytes free on the device; None where nobody says

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
    device: str, capacity: int, parts: dict[str, int], bytes_per_row: int, rows_step: int
) -> MemoryPlan:
    """The plan, or MemoryPlanError naming the largest capacity that fits.

    Args:
        device: Where all parts live.
        capacity: Rows planned for.
        parts: Bytes by name.
        bytes_per_row: What one row less would save, rounded up.
        rows_step: The capacity is a multiple of this.
    """
    available = available_memory(device)
    plan = MemoryPlan(device, capacity, MappingProxyType(parts), available)
    if available is not None and plan.total > available * HEADROOM:
        # Rounded down, so that what is named does fit.
        saved_per_row = max(1, bytes_per_row - 1)
        too_many = -(-(plan.total - int(available * HEADROOM)) // saved_per_row)
        fits = max(0, (capacity - too_many) // rows_step * rows_step)
        advice = (
            f"the largest replay_capacity that fits is {fits}"
            if fits
            else "not even the smallest replay fits, so free memory or take another device"
        )
        raise MemoryPlanError(
            f"replay_capacity = {capacity} needs {format_bytes(plan.total)} on {device}, where "
            f"{format_bytes(available)} are available ({HEADROOM:.0%} of it is used at most); "
            f"{advice}."
        )
    return plan


def available_memory(device: str) -> int | None:
    """Bytes that can still be allocated on the device; for a CPU the cgroup's limit counts."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(torch.device(device))
        return free
    limits = [limit for limit in (_proc_available(), cgroup_available()) if limit is not None]
    return min(limits, default=None)


def _proc_available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:  # other Unixes
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def cgroup_available(root: Path = Path("/")) -> int | None:
    """Bytes that the cgroups of this process still grant, the least over all levels, or None.

    Args:
        root: Where ``proc`` and ``sys`` are, for tests.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    free = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controllers and "memory")
        group = top / path.lstrip("/")
        # In a container the path may be that of the host: then only the top is there to read.
        levels = [level for level in (group, *group.parents) if level.is_relative_to(top)]
        free += [_free(level) for level in levels]
    return min((bytes_ for bytes_ in free if bytes_ is not None), default=None)


def _free(group: Path) -> int | None:
    """Bytes that one cgroup grants, of version 2 or 1; file pages not in use count as free."""
    v1 = not (group / "memory.max").is_file()
    limit, used = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
        if v1
        else ("memory.max", "memory.current")
    )
    try:
        text = (group / limit).read_text().strip()
        if text == "max" or int(text) >= 2**60:
            return None
        taken = int((group / used).read_text())
    except (OSError, ValueError):
        return None
    try:
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        taken -= int(stat.get("total_inactive_file" if v1 else "inactive_file", 0))
    except (OSError, ValueError):
        pass
    return max(0, int(text) - max(0, taken))


def format_bytes(size: float) -> str:
    """``7060000000`` as ``7.06 GB`` (decimal units)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.2f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"

"""How many CPUs this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cpus() -> int:
    """CPUs within this process's affinity mask and the CPU quota of its cgroup, at least 1.

    ``os.cpu_count()`` and ``std::thread::hardware_concurrency`` know neither, so that a container
    with 2 of 64 CPUs gets 64 threads from them.
    """
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cpus = os.cpu_count() or 1
    quota = cgroup_cpu_quota()
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def cgroup_cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the cgroups of this process grant, the smallest over all levels; None: no limit.

    Args:
        root: Where ``proc`` and ``sys`` are, for tests.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controllers and "cpu")
        group = top / path.lstrip("/")
        # In a container the path may be that of the host: then only the top is there to read.
        quotas += [_quota(level) for level in (group, *group.parents) if level.is_relative_to(top)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(group: Path) -> float | None:
    """CPUs that one cgroup grants, of version 2 (cpu.max) or 1 (cpu.cfs_*)."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None

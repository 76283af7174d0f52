"""What the host grants this process: CPUs and memory, its control groups' limits included."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def usable_cpus(root: Path = ROOT) -> int:
    """CPUs within this process's affinity mask and the CPU quota of its cgroups, at least 1.

    ``os.cpu_count()`` and ``std::thread::hardware_concurrency`` know neither, so that a container
    with 2 of 64 CPUs gets 64 threads from them.

    Args:
        root: Where ``proc`` and ``sys`` are, for tests.
    """
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cpus = os.cpu_count() or 1
    quota = cgroup_cpu_quota(root)
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def cgroup_cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs that the cgroups of this process grant, the smallest over all levels; None: no limit."""
    quotas = [_quota(level) for level in _cgroups("cpu", root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def keep_freed_memory() -> bool:
    """Ask glibc to keep blocks of up to 32 MB that are freed, for this process; whether it does.

    It would otherwise give every activation back to the kernel and pay the page faults anew in
    each update: a fifth of the time of a convolutional one on a CPU.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc; Windows has no library of no name
        return False
    mmap_threshold, trim_threshold = -3, -1  # malloc.h
    return bool(mallopt(mmap_threshold, 32 * 1024**2) and mallopt(trim_threshold, 2**31 - 1))


def advise_huge_pages(address: int, size: int) -> bool:
    """Ask Linux for pages of 2 MB behind memory not touched yet; whether it listens.

    Args:
        address: Where the memory begins.
        size: In bytes; below 4 MB there is too little in it for a large page.
    """
    if size < 4 * 1024**2 or sys.platform != "linux":
        return False
    try:
        madvise, page = ctypes.CDLL(None).madvise, os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError, ValueError):
        return False
    begin = -(-address // page) * page  # it wants a whole page
    length = address + size - begin
    huge_page = 14  # MADV_HUGEPAGE, mman.h
    return madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), huge_page) == 0


def resident_bytes() -> int:
    """Of this process now; 0 where /proc does not say."""
    words = read_text(ROOT / "proc/self/statm").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if len(words) > 1 else 0


def memory_total(root: Path = ROOT) -> int | None:
    """Bytes of memory that the machine has."""
    return _meminfo("MemTotal", root)


def memory_available() -> int | None:
    """Bytes that can still be allocated, by the kernel's estimate and the cgroups' limits."""
    known = [
        x for x in (_meminfo("MemAvailable", ROOT), cgroup_memory_available()) if x is not None
    ]
    if known:
        return min(known)
    try:  # other Unixes
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def cgroup_memory_available(root: Path = ROOT) -> int | None:
    """Bytes that the cgroups still grant, the least over all levels; None: no limit."""
    free = [_free(level) for level in _cgroups("memory", root)]
    return min((size for size in free if size is not None), default=None)


def cgroup_memory_limit(root: Path = ROOT) -> int | None:
    """The tightest memory limit of this process's cgroups, in bytes; None: no limit."""
    limits = [_limit(level) for level in _cgroups("memory", root)]
    return min((limit for limit in limits if limit is not None), default=None)


def _cgroups(controller: str, root: Path) -> Iterator[Path]:
    """Directories of every group from this process's own up to the top: all of them bind."""
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 has one tree, version 1 one for each controller.
        top = root / "sys/fs/cgroup" / (controllers and controller)
        group = top / path.lstrip("/")
        # In a container the path may be that of the host: then only the top is there to read.
        yield from (level for level in (group, *group.parents) if level.is_relative_to(top))


def _quota(group: Path) -> float | None:
    """CPUs that one cgroup grants, of version 2 (cpu.max) or 1 (cpu.cfs_*)."""
    text = read_text(group / "cpu.max") or " ".join(
        read_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    )
    try:
        quota, period = text.split()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None


def _limit(group: Path) -> int | None:
    """Bytes that one cgroup allows; version 2 writes "max" for no limit, 1 a number near 2^63."""
    text = read_text(group / "memory.max") or read_text(group / "memory.limit_in_bytes")
    return int(text) if text.strip().isdecimal() and int(text) < 2**60 else None


def _free(group: Path) -> int | None:
    """Bytes that one cgroup still grants; file pages not in use count as free."""
    limit = _limit(group)
    used = read_text(group / "memory.current") or read_text(group / "memory.usage_in_bytes")
    if limit is None or not used.strip().isdecimal():
        return None
    stat = dict(
        line.split()
        for line in read_text(group / "memory.stat").splitlines()
        if line.count(" ") == 1
    )
    idle = stat.get("total_inactive_file", stat.get("inactive_file", "0"))
    return max(0, limit - max(0, int(used) - int(idle)))


def _meminfo(key: str, root: Path) -> int | None:
    for line in read_text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    return None


def read_text(path: Path) -> str:
    """A file's text, or nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

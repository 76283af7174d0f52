"""What the host grants: cgroups of both versions, at every level, from made-up files."""

import os

import pytest
import torch

from fastdqn.replay.pages import resident_zeros
from fastdqn.system import host
from fastdqn.system.host import (
    cgroup_cpu_quota,
    cgroup_memory_available,
    cgroup_memory_limit,
    memory_available,
    usable_cpus,
)

MB = 1000**2


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def v2(tmp_path):
    """Version 2, this process in /a/b."""
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")

    def group(path, limit, used, inactive=None):
        base = tmp_path / "sys/fs/cgroup" / path
        write(base / "memory.max", f"{limit}\n")
        write(base / "memory.current", f"{used}\n")
        if inactive is not None:
            write(base / "memory.stat", f"anon 5\nfile 77\ninactive_file {inactive}\nslab 3\n")

    return tmp_path, group


@pytest.fixture
def v1(tmp_path):
    """Version 1, this process in /a."""
    write(tmp_path / "proc/self/cgroup", "12:cpu,cpuacct:/x\n4:memory:/a\n0::/\n")

    def group(path, limit, used, inactive=0):
        base = tmp_path / "sys/fs/cgroup/memory" / path
        write(base / "memory.limit_in_bytes", f"{limit}\n")
        write(base / "memory.usage_in_bytes", f"{used}\n")
        write(base / "memory.stat", f"inactive_file 1\ntotal_inactive_file {inactive}\n")

    return tmp_path, group


def test_cgroup_v2(v2):
    root, group = v2
    group("a/b", 1000 * MB, 300 * MB)
    assert cgroup_memory_available(root) == 700 * MB


def test_file_pages_not_in_use_count_as_free(v2):
    root, group = v2
    group("a/b", 1000 * MB, 900 * MB, inactive=400 * MB)
    assert cgroup_memory_available(root) == 500 * MB


def test_the_tightest_level_counts(v2):
    root, group = v2
    group("a/b", 1000 * MB, 300 * MB)
    group("a", 1200 * MB, 1100 * MB)
    assert cgroup_memory_available(root) == 100 * MB
    group("a", "max", 1100 * MB)
    assert cgroup_memory_available(root) == 700 * MB


def test_in_a_container_only_the_top_can_be_read(v2):
    root, group = v2
    group(".", 500 * MB, 100 * MB)
    assert cgroup_memory_available(root) == 400 * MB


def test_no_limit(v2):
    root, group = v2
    group("a/b", "max", 300 * MB)
    assert cgroup_memory_available(root) is None


def test_over_the_limit_is_nothing_and_cache_beyond_use_is_no_gain(v2):
    root, group = v2
    group("a/b", 1000 * MB, 1100 * MB)
    assert cgroup_memory_available(root) == 0
    group("a/b", 1000 * MB, 100 * MB, inactive=200 * MB)
    assert cgroup_memory_available(root) == 1000 * MB


def test_cgroup_v1(v1):
    root, group = v1
    group("a", 1000 * MB, 600 * MB, inactive=100 * MB)
    group(".", 9223372036854771712, 600 * MB)  # what version 1 calls no limit
    assert cgroup_memory_available(root) == 500 * MB


@pytest.mark.parametrize("text", ["", "nonsense", "-1"])
def test_unreadable_files_are_no_limit(v2, text):
    root, group = v2
    group("a/b", text, text)
    assert cgroup_memory_available(root) in (None, 0)
    assert cgroup_memory_available(root / "nowhere") is None


def test_the_tightest_limit(v2):
    root, group = v2
    assert cgroup_memory_limit(root) is None
    group("a/b", "max", 1)
    group("a", 2000 * MB, 1)
    group(".", 3000 * MB, 1)
    assert cgroup_memory_limit(root) == 2000 * MB


@pytest.mark.parametrize(
    ("kernel", "cgroup", "expected"), [(5, 3, 3), (3, 5, 3), (5, None, 5), (None, 3, 3)]
)
def test_the_smaller_of_kernel_and_cgroup_counts(monkeypatch, kernel, cgroup, expected):
    monkeypatch.setattr(host, "_meminfo", lambda key, root: kernel)
    monkeypatch.setattr(host, "cgroup_memory_available", lambda: cgroup)
    assert memory_available() == expected


def test_where_neither_is_known_the_machine_is_asked(monkeypatch):
    monkeypatch.setattr(host, "_meminfo", lambda key, root: None)
    monkeypatch.setattr(host, "cgroup_memory_available", lambda: None)
    available = memory_available()
    assert available is not None and 10**6 < available < 10**15


def test_usable_cpus_obeys_the_affinity_mask():
    """A19: ALE's own default does not."""
    mask = os.sched_getaffinity(0)
    assert 1 <= usable_cpus() <= len(mask)
    try:
        os.sched_setaffinity(0, {min(mask)})
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, mask)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/a/b\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
            },
            3.0,
        ),
        # In a container: the path is the host's, the mount shows the container's own group.
        ({"proc/self/cgroup": "0::/x/y\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        (
            {
                "proc/self/cgroup": "9:memory:/m\n4:cpu,cpuacct:/c\n0::/\n",
                "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, None),
    ],
)
def test_cgroup_quotas(tmp_path, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_cpu_quota(tmp_path) == quota


def test_freed_memory_is_kept_where_glibc_is():
    assert host.keep_freed_memory() in (True, False)
    assert host.keep_freed_memory() == (os.confstr("CS_GNU_LIBC_VERSION") is not None)


def test_large_pages_are_asked_for_where_there_is_room_for_one():
    small, large = torch.empty(2**20, dtype=torch.uint8), torch.empty(2**24, dtype=torch.uint8)
    assert not host.advise_huge_pages(small.data_ptr(), small.nbytes)
    has = os.path.exists("/sys/kernel/mm/transparent_hugepage/enabled")
    assert host.advise_huge_pages(large.data_ptr(), large.nbytes) == has
    zeros = resident_zeros((3, 2**22), dtype=torch.uint8, device=torch.device("cpu"))
    assert zeros.shape == (3, 2**22) and not zeros.any()

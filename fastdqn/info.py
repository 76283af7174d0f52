"""What a run stands on: versions, devices, memory. Nothing here fails for want of something."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "tensordict", "torchrl")


def versions() -> dict[str, str | None]:
    """Versions of Python, fastdqn and what it stands on; None where something is absent."""
    from fastdqn import __version__

    found: dict[str, str | None] = {"python": platform.python_version(), "fastdqn": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    found["cuda"] = _cuda_version()
    return found


def device_name(device: Any) -> str:
    """The maker's name of a torch device: of the GPU, or of the CPU."""
    if str(device).startswith("cuda"):
        try:
            import torch

            return str(torch.cuda.get_device_name(device))
        except (ImportError, RuntimeError, AssertionError, ValueError):
            return str(device)
    return _cpu_name()


def environment() -> dict[str, Any]:
    """Everything that ``fastdqn info`` prints, ready for JSON."""
    found = versions()
    return {
        "versions": found,
        "git_commit": _git_commit(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpus_usable": _usable_cpus(),
        "torch_threads": _torch_threads(),
        "memory_total_bytes": _meminfo("MemTotal"),
        "memory_available_bytes": _meminfo("MemAvailable"),
        "cgroup_limit_bytes": cgroup_limit_bytes(),
        "bf16_cpu": _has_bf16("cpu"),
        "gpus": _gpus(),
        "ale": found["ale-py"] is not None,
    }


def cgroup_limit_bytes() -> int | None:
    """The tightest memory limit of this process's control groups (v1 or v2); None: no limit."""
    limits = []
    for file in _cgroup_limit_files(_read("/proc/self/cgroup"), Path("/sys/fs/cgroup")):
        text = _read(file).strip()
        # v2 writes "max" for no limit, v1 a number near 2^63.
        if text.isdecimal() and int(text) < 2**60:
            limits.append(int(text))
    return min(limits, default=None)


def _cgroup_limit_files(table: str, root: Path) -> list[Path]:
    """Limit files of every group from this process's own up to the root: all of them bind."""
    files = []
    for line in table.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = Path(path.lstrip("/"))
        files += [base / group / name for group in (own, *own.parents)]
    return files


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpu_name() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _meminfo(key: str) -> int | None:
    for line in _read("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    return None


def _cuda_version() -> str | None:
    try:
        import torch

        return torch.version.cuda
    except (ImportError, AttributeError):
        return None


def _torch_threads() -> int | None:
    try:
        import torch

        return torch.get_num_threads()
    except ImportError:
        return None


def _usable_cpus() -> int:
    try:
        from fastdqn.envs.cpus import usable_cpus

        return usable_cpus()
    except ImportError:  # the package of the envs needs gymnasium
        return os.cpu_count() or 1


def _has_bf16(device: str) -> bool | None:
    """Whether the device multiplies bfloat16 in hardware; None: torch cannot tell."""
    try:
        import torch

        from fastdqn.devices import has_bf16

        return has_bf16(torch.device(device))
    except (ImportError, AttributeError, RuntimeError, AssertionError):
        return None


def _gpus() -> list[dict[str, Any]]:
    try:
        import torch

        if not torch.cuda.is_available():
            return []
        driver = _gpu_driver()
        gpus = []
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            gpus.append(
                {
                    "name": properties.name,
                    "compute_capability": f"{properties.major}.{properties.minor}",
                    "memory_total_bytes": total,
                    "memory_free_bytes": free,
                    "bf16": _has_bf16(f"cuda:{index}"),
                    "driver": driver,
                }
            )
        return gpus
    except (ImportError, RuntimeError, AssertionError):
        return []


def _gpu_driver() -> str | None:
    return _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


def _git_commit() -> str | None:
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # else git would look further up, in someone else's checkout
        return None
    return _run("git", "-C", str(root), "rev-parse", "HEAD")


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.split("\n")
    return lines[0].strip() or None

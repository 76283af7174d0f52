"""What a run stands on: versions, devices, memory. Nothing here fails for want of something."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from fastdqn._version import __version__
from fastdqn.system import host

_PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "tensordict", "torchrl", "numba")


def versions() -> dict[str, str | None]:
    """Versions of Python, fastdqn and what it stands on; None where something is absent."""
    found: dict[str, str | None] = {"python": platform.python_version(), "fastdqn": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    build, found["cuda"] = _torch_build()
    found["torch"] = build or found["torch"]
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
        "cpus_usable": host.usable_cpus(),
        "torch_threads": _torch_threads(),
        "memory_total_bytes": host.memory_total(),
        "memory_available_bytes": host.memory_available(),
        "cgroup_limit_bytes": host.cgroup_memory_limit(),
        "bf16_cpu": _has_bf16("cpu"),
        "gpus": _gpus(),
        "ale": found["ale-py"] is not None,
    }


def host_kind() -> dict[str, Any]:
    """What kind of machine this is; not which."""
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpus_usable": host.usable_cpus(),
        "memory_total_bytes": host.memory_total(),
        "gpus": [gpu["name"] for gpu in _gpus()],
    }


def commit() -> dict[str, Any]:
    """Of the checkout that fastdqn runs from, and whether files of it are changed; None without."""
    found = _git_commit()
    changed = None if found is None else _git("status", "--porcelain", "--untracked-files=no")
    return {"git_commit": found, "git_dirty": None if found is None else changed is not None}


def _cpu_name() -> str:
    for line in host.read_text(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _torch_build() -> tuple[str | None, str | None]:
    """The version that names the build, as 2.11.0+cu130, and the CUDA it was built for."""
    try:
        import torch

        return str(torch.__version__), torch.version.cuda
    except (ImportError, AttributeError):
        return None, None


def _torch_threads() -> int | None:
    try:
        import torch

        return torch.get_num_threads()
    except ImportError:
        return None


def _has_bf16(device: str) -> bool | None:
    """Whether the device multiplies bfloat16 in hardware; None: torch cannot tell."""
    try:
        import torch

        from fastdqn.system.devices import has_bf16

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
    return _git("rev-parse", "HEAD")


def _git(*words: str) -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # else git would look further up, in someone else's checkout
        return None
    return _run("git", "-C", str(root), *words)


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.split("\n")
    return lines[0].strip() or None

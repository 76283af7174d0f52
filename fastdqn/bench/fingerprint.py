"""The machine that figures belong to: what it is, what it grants, and what runs on it."""

from __future__ import annotations

import subprocess
from typing import Any

from fastdqn.system import host
from fastdqn.system.info import environment

_GPU_FIELDS = (
    "name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw",
    "power.limit", "temperature.gpu", "memory.total",
)  # fmt: skip
# Differences in these make two results incomparable; clocks, power and free memory always differ.
_COMPARED = ("device", "cpu", "cpus_usable", "cgroup_cpu_quota", "versions", "gpu_name", "driver")


def fingerprint(device: str, device_name: str) -> dict[str, Any]:
    """Everything of ``fastdqn info``, the limits of the control groups, and the GPU's state.

    Args:
        device: That the bench runs on.
        device_name: Its maker's name.
    """
    return {
        **environment(),
        "device": device,
        "device_name": device_name,
        "cgroup_cpu_quota": host.cgroup_cpu_quota(),
        "nvidia_smi": nvidia_smi() if device.startswith("cuda") else [],
    }


def nvidia_smi() -> list[dict[str, str]]:
    """Clocks, power and temperature of every GPU; empty where nvidia-smi is not there."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line.split(", ") for line in done.stdout.splitlines() if line.strip()]
    return [dict(zip(_GPU_FIELDS, line, strict=False)) for line in lines]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints and matters, a phrase each."""
    found = []
    before, after = _comparable(old), _comparable(new)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            found.append(f"{name}: {before.get(name)} -> {after.get(name)}")
    return found


def _comparable(record: dict[str, Any]) -> dict[str, Any]:
    flat = {name: record.get(name) for name in _COMPARED if name != "versions"}
    gpus = record.get("gpus") or [{}]
    flat["gpu_name"], flat["driver"] = gpus[0].get("name"), gpus[0].get("driver")
    flat.update({f"{k} version": v for k, v in (record.get("versions") or {}).items()})
    return flat


def headline(record: dict[str, Any]) -> list[str]:
    """The lines above the table."""
    versions = record["versions"]
    gigabytes = (record["memory_total_bytes"] or 0) / 1e9
    lines = [
        f"device    {record['device_name']} ({record['device']})",
        f"CPU       {record['cpu']}, {record['cpus_usable']} usable, {gigabytes:.0f} GB",
        f"software  fastdqn {versions['fastdqn']} ({(record['git_commit'] or 'no commit')[:12]}), "
        f"torch {versions['torch']}, Python {versions['python']}",
    ]
    for gpu in record["nvidia_smi"]:
        lines.append(
            f"GPU       {gpu.get('name')}, driver {gpu.get('driver_version')}, SM "
            f"{gpu.get('clocks.sm')} of {gpu.get('clocks.max.sm')}, {gpu.get('power.draw')} of "
            f"{gpu.get('power.limit')}, {gpu.get('temperature.gpu')} C"
        )
    return lines

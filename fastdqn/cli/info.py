"""``fastdqn info``: versions, devices, memory."""

from __future__ import annotations

import json
from dataclasses import dataclass

import tyro

from fastdqn.cli.arguments import parse


@dataclass(frozen=True, kw_only=True)
class InfoFlags:
    """The options of ``fastdqn info``."""

    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print everything as JSON."""


def run(args: list[str]) -> int:
    """Say what this machine is; ``fastdqn info``."""
    flags = parse(
        InfoFlags,
        args,
        prog="fastdqn info",
        description="Say what this machine is: versions, devices, memory.",
        example="fastdqn info --json",
    )
    from fastdqn.system.info import environment

    found = environment()
    if flags.json:
        print(json.dumps(found, indent=2))
        return 0
    for name, version in found["versions"].items():
        print(f"{name:<14}{version or '-'}")
    print(f"{'commit':<14}{found['git_commit'] or '-'}")
    print(f"{'platform':<14}{found['platform']}")
    bf16 = {True: "yes", False: "no", None: "unknown"}
    print(
        f"{'CPU':<14}{found['cpu']}, {found['cpus_usable']} usable, "
        f"{found['torch_threads'] or '-'} torch threads, bf16 {bf16[found['bf16_cpu']]}"
    )
    print(
        f"{'memory':<14}{_gigabytes(found['memory_total_bytes'])}, "
        f"{_gigabytes(found['memory_available_bytes'])} available, "
        f"control group limit {_gigabytes(found['cgroup_limit_bytes'])}"
    )
    for index, gpu in enumerate(found["gpus"]):
        print(
            f"{f'cuda:{index}':<14}{gpu['name']}, {_gigabytes(gpu['memory_total_bytes'])}, "
            f"{_gigabytes(gpu['memory_free_bytes'])} free, compute capability "
            f"{gpu['compute_capability']}, bf16 {bf16[gpu['bf16']]}, driver {gpu['driver'] or '-'}"
        )
    if not found["gpus"]:
        print(f"{'GPU':<14}none that torch can use")
    atari = "yes" if found["ale"] else "no; pip install 'fastdqn[atari]' adds it"
    print(f"{'Atari (ALE)':<14}{atari}")
    numba = found["versions"].get("numba")
    loops = "yes" if numba else "no; pip install 'fastdqn[cpu]' makes the replay on a CPU faster"
    print(f"{'Numba loops':<14}{loops}")
    return 0


def _gigabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e9:.1f} GB"

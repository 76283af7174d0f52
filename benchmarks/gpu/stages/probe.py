"""The machine: what a launch, a transfer and an env step cost on it."""

from __future__ import annotations

import subprocess
from functools import partial
from typing import Any

from benchmarks.gpu.session import Session
from fastdqn.bench.cases import ceil, env
from fastdqn.bench.cases.env import FRAME_SKIP
from fastdqn.system.host import usable_cpus

_NODES = (1, 16, 64, 256, 1024)
_SLOPE = (256, 1024)  # of these two graphs: free of what a launch costs
_KINDS = ("graph_launch_host", "d2h_256b_event", "h2d_452k_pinned")
_STATE = "name,driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"


def measure(session: Session) -> None:
    """Its entries."""
    if session.on_cuda:
        session.measure("gpu", _gpu_state)
        for nodes in _NODES:
            session.measure(f"graph/{nodes}", partial(_ceiling, session, "graph_node", nodes))
        session.measure("node_us", partial(_node_us, session))
        for kind in _KINDS:
            session.measure(kind, partial(_ceiling, session, kind))
    session.measure("copy", partial(_copy, session))
    for num_envs in (64, 16, 128):
        session.measure(f"pong/N{num_envs}", partial(_pong, session, num_envs))


def _gpu_state() -> str:
    command = ["nvidia-smi", f"--query-gpu={_STATE}", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()


def _ceiling(session: Session, kind: str, nodes: int = 0) -> dict[str, float]:
    workload = ceil.make(session.context, kind=kind, nodes=nodes)
    return session.time_workload(workload, seconds=0.2)


def _node_us(session: Session) -> float:
    few, many = _SLOPE
    times = [float(session.entries[f"graph/{nodes}"]["us"]) for nodes in _SLOPE]
    return round((times[1] - times[0]) / (many - few), 3)


def _copy(session: Session) -> dict[str, float]:
    workload = ceil.make(session.context, kind="copy")
    times = session.time_workload(workload, seconds=0.2)
    return {**times, "bytes_per_s": workload.counts["bytes"] / times["us"] * 1e6}


def _pong(session: Session, num_envs: int) -> dict[str, Any]:
    """Random actions through the trainer's own stream, nothing beside it."""
    threads = min(num_envs, usable_cpus())
    workload = env.make(
        session.context, env_id="ALE/Pong-v5", num_envs=num_envs, num_threads=threads
    )
    times = session.time_workload(workload, seconds=2.0)
    env_steps_per_s = workload.counts["env_steps"] / times["us"] * 1e6
    return {
        **times,
        "threads": threads,
        "env_steps_per_s": round(env_steps_per_s),
        "frames_per_s": round(FRAME_SKIP * env_steps_per_s),
    }

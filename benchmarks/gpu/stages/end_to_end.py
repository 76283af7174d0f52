"""The trainer's own loop at full speed, from a full replay."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.gpu.session import Session
from benchmarks.gpu.timing import times
from fastdqn.bench.cases import e2e
from fastdqn.bench.runner import describe

_LOOPS = (
    ("A", "pong", 64), ("B", "pong", 64), ("dqn", "pong", 64), ("A", "synthetic", 64),
    ("A", "pong", 16), ("A", "pong", 128),
)  # fmt: skip
_KEPT = ("env_s", "learn_s", "wall_s", "overlap", "replay_ratio", "details")
_SECONDS = 4.0
_NEEDED_S = 14.0


def measure(session: Session) -> None:
    """An entry for each loop, as ``fastdqn bench`` names them: recipe, envs, how many."""
    for recipe, env, num_envs in _LOOPS[:1] + _LOOPS[3:4] if session.smoke else _LOOPS:
        session.measure(
            f"{recipe}/{env}/N{num_envs}",
            partial(_loop, session, recipe, env, num_envs),
            needs_s=_NEEDED_S,
        )


def _loop(session: Session, recipe: str, env: str, num_envs: int) -> dict[str, Any]:
    workload = e2e.make(session.context, recipe=recipe, env=env, num_envs=num_envs)
    timing = session.timing(workload, seconds=_SECONDS)
    record = describe(workload, timing, {})
    kept = {name: record[name] for name in _KEPT if name in record}
    rates = {name: round(rate) for name, rate in record["rates"].items()}
    return {**times(timing), **rates, **kept}

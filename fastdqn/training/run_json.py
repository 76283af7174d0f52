"""``run.json``: what a run was, beside the configuration that it was asked for.

Envs and networks may come from Python, what is ``auto`` is decided by the hardware, and a run that
is resumed has several sessions.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from gymnasium.spaces import Discrete
from gymnasium.vector import VectorEnv
from torch import nn

from fastdqn.config.config import Config
from fastdqn.envs import EnvStream, made
from fastdqn.learning.learner import Learner
from fastdqn.runs.directory import write_json
from fastdqn.system.bounded_json import read_object
from fastdqn.system.info import commit, device_name, host_kind, versions

FORMAT_VERSION = 1
NAME = "run.json"
_MOST_SESSIONS = 200  # of a job that is requeued for months; the file stays readable


def describe_envs(
    stream: EnvStream, given: VectorEnv | EnvStream | None, config: Config
) -> dict[str, Any]:
    """What the envs of a run are.

    Args:
        stream: The envs as the run steps them.
        given: As they were passed from Python; None: made from ``config``.
        config: Of the run.
    """
    envs = made.vector_env(stream)
    thing = given if given is not None else envs if envs is not None else stream
    base = getattr(thing, "unwrapped", thing)
    actions = Discrete(stream.num_actions, start=stream.action_start)
    return {
        "made_from_config": given is None,
        "name": config.env_id if given is None else made.name_of(given),
        **_class(base),
        "num_envs": stream.num_envs,
        "observation_space": str(stream.observation_space),
        "action_space": str(actions),
        "wrappers": made.wrappers(stream),
    }


def describe_network(network: nn.Module, *, made_from_config: bool) -> dict[str, Any]:
    """What the network of a run is."""
    return {
        "made_from_config": made_from_config,
        **_class(network),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def _class(thing: object) -> dict[str, str]:
    return {"class": type(thing).__qualname__, "module": type(thing).__module__}


def resolved(learner: Learner, torch_threads: int) -> dict[str, Any]:
    """What the hardware has made of the configuration."""
    return {
        "device": device_name(learner.device),
        "precision": learner.precision,
        "mode": learner.mode,
        "updates_per_launch": learner.updates_per_launch,
        "torch_threads": torch_threads,
    }


def session(from_env_steps: int, decided: dict[str, Any]) -> dict[str, Any]:
    """One process's part of a run, from its start."""
    return {
        "started": utc_now(),
        "from_env_steps": from_env_steps,
        "command": list(sys.argv),
        "host": host_kind(),
        **decided,
        "versions": versions(),
        **commit(),
    }


def write_record(
    run_dir: Path, envs: dict[str, Any], network: dict[str, Any], newest: dict[str, Any]
) -> None:
    """Write the record, behind the sessions that it has already.

    Raises:
        OSError: Where the disk refuses.
    """
    path = run_dir / NAME
    sessions = [*_sessions(path), newest][-_MOST_SESSIONS:]
    write_json(
        path,
        {
            "format_version": FORMAT_VERSION,
            "envs": envs,
            "network": network,
            "sessions": sessions,
        },
    )


def _sessions(path: Path) -> list[Any]:
    found = read_object(path).get("sessions")
    return found if isinstance(found, list) else []  # none yet, or nothing readable


def utc_now() -> str:
    """The time, ISO 8601, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

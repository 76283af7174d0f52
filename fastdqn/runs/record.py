"""What a run was made of, and what to say where a command cannot make that. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdqn.checkpoints.names import latest_checkpoint, read_spec
from fastdqn.errors import ConfigError
from fastdqn.system.bounded_json import read_object

_LONGEST = 200  # characters of a name that is shown


@dataclass(frozen=True)
class Part:
    """The envs of a run, or its network."""

    made_from_config: bool
    name: str | None  # in a word; None: not known
    what: str  # in words: "envs passed from Python (MyEnvs of my_module)"


@dataclass(frozen=True)
class RunRecord:
    """What a run was made of."""

    envs: Part
    network: Part


def read_record(run: Path) -> RunRecord:
    """What a run says of itself in run.json and in its checkpoints.

    Runs of older versions say nothing: they count as made from their configuration, but for a
    network that their checkpoints know to be another.

    Args:
        run: Run directory, or one of its checkpoints.
    """
    directory = run_directory(run)
    checkpoint = run if directory != run else latest_checkpoint(run / "checkpoints")
    spec = {} if checkpoint is None else read_spec(checkpoint)
    body = read_object(directory / "run.json")
    return RunRecord(_part("envs", body, spec), _part("network", body, spec))


def run_directory(path: Path) -> Path:
    """The directory of a run, of a path to it or to one of its checkpoints."""
    for directory in (path, *path.absolute().parents[:2]):
        if (directory / "config.json").is_file():
            return directory
    return path


def _part(kind: str, body: Mapping[str, Any], spec: Mapping[str, Any]) -> Part:
    said = body.get(kind)
    said = said if isinstance(said, dict) else {}
    own = said.get("made_from_config") is False or spec.get(f"own_{kind}") is True
    named = [said[key] for key in ("class", "module") if _is_name(said.get(key))]
    made = f" ({' of '.join(named)})" if named else ""
    name = said.get("name")
    a = "" if kind == "envs" else "a "
    return Part(not own, name if _is_name(name) else None, f"{a}{kind} passed from Python{made}")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LONGEST


def refuse_to_play(run: Path, command: str, *, other_env: bool, call: str) -> None:
    """Raise ConfigError where a run cannot be played from what the disk has of it.

    Args:
        run: Run directory or checkpoint.
        command: Of ``fastdqn``.
        other_env: Whether an env is named in place of the run's.
        call: What to call in Python instead: ``{policy}`` stands for the loaded policy.
    """
    record = read_record(run)
    if not record.network.made_from_config:
        policy = f"fastdqn.load({str(run)!r}, network=network)"
        raise ConfigError(
            f"{run} was trained with {record.network.what}, which 'fastdqn {command}' cannot make; "
            f"use it from Python: {call.format(policy=policy)}."
        )
    if not record.envs.made_from_config and not other_env:
        policy = f"fastdqn.load({str(run)!r})"
        raise ConfigError(
            f"{run} was trained on {record.envs.what}, which 'fastdqn {command}' cannot make; use "
            f"it from Python: {call.format(policy=policy)}, or name an env of the same spaces with "
            f"--env-id."
        )


def refuse_to_train(
    run: Path, *, resume: bool, env_id: bool = False, network: bool = False
) -> None:
    """Raise ConfigError where the command line cannot train like a run, or go on with it.

    Args:
        run: Run directory.
        resume: Go on with it.
        env_id: Whether an env is named in place of the run's.
        network: Whether a network is.
    """
    record = read_record(run)
    found = (("envs", record.envs, env_id), ("network", record.network, network))
    own = [(kind, part, named) for kind, part, named in found if not part.made_from_config]
    missing = [(kind, part) for kind, part, named in own if resume or not named]
    if not missing:
        return
    options = {"envs": "--env-id", "network": "--network"}
    instead = f", or name others with {' and '.join(options[kind] for kind, _ in missing)}"
    changes = "resume='require'" if resume else "run_dir=None"
    config = f"fastdqn.Config.load({str(run / 'config.json')!r}).replace({changes})"
    call = f"fastdqn.train({config}, {', '.join(f'{kind}={kind}' for kind, _, _ in own)})"
    raise ConfigError(
        f"{run} was trained with {' and '.join(part.what for _, part in missing)}, which 'fastdqn "
        f"train' cannot make; train it from Python: {call}{'' if resume else instead}."
    )

"""Which checkpoints a run has, and which one somebody means. Needs no torch."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

from fastdqn.errors import CheckpointError, ConfigError, nearest
from fastdqn.system.bounded_json import read_object

# While a checkpoint is written again, the one before it has another name for a moment.
REPLACED = ".tmp-replaced"
NAME = re.compile(rf"step_(\d{{12}})({re.escape(REPLACED)})?", re.ASCII)

_WORDS = ("best", "latest")
_MOST_NAMED = 8


def parse_choice(choice: int | str | None, name: str = "checkpoint") -> int | str | None:
    """``best``, ``latest`` or env steps (digits of a text are a number); None is ``latest``.

    Raises:
        ConfigError: Where it is none of these.
    """
    if choice is None or (isinstance(choice, str) and choice == "latest"):
        return None
    if (isinstance(choice, str) and choice == "best") or (type(choice) is int and choice >= 0):
        return choice
    if isinstance(choice, str) and re.fullmatch(r"[0-9][0-9_]{,20}", choice):
        return int(choice.replace("_", ""))
    hint = nearest(choice, _WORDS) if isinstance(choice, str) else ""
    raise ConfigError(
        f"{name} = {choice!r} names no checkpoint; use best, latest or its env steps{hint}."
    )


def split_suffix(text: str, name: str) -> tuple[Path, int | str | None]:
    """The path and the choice of ``PATH[:best|:latest|:STEP]``.

    What exists as it stands is a path, colons and all.

    Raises:
        ConfigError: Where the suffix is none of these.
    """
    path, colon, suffix = text.rpartition(":")
    if not colon or not path or os.path.lexists(text):
        return Path(text), None
    if not os.path.lexists(path) and not re.fullmatch(r"best|latest|[0-9_]+", suffix):
        return Path(text), None  # a colon within a path that does not exist
    try:
        return Path(path), parse_choice(suffix)
    except ConfigError:
        hint = nearest(suffix, _WORDS)
        raise ConfigError(
            f"{name} = {text!r}: {suffix!r} names no checkpoint of {path}; put best, latest or "
            f"its env steps after the colon{hint}."
        ) from None


def list_checkpoints(directory: Path) -> list[Path]:
    """Checkpoints, oldest first. Links are none."""
    if not directory.is_dir():
        return []
    found: list[tuple[str, bool, Path]] = []
    for path in directory.iterdir():
        name = NAME.fullmatch(path.name)
        if name and path.is_dir() and not path.is_symlink():
            found.append((name[1], name[2] is None, path))
    return [path for _, _, path in sorted(found)]


def latest_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint in a run's ``checkpoints``, or None."""
    found = list_checkpoints(directory)
    return found[-1] if found else None


def find_checkpoint(path: Path, choice: int | str | None = None) -> Path:
    """The checkpoint that a path means: itself, or one of a run directory.

    Args:
        path: Checkpoint or run directory.
        choice: ``best``: of a run, the one whose evaluation had the highest mean return, of equals
            the oldest; a number: the one of these env steps; None: the newest.

    Raises:
        CheckpointError: Where there is none.
    """
    if os.path.lexists(path / "manifest.json"):
        if choice is not None:
            raise CheckpointError(
                f"{path} is one checkpoint already; name its run for {choice!r}, or leave that out."
            )
        return path
    if not path.is_dir():
        wrong = "is a file" if path.exists() else "does not exist"
        raise CheckpointError(f"{path} {wrong}; name a run directory or a checkpoint.")
    found = list_checkpoints(path / "checkpoints")
    if not found:
        raise CheckpointError(
            f"{path} holds no checkpoint; name a run directory of `fastdqn train` that wrote one."
        )
    if choice is None:
        return found[-1]
    if choice == "best":
        scores = {path: score for path in found if (score := read_score(path)) is not None}
        if scores:
            return max(scores, key=lambda path: scores[path])  # the first of equals
        raise CheckpointError(
            f"{path} has no checkpoint with a score, so none is the best: no evaluation came at "
            f"its env steps; name latest, or one of {_steps(found)}."
        )
    wanted = f"step_{choice:012d}"
    for checkpoint in found:
        if checkpoint.name == wanted:
            return checkpoint
    raise CheckpointError(
        f"{path} has no checkpoint of {choice} env steps; there are {_steps(found)}."
    )


def read_score(checkpoint: Path) -> float | None:
    """The mean return that a checkpoint's manifest names, if it does."""
    score = read_object(checkpoint / "manifest.json").get("score")
    return score if type(score) is float and math.isfinite(score) else None


def read_spec(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of envs and network, unchecked; empty where it cannot be read."""
    run = read_object(checkpoint / "state.json").get("run")
    spec = run.get("spec") if isinstance(run, dict) else None
    return spec if isinstance(spec, dict) else {}


def _steps(found: list[Path]) -> str:
    """Their env steps, the newest of many."""
    steps = [str(int(path.name[5:17])) for path in found]
    more = len(steps) - _MOST_NAMED
    return ", ".join(steps[-_MOST_NAMED:]) + (f" and {more} before them" if more > 0 else "")

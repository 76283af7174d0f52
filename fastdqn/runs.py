"""Runs on the disk as others read them, finished or in progress; neither torch nor numpy."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdqn.bounded_json import read_bounded
from fastdqn.config import Config
from fastdqn.errors import CheckpointError, ConfigError

Curve = tuple[list[float], list[float]]  # env steps, ascending, and values: all finite


@dataclass(frozen=True)
class Run:
    """What a run has left so far."""

    path: Path
    config: Config
    columns: dict[str, list[float]]  # of metrics.csv; NaN where there is nothing
    reward_threshold: float | None  # of a finished run whose env has one

    def curve(self, name: str) -> Curve:
        """A column over env steps, where it has numbers."""
        return curve(self.columns, name)


def read_run(path: Path) -> Run:
    """Read the configuration, the rows and the summary of a run directory.

    Raises:
        CheckpointError: Where it is no run directory.
        ConfigError: Where its config.json cannot be read.
    """
    if not (path / "config.json").is_file():
        raise CheckpointError(_no_run(path))
    try:
        summary = json.loads(read_bounded(path / "summary.json"))
        threshold = summary.get("reward_threshold")
    except (OSError, ValueError, AttributeError):
        threshold = None
    return Run(
        path,
        Config.load(path / "config.json"),
        read_columns(path / "metrics.csv"),
        threshold if isinstance(threshold, int | float) else None,
    )


def run_config(path: Path) -> Config:
    """The configuration of a run, from its directory or from one of its checkpoints.

    Raises:
        CheckpointError: Where there is none.
        ConfigError: Where it cannot be read.
    """
    for directory in (path, *path.absolute().parents[:2]):
        if (directory / "config.json").is_file():
            return Config.load(directory / "config.json")
    raise CheckpointError(_no_run(path))


def config_to_play(path: Path, *, allow_env_import: bool) -> Config:
    """The configuration of a run whose env is to be made.

    Args:
        path: As for :func:`run_config`.
        allow_env_import: Whether the env may be one of a module that the run names. The run may be
            somebody else's, and what a module does when it is imported is up to it.

    Raises:
        CheckpointError: As :func:`run_config`.
        ConfigError: As :func:`run_config`, and where a module would be imported without leave.
    """
    config = run_config(path)
    module, colon, _ = config.env_id.partition(":")
    if colon and not allow_env_import:
        raise ConfigError(
            f"env_id = {config.env_id!r} in the configuration of {path} imports the module "
            f"{module!r}; add --allow-env-import if you trust it."
        )
    return config


def _no_run(path: Path) -> str:
    what = "holds no run (no config.json)" if path.exists() else "does not exist"
    inside = sorted(path.glob("*/config.json")) if path.is_dir() else []
    if inside:
        return (
            f"{path} {what}, but {len(inside)} inside it do; name those, e.g. {inside[0].parent}."
        )
    return f"{path} {what}; name the directory that 'fastdqn train' has printed."


def read_columns(path: Path) -> dict[str, list[float]]:
    """The columns of a metrics.csv as numbers; what is empty or no number becomes NaN.

    Lines that are not whole are left out: the last one may be torn, and 12 is no 12345. No file
    is no rows.
    """
    columns: dict[str, list[float]] = {}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(line for line in file if line.endswith("\n")):
                if None in row or None in row.values():  # too long or too short
                    continue
                for name, text in row.items():
                    columns.setdefault(name, []).append(_number(text))
    except (FileNotFoundError, csv.Error):
        pass  # stopped before the first row; or the rest of it is no text
    return columns


def curve(columns: dict[str, list[float]], name: str) -> Curve:
    """One column over env steps, where both are finite; of equal env steps the last row counts."""
    pairs = zip(columns.get("env_steps", []), columns.get(name, []), strict=False)
    points = dict(sorted({x: y for x, y in pairs if math.isfinite(x + y)}.items()))
    return list(points), list(points.values())


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan

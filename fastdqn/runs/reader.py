"""Runs on the disk as others read them, finished or in progress; neither torch nor numpy."""

from __future__ import annotations

import csv
import dataclasses
import errno
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.runs.record import read_record, run_directory
from fastdqn.system.bounded_json import read_object

Curve = tuple[list[float], list[float]]  # env steps, ascending, and values: all finite


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Whole episodes played with the policy of one moment; NaN where a run did not say."""

    env_steps: float
    mean: float  # of the returns, as are the next four
    std: float = math.nan
    median: float = math.nan
    min: float = math.nan
    max: float = math.nan
    updates: float = math.nan
    wall_s: float = math.nan
    episodes: float = math.nan
    unfinished: float = math.nan  # of the episodes, counted as they stood
    final: bool = False  # of the run's end


@dataclass(frozen=True)
class Run:
    """What a run has left so far."""

    path: Path
    config: Config
    columns: dict[str, list[float]]  # of metrics.csv; NaN where there is nothing
    reward_threshold: float | None  # of a finished run whose env has one
    evaluations: tuple[Evaluation, ...] = ()  # in the order of env steps
    own_envs: str | None = None  # what envs that came from Python are called

    @property
    def env_name(self) -> str:
        """What it was trained on."""
        return self.own_envs or self.config.env_id

    def curve(self, name: str) -> Curve:
        """A column over env steps, where it has numbers."""
        return curve(self.columns, name)

    def evaluation_curve(self) -> Curve:
        """Means of evaluations over env steps; of equal env steps the last one counts."""
        means = {row.env_steps: row.mean for row in self.evaluations}
        return list(means), list(means.values())


def read_run(path: Path) -> Run:
    """Read the configuration, the rows, the evaluations and the summary of a run directory.

    Raises:
        CheckpointError: As :func:`check_run` and :func:`read_figures`.
        ConfigError: Where its config.json cannot be read.
    """
    check_run(path)
    threshold = read_object(path / "summary.json").get("reward_threshold")
    config = Config.load(path / "config.json")
    columns, evaluations = read_figures(path)
    known = threshold if isinstance(threshold, int | float) else None
    envs = read_record(path).envs
    own_envs = None if envs.made_from_config else envs.name or envs.what
    return Run(path, config, columns, known, evaluations, own_envs)


def read_figures(path: Path) -> tuple[dict[str, list[float]], tuple[Evaluation, ...]]:
    """The columns of metrics.csv and the evaluations; CheckpointError where they are unreadable."""
    try:
        columns = read_columns(path / "metrics.csv")
        return columns, read_evaluations(path, columns)
    except OSError as error:
        raise CheckpointError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable, or remove it."
        ) from None


def check_run(path: Path) -> None:
    """CheckpointError where there is no run directory."""
    if not (path / "config.json").is_file():
        raise CheckpointError(_no_run(path))


def run_config(path: Path) -> Config:
    """The configuration of a run, from its directory or from one of its checkpoints.

    Raises:
        CheckpointError: Where there is none.
        ConfigError: Where it cannot be read.
    """
    file = run_directory(path) / "config.json"
    if not file.is_file():
        raise CheckpointError(_no_run(path))
    return Config.load(file)


def config_to_play(
    path: Path, *, env_id: str | None = None, allow_env_import: bool = False
) -> Config:
    """The configuration of a run whose env is to be made.

    Args:
        path: As for :func:`run_config`.
        env_id: Of another env, which gets no ``env_kwargs`` of the run's.
        allow_env_import: Whether the env may be one of a module that the run names. The run may be
            somebody else's, and what a module does when it is imported is up to it.

    Raises:
        CheckpointError: As :func:`run_config`.
        ConfigError: As :func:`run_config`, and where a module would be imported without leave.
    """
    config = run_config(path)
    if env_id is not None:  # whoever names a module wants it
        same = env_id == config.env_id
        return config if same else config.replace(env_id=env_id, env_kwargs={})
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

    Raises:
        OSError: Where there is one that cannot be read.
    """
    columns: dict[str, list[float]] = {}
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise OSError(errno.EINVAL, "it is no file", str(path))
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(line for line in file if line.endswith("\n")):
                if None in row or None in row.values():  # too long or too short
                    continue
                for name, text in row.items():
                    columns.setdefault(name, []).append(_number(text))
    except (FileNotFoundError, csv.Error):
        pass  # stopped before the first row; or the rest of it is no text
    return columns


def read_evaluations(run_dir: Path, metrics: dict[str, list[float]]) -> tuple[Evaluation, ...]:
    """The evaluations of a run, of equal env steps in the order they were made.

    They are the rows of evaluations.csv, read as tolerantly as :func:`read_columns` reads. Runs of
    a fastdqn without that file left some means in metrics.csv: those from before its first row
    come first.

    Args:
        run_dir: Directory of the run.
        metrics: The columns of its metrics.csv.

    Raises:
        OSError: Where the file cannot be read.
    """
    columns = read_columns(run_dir / "evaluations.csv")
    names = [field.name for field in dataclasses.fields(Evaluation) if field.name in columns]
    rows = []
    for values in zip(*(columns[name] for name in names), strict=True):
        row: dict[str, Any] = dict(zip(names, values, strict=True))
        if math.isfinite(row.get("env_steps", math.nan) + row.get("mean", math.nan)):
            rows.append(Evaluation(**{**row, "final": row.get("final") == 1}))
    first = min((row.env_steps for row in rows), default=math.inf)
    older = zip(*curve(metrics, "eval_return_mean"), strict=True)
    rows += [Evaluation(env_steps=x, mean=y) for x, y in older if x < first]
    return tuple(sorted(rows, key=lambda row: row.env_steps))


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

"""Several runs as one curve: seeds of the same configuration as a mean and an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastdqn.runs.reader import Curve, Run

# What does not make a run another experiment.
_NOT_COMPARED = {
    "seed",
    "max_wall_s",
    "run_dir",
    "resume",
    "lock_timeout_s",
    "step_timeout_s",
    "log_period_env_steps",
    "logger",
    "record_period_env_steps",
    "checkpoint_period_env_steps",
    "checkpoint_keep",
    "checkpoint_keep_best",
    "checkpoint_replay",
    "save_final_checkpoint",
    "eval_episodes",
    "eval_num_envs",
    "eval_period_env_steps",
    "eval_max_env_steps",
    "eval_patience_env_steps",
    "replan_schedules",
}
_BOOTSTRAP_FROM = 5
_RESAMPLES = 2_000
_LABEL_FIELDS, _FEW_FIELDS = 3, 2
_GRID = 1_000


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, whatever their seeds."""

    label: str  # what sets it apart from the other groups; its env if it is the only one
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Aggregate:
    """Mean and interval of several curves, at the env steps where every one of them has data."""

    env_steps: np.ndarray  # float64 [P]
    mean: np.ndarray  # [P]
    low: np.ndarray  # [P]
    high: np.ndarray  # [P]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Runs whose configurations agree but for seed and bookkeeping, in the order they came."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(repr(_compared(run)), []).append(run)
    groups = list(found.values())
    first = [_compared(members[0]) for members in groups]
    differing = [name for name in first[0] if len({repr(config[name]) for config in first}) > 1]
    names = [members[0].path.name for members in groups]
    labels = [_label(*pair, differing) for pair in zip(first, names, strict=True)]
    if len({str(config["env_id"]) for config in first}) == len(first):
        labels = [str(config["env_id"]) for config in first]  # all else follows from it
    return [
        Group(
            label if labels.count(label) == 1 else f"{label}, {name}",
            tuple(members),
        )
        for label, name, members in zip(labels, names, groups, strict=True)
    ]


def _compared(run: Run) -> dict[str, object]:
    config = {name: value for name, value in vars(run.config).items() if name not in _NOT_COMPARED}
    return {**config, "env_id": run.env_name}


def _label(config: dict[str, object], run: str, differing: list[str]) -> str:
    """The settings that differ; where they are many, the run's name and the first of them."""
    parts = []
    for name in differing[: _LABEL_FIELDS if len(differing) <= _LABEL_FIELDS else _FEW_FIELDS]:
        value = config[name]
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(shown if name == "env_id" else f"{name} {shown}")
    more = len(differing) - len(parts)
    return f"{run}: {', '.join(parts)} and {more} more" if more else ", ".join(parts)


def aggregate(curves: Sequence[Curve]) -> Aggregate:
    """Interpolate the curves to common env steps, and take their mean and interval.

    Outside of what all the curves cover there is no mean: it would jump where a run comes in or
    leaves.

    Args:
        curves: Env steps and values of each run, none empty.
    """
    start = max(x[0] for x, _ in curves)
    end = min(x[-1] for x, _ in curves)
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    grid = grid[(grid >= start) & (grid <= end)]
    if len(grid) > _GRID:
        grid = grid[np.linspace(0, len(grid) - 1, _GRID).round().astype(int)]
    values = np.stack([np.interp(grid, x, y) for x, y in curves])
    low, high = _bootstrap(values) if len(curves) >= _BOOTSTRAP_FROM else _range(values)
    return Aggregate(grid, values.mean(axis=0), low, high)


def interval_name(num_runs: int) -> str:
    """What the interval of so many runs is: too few have no bootstrap worth its name."""
    return "95 % bootstrap of the mean" if num_runs >= _BOOTSTRAP_FROM else "min to max"


def _range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.min(axis=0), values.max(axis=0)


def _bootstrap(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap over runs (Efron 1979) of the mean at each point; always the same."""
    runs = len(values)
    drawn = np.random.default_rng(0).integers(runs, size=(_RESAMPLES, runs))
    weights = np.stack([np.bincount(row, minlength=runs) for row in drawn]) / runs
    low, high = np.percentile(weights @ values, [2.5, 97.5], axis=0)
    return low, high

"""Several runs as one curve: seeds of the same configuration as a mean and an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastdqn.runs.reader import Curve, Run
from fastdqn.runs.statistics import FEWEST_RUNS, mean_intervals

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
_LABEL_FIELDS, _FEW_FIELDS = 3, 2
_GRID = 1_000


@dataclass(frozen=True)
class Group:
    """Runs of one configuration on one env, whatever their seeds."""

    label: str  # what sets it apart from others on its env; the env where there is none
    runs: tuple[Run, ...]
    configuration: int = 0  # groups on other envs with the same number differ in the env alone

    @property
    def env_name(self) -> str:
        """What its runs were trained on."""
        return self.runs[0].env_name

    @property
    def settings(self) -> str:
        """Its configuration but for the env, to be compared."""
        return repr({**_compared(self.runs[0]), "env_id": ""})

    @property
    def seeds(self) -> str:
        """How many there are, in words; which one, if it is one."""
        seeds = {run.config.seed for run in self.runs}
        if len(self.runs) == 1:
            return f"seed {self.runs[0].config.seed}"
        return f"{len(self.runs)} {'seeds' if len(seeds) == len(self.runs) else 'runs'}"


@dataclass(frozen=True)
class Aggregate:
    """Mean and interval of several curves, at the env steps where every one of them has data."""

    env_steps: np.ndarray  # float64 [P]
    mean: np.ndarray  # [P]
    interval: tuple[np.ndarray, np.ndarray] | None  # its ends, [P]; None: too few runs


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Runs whose configurations agree but for seed and bookkeeping, in the order they came.

    Settings that follow from the env, in that they vary only from env to env, make no other
    configuration: groups on several envs share one, and its label.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(repr(_compared(run)), []).append(run)
    groups = list(found.values())
    settings = [_compared(members[0]) for members in groups]
    differing = _differing(settings)
    keys = [repr([config[name] for name in differing]) for config in settings]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    labels: dict[str, str] = {}
    for key, config, members in zip(keys, settings, groups, strict=True):
        if key not in labels:
            label = _label(config, members[0].path.name, differing)
            taken = label in labels.values()  # of another run directory of that name
            labels[key] = f"{label} [{numbers[key] + 1}]" if taken else label
    return [
        Group(
            labels[key] if differing else members[0].env_name,
            tuple(members),
            numbers[key],
        )
        for key, members in zip(keys, groups, strict=True)
    ]


@dataclass(frozen=True)
class Returns:
    """The returns of a group over env steps, a curve for each run that has one."""

    evaluated: tuple[Curve, ...]  # means of evaluations
    trained: tuple[Curve, ...]  # means of the last episodes of training

    @property
    def leads(self) -> str:
        """Which of them is the group's curve: evaluations, as soon as a run has two."""
        several = any(len(env_steps) > 1 for env_steps, _ in self.evaluated)
        return "evaluated" if several or not self.trained else "trained"


def returns_of(group: Group) -> Returns:
    """What the runs of a group have earned so far."""
    evaluated = [run.evaluation_curve() for run in group.runs]
    trained = [run.curve("return_mean") for run in group.runs]
    return Returns(
        tuple(curve for curve in evaluated if curve[0]),
        tuple(curve for curve in trained if curve[0]),
    )


def by_env(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups of each env, in the order they came."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.env_name, []).append(group)
    return found


def threshold_of(groups: Sequence[Group]) -> float | None:
    """The return at which the env of these groups counts as solved, if all agree on one."""
    thresholds = {run.reward_threshold for group in groups for run in group.runs} - {None}
    return thresholds.pop() if len(thresholds) == 1 else None


def window_of(runs: Sequence[Run]) -> str:
    """Which episodes make a training return, in words."""
    if all(max(run.curve("episodes")[1], default=0) < run.config.stop_window for run in runs):
        return "mean of all episodes so far"
    windows = {run.config.stop_window for run in runs}
    return f"mean of {windows.pop():,} episodes" if len(windows) == 1 else "mean of recent episodes"


def _compared(run: Run) -> dict[str, object]:
    config = {name: value for name, value in vars(run.config).items() if name not in _NOT_COMPARED}
    return {**config, "env_id": run.env_name}


def _differing(settings: Sequence[dict[str, object]]) -> list[str]:
    """Names of the settings that differ between runs on the same env."""
    values: dict[tuple[str, str], set[str]] = {}
    for config in settings:
        for name, value in config.items():
            values.setdefault((str(config["env_id"]), name), set()).add(repr(value))
    several = {name for (_, name), found in values.items() if len(found) > 1}
    return [name for name in settings[0] if name in several]


def _label(config: dict[str, object], run: str, differing: list[str]) -> str:
    """The settings that differ; where they are many, the run's name and the first of them."""
    parts = []
    for name in differing[: _LABEL_FIELDS if len(differing) <= _LABEL_FIELDS else _FEW_FIELDS]:
        value = config[name]
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(f"{name} {shown}")
    more = len(differing) - len(parts)
    return f"{run}: {', '.join(parts)} and {more} more" if more else ", ".join(parts)


def aggregate(curves: Sequence[Curve]) -> Aggregate:
    """Interpolate the curves to common env steps, and take their mean and its interval.

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
    enough = len(curves) >= FEWEST_RUNS
    return Aggregate(grid, values.mean(axis=0), mean_intervals(values) if enough else None)

"""What the figures of a run are called in dashboards: a group and the column's name."""

from __future__ import annotations

import math
from collections.abc import Mapping

_GROUPS = {
    "rollout": ("episodes", "return_mean", "length_mean", "epsilon"),
    "time": ("env_steps_per_s", "frames_per_s", "updates_per_s", "wall_s"),
}
_GROUP_OF = {name: group for group, names in _GROUPS.items() for name in names}
_CLOCK = "env_steps"
_SAID_ELSEWHERE = ("eval_return_mean",)  # evaluations have rows of their own


def training_figures(row: Mapping[str, float]) -> dict[str, float]:
    """A row of metrics.csv: ``rollout/...``, ``train/...`` and ``time/...``, finite ones alone."""
    left_out = (_CLOCK, *_SAID_ELSEWHERE)
    return {
        f"{_GROUP_OF.get(name, 'train')}/{name}": float(value)
        for name, value in row.items()
        if name not in left_out and math.isfinite(value)
    }


def evaluation_figures(row: Mapping[str, float]) -> dict[str, float]:
    """A row of evaluations.csv: ``eval/return_mean`` and so on; ``final/...`` at the run's end."""
    group = "final" if row.get("final") else "eval"
    said = {
        "episodes": "episodes",
        "unfinished": "unfinished",
        **{name: f"return_{name}" for name in ("mean", "std", "median", "min", "max")},
    }
    return {
        f"{group}/{called}": float(row[name])
        for name, called in said.items()
        if math.isfinite(row.get(name, math.nan))
    }

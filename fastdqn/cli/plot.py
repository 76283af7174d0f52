"""``fastdqn plot``: the curves of runs in one picture."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fastdqn.cli.arguments import parse
from fastdqn.cli.pictures import disk_may_refuse, picture_path
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.plotting.sparkline import sparkline
from fastdqn.runs.reader import Evaluation, Run, read_run

_SPARKLINE = 32  # characters


@dataclass(frozen=True, kw_only=True)
class _PlotFlags:
    """The options of ``fastdqn plot``."""

    run: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Run directories, finished or in progress. Those that differ only in their seed are drawn as
    their mean and interval."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = "curves.png"
    """The picture: .png, .svg or .pdf. An existing one is overwritten."""


def run(args: list[str]) -> int:
    """Draw the curves of runs; ``fastdqn plot``."""
    flags = parse(
        _PlotFlags,
        args,
        prog="fastdqn plot",
        description="Draw the curves of runs.",
        example="fastdqn plot runs/A runs/B --out curves.svg",
    )
    out = picture_path(flags.out)
    if not flags.run:
        raise ConfigError("fastdqn plot needs RUN; 'fastdqn plot --help' says more.")
    paths = {Path(run).resolve(): Path(run) for run in flags.run}  # each only once
    runs = [run for run in map(read_run, paths.values()) if _has_rows(run)]
    if not runs:
        raise CheckpointError(
            "none of these runs has logged a row yet; wait for the first, or name others."
        )
    from fastdqn.plotting.many_runs import plot_curves

    with disk_may_refuse(out):
        groups = plot_curves(runs, out)
    print("\n".join(_summary(runs)))
    kinds = "" if len(groups) == 1 else f", {len(groups)} configurations"
    print(f"{out} ({len(runs)} {'run' if len(runs) == 1 else 'runs'}{kinds})")
    return 0


def _has_rows(run: Run) -> bool:
    if run.curve("env_steps")[0]:
        return True
    warnings.warn(f"{run.path} has logged no row yet; it is left out.", stacklevel=2)
    return False


def _summary(runs: Sequence[Run]) -> list[str]:
    """A line per run: its returns as a sparkline, the newest, and the newest evaluation."""
    width = max(len(str(run.path)) for run in runs)
    lines = []
    for run in runs:
        _, returns = run.curve("return_mean")
        at = f"at {run.curve('env_steps')[0][-1]:,.0f} env steps"
        marks = sparkline(returns, _SPARKLINE, stream=sys.stdout)
        newest = f"return {returns[-1]:.1f} {at}" if returns else f"no episode yet {at}"
        score = f"; {_score(run.evaluations[-1])}" if run.evaluations else ""
        lines.append(f"{run.path!s:<{width}}  {marks:<{_SPARKLINE}}  {newest}{score}")
    return lines


def _score(newest: Evaluation) -> str:
    spread = f" +- {newest.std:.1f}" if math.isfinite(newest.std) else ""
    when = "final evaluation" if newest.final else f"evaluated at {newest.env_steps:,.0f}"
    return f"{when}: {newest.mean:.1f}{spread}"

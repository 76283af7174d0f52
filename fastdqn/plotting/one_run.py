"""``returns.png``: what the agent earned over the run, drawn without a display."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastdqn.errors import ConfigError
from fastdqn.plotting import style
from fastdqn.runs.reader import Evaluation, curve, read_columns, read_evaluations

_MOST_WHISKERS = 40  # more of them would be a band anyway


def plot_returns(run_dir: Path, *, threshold: float | None = None, title: str = "") -> Path:
    """Draw ``metrics.csv`` and ``evaluations.csv`` of a run into ``returns.png`` beside them.

    Args:
        run_dir: Directory of the run.
        threshold: Return at which the env counts as solved.
        title: Heading of the picture; empty: the directory's name.

    Returns:
        The path of the picture.

    Raises:
        ConfigError: Where ``run_dir`` is no path.
        OSError: Where a file cannot be read, or the picture not be written.
    """
    if not isinstance(run_dir, str | os.PathLike):
        raise ConfigError(f"run_dir = {run_dir!r} is no path; pass that of a run.")
    columns = read_columns(Path(run_dir) / "metrics.csv")
    figure = style.new_figure(8.0, 4.5)
    axes = style.plain_axes(figure.add_subplot())
    heading = (title or Path(run_dir).name)[:90]  # what fits
    axes.set_title(heading, loc="left", fontsize=11, parse_math=False)
    axes.set_xlabel("env steps")
    axes.set_ylabel("return per episode")
    style.count_axis(axes.xaxis)

    train = curve(columns, "return_mean")
    evaluations = read_evaluations(Path(run_dir), columns)
    _draw_evaluations(axes, evaluations)
    if train[0]:
        # A single row would be a line of no length.
        axes.plot(
            *train,
            color=style.BLUE,
            linewidth=1.2 if len(evaluations) > 1 else 1.8,
            marker="o" if len(train[0]) == 1 else None,
            markersize=4,
            label="training, mean of the last episodes (lags)",
        )
    empty = not train[0] and not evaluations
    if threshold is not None and not empty:
        axes.axhline(
            threshold,
            color=style.GREEN,
            linewidth=1.2,
            linestyle="--",
            label=f"solved at {threshold:g}",
        )
    if empty:
        axes.text(
            0.5,
            0.5,
            "no finished episodes",
            transform=axes.transAxes,
            ha="center",
            color=style.GREY,
        )
    handles, labels = axes.get_legend_handles_labels()
    epsilon = curve(columns, "epsilon")
    if epsilon[0]:
        line = _epsilon_axis(axes).plot(*epsilon, color=style.GREY, linewidth=0.9, linestyle=":")
        handles, labels = [*handles, line[0]], [*labels, "epsilon (right)"]
    if handles:
        # Below the axes, where it cannot hide a curve.
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=len(handles) if len(handles) < 4 else -(-len(handles) // 2),
            frameon=False,
            fontsize=9,
        )
    return style.save(figure, Path(run_dir) / "returns.png")


def _draw_evaluations(axes: Any, evaluations: Sequence[Evaluation]) -> None:
    """Means with the range of the episodes around them; the final one has a mark of its own."""
    during = [row for row in evaluations if not row.final]
    final = [row for row in evaluations if row.final]
    many = len(during) > _MOST_WHISKERS
    color = style.VERMILION
    for rows, as_band in ((during, many), (final, False)):
        ranges = [row for row in rows if math.isfinite(row.min + row.max)]
        limits = ([row.min for row in ranges], [row.max for row in ranges])
        x = [row.env_steps for row in ranges]
        if as_band:
            axes.fill_between(x, *limits, color=color, alpha=0.15, linewidth=0, zorder=3)
        elif ranges:
            axes.vlines(x, *limits, color=color, alpha=0.3, linewidth=1.4, zorder=4)
    if during:
        spread = " with its range" if any(math.isfinite(row.min) for row in during) else ""
        axes.plot(
            [row.env_steps for row in during],
            [row.mean for row in during],
            color=color,
            linewidth=1.8 if len(during) > 1 else 0.0,
            marker="o",
            markersize=3 if many else 5,
            clip_on=False,
            zorder=5,
            label=f"evaluation{spread}, last {during[-1].mean:.1f}",
        )
    if final:
        # Of other episodes than those before: no line leads to it.
        axes.plot(
            [row.env_steps for row in final],
            [row.mean for row in final],
            color=color,
            linewidth=0.0,
            marker="D",
            markersize=8,
            markeredgecolor="white",
            clip_on=False,
            zorder=6,
            label=f"final evaluation {final[-1].mean:.1f}",
        )


def _epsilon_axis(axes: Any) -> Any:
    side = axes.twinx()
    side.set_ylim(0.0, 1.02)
    side.set_ylabel("epsilon", color=style.GREY, fontsize=9)
    side.tick_params(axis="y", colors=style.GREY, labelsize=8, length=2)
    side.spines[["top", "left"]].set_visible(False)
    side.spines["right"].set_color("#cccccc")
    return side

"""``returns.png``: what the agent earned over the run, drawn without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastdqn import figures
from fastdqn.runs import curve, read_columns


def plot_returns(run_dir: Path, *, threshold: float | None = None, title: str = "") -> Path:
    """Draw ``metrics.csv`` of a run into ``returns.png`` beside it.

    Args:
        run_dir: Directory of the run.
        threshold: Return at which the env counts as solved.
        title: Heading of the picture; empty: the directory's name.

    Returns:
        The path of the picture.
    """
    columns = read_columns(Path(run_dir) / "metrics.csv")
    figure = figures.new_figure(8.0, 4.5)
    axes = figures.plain_axes(figure.add_subplot())
    heading = (title or Path(run_dir).name)[:90]  # what fits
    axes.set_title(heading, loc="left", fontsize=11, parse_math=False)
    axes.set_xlabel("env steps")
    axes.set_ylabel("return per episode")
    figures.count_axis(axes.xaxis)

    train = curve(columns, "return_mean")
    evaluation = curve(columns, "eval_return_mean")
    if train[0]:
        # A single row would be a line of no length.
        axes.plot(
            *train,
            color=figures.BLUE,
            linewidth=1.8,
            marker="o" if len(train[0]) == 1 else None,
            markersize=4,
            label="training, mean of the last episodes (lags)",
        )
    if evaluation[0]:
        axes.plot(
            *evaluation,
            color=figures.VERMILION,
            linewidth=0.8 if len(evaluation[0]) > 1 else 0.0,
            marker="o",
            markersize=6,
            clip_on=False,
            zorder=5,
            label=f"evaluation, last {evaluation[1][-1]:.1f}",
        )
    empty = not train[0] and not evaluation[0]
    if threshold is not None and not empty:
        axes.axhline(
            threshold,
            color=figures.GREEN,
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
            color=figures.GREY,
        )
    handles, labels = axes.get_legend_handles_labels()
    epsilon = curve(columns, "epsilon")
    if epsilon[0]:
        line = _epsilon_axis(axes).plot(*epsilon, color=figures.GREY, linewidth=0.9, linestyle=":")
        handles, labels = [*handles, line[0]], [*labels, "epsilon (right)"]
    if handles:
        # Below the axes, where it cannot hide a curve.
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=len(handles),
            frameon=False,
            fontsize=9,
        )
    return figures.save(figure, Path(run_dir) / "returns.png")


def _epsilon_axis(axes: Any) -> Any:
    side = axes.twinx()
    side.set_ylim(0.0, 1.02)
    side.set_ylabel("epsilon", color=figures.GREY, fontsize=9)
    side.tick_params(axis="y", colors=figures.GREY, labelsize=8, length=2)
    side.spines[["top", "left"]].set_visible(False)
    side.spines["right"].set_color("#cccccc")
    return side

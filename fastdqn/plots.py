"""``returns.png``: what the agent earned over the run, drawn without a display."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import Any

_BLUE, _ORANGE, _GREEN, _GREY = "#2f6db3", "#d9731a", "#3a8a4d", "#8a8a8a"


def plot_returns(run_dir: Path, *, threshold: float | None = None, title: str = "") -> Path:
    """Draw ``metrics.csv`` of a run into ``returns.png`` beside it.

    Args:
        run_dir: Directory of the run.
        threshold: Return at which the env counts as solved.
        title: Heading of the picture; empty: the directory's name.

    Returns:
        The path of the picture.
    """
    # The object API: pyplot would keep global state and might look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    columns = _columns(Path(run_dir) / "metrics.csv")
    figure = Figure(figsize=(8.0, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    heading = (title or Path(run_dir).name)[:90]  # what fits
    axes.set_title(heading, loc="left", fontsize=11, parse_math=False)
    axes.set_xlabel("env steps")
    axes.set_ylabel("return per episode")
    axes.xaxis.set_major_formatter(FuncFormatter(_si))
    axes.grid(True, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

    train = _points(columns, "return_mean")
    evaluation = _points(columns, "eval_return_mean")
    if train[0]:
        axes.plot(*train, color=_BLUE, linewidth=1.8, label="training, mean of recent episodes")
    if evaluation[0]:
        axes.plot(
            *evaluation,
            color=_ORANGE,
            linewidth=0.8 if len(evaluation[0]) > 1 else 0.0,
            marker="o",
            markersize=6,
            clip_on=False,
            zorder=5,
            label=f"evaluation, last {evaluation[1][-1]:.1f}",
        )
    if threshold is not None and (train[0] or evaluation[0]):
        axes.axhline(
            threshold, color=_GREEN, linewidth=1.2, linestyle="--", label=f"solved at {threshold:g}"
        )
    if not train[0] and not evaluation[0]:
        axes.text(
            0.5, 0.5, "no finished episodes", transform=axes.transAxes, ha="center", color=_GREY
        )
    handles, labels = axes.get_legend_handles_labels()
    epsilon = _points(columns, "epsilon")
    if epsilon[0]:
        line = _epsilon_axis(axes).plot(*epsilon, color=_GREY, linewidth=0.9, linestyle=":")
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
    path = Path(run_dir) / "returns.png"
    unfinished = path.with_name("returns.png.tmp")
    figure.savefig(unfinished, format="png")
    os.replace(unfinished, path)
    return path


def _epsilon_axis(axes: Any) -> Any:
    side = axes.twinx()
    side.set_ylim(0.0, 1.02)
    side.set_ylabel("epsilon", color=_GREY, fontsize=9)
    side.tick_params(axis="y", colors=_GREY, labelsize=8, length=2)
    side.spines[["top", "left"]].set_visible(False)
    side.spines["right"].set_color("#cccccc")
    return side


def _columns(path: Path) -> dict[str, list[float]]:
    """The columns of a CSV file as numbers; what is empty or torn becomes NaN."""
    columns: dict[str, list[float]] = {}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(file):
                for name, text in row.items():
                    if isinstance(name, str):
                        columns.setdefault(name, []).append(_number(text))
    except FileNotFoundError:
        pass  # stopped before the first row
    return columns


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _points(columns: dict[str, list[float]], name: str) -> tuple[list[float], list[float]]:
    pairs = zip(columns.get("env_steps", []), columns.get(name, []), strict=False)
    finite = [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]
    return [x for x, _ in finite], [y for _, y in finite]


def _si(value: float, _: Any = None) -> str:
    for scale, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:g}{letter}"
    return f"{value:g}"

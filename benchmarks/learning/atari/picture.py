"""The curves of the result file over what is published, one panel a game."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.learning import jobs
from benchmarks.learning.atari.curve import mean_return
from benchmarks.learning.atari.rows import ROWS, Row
from benchmarks.learning.atari.runs import FRAMES
from benchmarks.learning.atari.table import number
from fastdqn.plotting import style
from fastdqn.runs.atari_scores import RANDOM_AND_HUMAN

_POINTS = 25  # of a curve
_PUBLISHED = "#000000"
_LEGEND_LINE = 0.06  # of the height of a panel


def draw(runs: Sequence[jobs.Row], path: Path) -> Path:
    """Write the picture; its suffix is the format."""
    here = {run["task"] for run in runs}
    panels: dict[str, list[str]] = {}
    for name, row in ROWS.items():
        if name in here:
            panels.setdefault(row.panel, []).append(name)
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    figure = style.new_figure(4.4 * columns, 3.5 * lines)
    for place, (title, names) in enumerate(panels.items()):
        axes = style.plain_axes(figure.add_subplot(lines, columns, place + 1))
        axes.set_title(title, loc="left", fontsize=10)
        axes.tick_params(labelsize=8)
        style.count_axis(axes.xaxis)
        style.count_axis(axes.yaxis)
        _published(axes, ROWS[names[0]])
        for color, name in zip(style.PALETTE, names, strict=False):
            _row(axes, ROWS[name], [run for run in runs if run["task"] == name], color)
        axes.set_xlabel(_what_it_took(runs, names[0]), fontsize=8, color=style.GREY)
        _legend(axes)
    return style.save(figure, path)


def _published(axes: Any, row: Row) -> None:
    """Published scores as lines, and means of frames with two standard deviations to each side."""
    end = row.config.total_env_steps * FRAMES
    if row.window is None:
        shown = [one for one in row.published if one.frames is None]
        labels = [f"published score: {number(one.value)}" for one in shown]
    else:
        shown = [one for one in row.published if one.frames and one.frames[0] < end]
        labels = ["published: mean of these frames, and 2 sd of its seeds"]
    for one, label in zip_longest(shown, labels):
        frames, spread = one.frames or (0, end), 2 * (one.sd or 0.0)
        axes.plot(
            frames, [one.value] * 2, color=_PUBLISHED, linewidth=1.2, linestyle="--", label=label
        )
        low, high = one.value - spread, one.value + spread
        axes.fill_between(frames, low, high, color=_PUBLISHED, alpha=0.15, linewidth=0, zorder=1)
    random, _ = RANDOM_AND_HUMAN[row.env_id]
    axes.axhline(random, color=style.GREY, linewidth=0.8, linestyle=":", label="random play")


def _row(axes: Any, row: Row, own: Sequence[jobs.Row], color: str) -> None:
    for run in own:
        curve, last = run["curve"], run["env_steps"]
        width = last / _POINTS
        points = [
            ((k + 0.5) * width * FRAMES, mean_return(curve, k * width, (k + 1) * width))
            for k in range(_POINTS)
        ]
        label = f"{row.title.replace('`', '')}, training" if run is own[0] else None
        axes.plot(*zip(*points, strict=True), color=color, linewidth=1.3, label=label, zorder=3)
        for one in row.published:
            if row.window is not None and one.frames is not None:
                mean = mean_return(curve, *(frames / FRAMES for frames in one.frames))
                axes.plot(one.frames, [mean] * 2, color=color, linewidth=2.4, alpha=0.45)
        if row.window is None:
            axes.plot(
                [last * FRAMES],
                [run["value"]],
                marker="D",
                linestyle="",
                color=color,
                markeredgecolor="white",
                label="final evaluation" if run is own[0] else None,
                zorder=4,
                clip_on=False,
            )


def _legend(axes: Any) -> None:
    """Above everything drawn, each name once."""
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(reversed(labels), reversed(handles), strict=True))  # the first of a name
    shown = {label: named[label] for label in dict.fromkeys(labels)}
    low, high = axes.get_ylim()
    axes.set_ylim(low, low + (high - low) / (1 - _LEGEND_LINE * len(shown)))
    axes.legend(shown.values(), shown.keys(), frameon=False, fontsize=7.5, loc="upper left")


def _what_it_took(runs: Sequence[jobs.Row], name: str) -> str:
    own = [run for run in runs if run["task"] == name]
    minutes = sorted({round(run["wall_s"] / 60) for run in own})
    seeds, each = (f"{len(own)} seeds", " each") if len(own) > 1 else ("1 seed", "")
    took = f"{minutes[0]} to {minutes[-1]}" if len(minutes) > 1 else f"{minutes[0]}"
    return (
        f"frames ({style.si(own[0]['env_steps'])} env steps, {style.si(own[0]['updates'])} "
        f"updates)\n{seeds}, {took} min{each} on {_hardware(own[0])}"
    )


def _hardware(run: jobs.Row) -> str:
    threads = run["torch_threads"]
    if run["device"] not in ("cpu", run["environment"]["cpu"]):
        return str(run["device"])
    return "one CPU thread" if threads == 1 else f"{threads} CPU threads"

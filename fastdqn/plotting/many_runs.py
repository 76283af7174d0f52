"""``fastdqn plot``: the curves of one or many runs in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastdqn.errors import ConfigError
from fastdqn.plotting import style
from fastdqn.runs.groups import Group, aggregate, group_runs, interval_name
from fastdqn.runs.reader import Run

# Column of metrics.csv, name of the panel; the return has the large one.
_SMALL = (
    ("epsilon", "epsilon"),
    ("td_error_abs", "|TD error|, mean of the batch"),
    ("q_mean", "Q estimate, mean of the batch"),
    ("env_steps_per_s", "env steps/s"),
)
_THIN, _BAND = 0.35, 0.18  # opacity


def plot_curves(runs: Sequence[Run], path: Path) -> list[Group]:
    """Draw return, epsilon, |TD error|, Q and speed of the runs over env steps.

    Runs that differ only in their seed share a colour: the thick line is their mean, as far as
    all of them have come, the band their interval, and thin lines are the single runs. Dots are
    evaluations, diamonds those of a run's end.

    Args:
        runs: At least one.
        path: Of the picture; its suffix is the format (png, svg, pdf).

    Returns:
        The runs by configuration.

    Raises:
        ConfigError: Where there are no runs, or something else than runs.
        OSError: Where the picture cannot be written.
    """
    if not runs:
        raise ConfigError("runs is empty; pass one or more, fastdqn.runs.reader.read_run(path).")
    for run in runs:
        if not isinstance(run, Run):
            raise ConfigError(f"{run!r} is no run; pass fastdqn.runs.reader.read_run(path).")
    groups = group_runs(runs)
    figure = style.new_figure(13.0, 6.2, dpi=110)
    spec = figure.add_gridspec(2, 4)
    large = style.plain_axes(figure.add_subplot(spec[:, :2]))
    small = [
        style.plain_axes(figure.add_subplot(spec[k // 2, 2 + k % 2], sharex=large))
        for k in range(4)
    ]
    large.set_title(_return_title(runs), loc="left", fontsize=11)
    for axes, (_, title) in zip(small, _SMALL, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.tick_params(labelsize=9)
    for axes in (large, *small):
        style.count_axis(axes.xaxis)
    for axes in (large, small[2], small[3]):
        axes.set_xlabel("env steps")

    handles = []
    for number, group in enumerate(groups):
        color = style.PALETTE[number % len(style.PALETTE)]
        dashes = ("-", "--", ":")[number // len(style.PALETTE) % 3]
        for axes, name in (
            (large, "return_mean"),
            *zip(small, (n for n, _ in _SMALL), strict=True),
        ):
            line = _draw(axes, group, name, color, dashes)
            if axes is large:
                line.set_label(f"{group.label} ({_seeds(group)})")
                handles.append(line)
        for run in group.runs:
            _draw_evaluations(large, run, color)
    thresholds = {run.reward_threshold for run in runs} - {None}
    if len(thresholds) == 1 and len({run.env_name for run in runs}) == 1:
        large.axhline(thresholds.pop(), color=style.GREY, linewidth=1.0, linestyle="--", zorder=1)
    _scale(small)
    for axes in (large, *small):
        if not any(len(line.get_xdata()) for line in axes.get_lines() if line.get_zorder() > 1):
            axes.set_yticks([])
            axes.text(
                0.5, 0.5, "nothing yet", transform=axes.transAxes, ha="center", color=style.GREY
            )
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=min(len(handles), 1 if max(len(h.get_label()) for h in handles) > 60 else 2),
        frameon=False,
        fontsize=10,
    )
    figure.supxlabel(_key(groups, runs), fontsize=9, color=style.GREY, x=0.01, ha="left")
    style.save(figure, path)
    return groups


def _draw(axes: Any, group: Group, name: str, color: str, dashes: str) -> Any:
    """The runs of a group in one panel; returns the line that stands for them in the legend."""
    curves = [curve for curve in (run.curve(name) for run in group.runs) if curve[0]]
    strong = {"color": color, "linewidth": 1.8, "linestyle": dashes, "zorder": 4}
    if not curves:
        return axes.plot([], [], **strong)[0]
    if len(curves) == 1:
        # A single row would be a line of no length.
        marker = "s" if len(curves[0][0]) == 1 else ""
        return axes.plot(*curves[0], marker=marker, markersize=4, **strong)[0]
    for curve in curves:
        axes.plot(*curve, color=color, linewidth=0.7, alpha=_THIN, zorder=3)
    total = aggregate(curves)
    axes.fill_between(
        total.env_steps, total.low, total.high, color=color, alpha=_BAND, linewidth=0, zorder=2
    )
    marker = "s" if len(total.env_steps) == 1 else ""
    return axes.plot(total.env_steps, total.mean, marker=marker, markersize=4, **strong)[0]


def _draw_evaluations(axes: Any, run: Run, color: str) -> None:
    for final, marker in ((False, "o"), (True, "D")):
        rows = [row for row in run.evaluations if row.final == final]
        # Not those without: an empty line that is not clipped counts as a point at 0, 0 to the
        # layout, which then makes room down to there.
        if not rows:
            continue
        axes.plot(
            [row.env_steps for row in rows],
            [row.mean for row in rows],
            linestyle="",
            marker=marker,
            markersize=7 if final else 5,
            markerfacecolor=color,
            markeredgecolor="white",
            zorder=6 if final else 5,
            clip_on=False,
        )


def _scale(small: Sequence[Any]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    epsilon, td_error, _, speed = small
    epsilon.set_ylim(-0.02, 1.02)
    td_error.set_ylim(bottom=0)
    if not any(y > 0 for line in speed.get_lines() for y in line.get_ydata()):
        return  # a logarithmic axis has no place for it
    # Before learning starts a run is many times faster: a linear axis would show nothing else.
    speed.set_yscale("log")
    speed.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    speed.yaxis.set_minor_formatter(NullFormatter())
    style.count_axis(speed.yaxis)


def _return_title(runs: Sequence[Run]) -> str:
    windows = {run.config.stop_window for run in runs}
    episodes = f"the last {windows.pop()}" if len(windows) == 1 else "recent"
    ids = {run.env_name for run in runs}
    env = f"{ids.pop()}: " if len(ids) == 1 else ""
    return f"{env}return, mean of {episodes} training episodes"


def _seeds(group: Group) -> str:
    seeds = sorted({run.config.seed for run in group.runs})
    if len(group.runs) == 1:
        return f"seed {seeds[0]}"
    return f"{len(group.runs)} " + ("seeds" if len(seeds) == len(group.runs) else "runs")


def _key(groups: Sequence[Group], runs: Sequence[Run]) -> str:
    """What the marks mean, as far as they occur."""
    parts = []
    several = {len(group.runs) for group in groups if len(group.runs) > 1}
    if several:
        names = sorted({interval_name(count) for count in several})
        parts.append("thick: mean of the runs; band: " + " or ".join(names) + "; thin: each run")
    kinds = {row.final for run in runs for row in run.evaluations}
    parts += ["dots: evaluation"] if False in kinds else []
    parts += ["diamonds: final evaluation"] if True in kinds else []
    thresholds = {run.reward_threshold for run in runs} - {None}
    if len(thresholds) == 1 and len({run.env_name for run in runs}) == 1:
        parts.append(f"dashed: solved at {thresholds.pop():g}")
    return "; ".join(parts)

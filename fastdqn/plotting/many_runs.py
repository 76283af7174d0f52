"""``fastdqn plot``: the curves of one or many runs in one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastdqn.errors import ConfigError
from fastdqn.plotting import style
from fastdqn.runs.groups import (
    Group,
    Returns,
    aggregate,
    by_env,
    group_runs,
    returns_of,
    threshold_of,
    window_of,
)
from fastdqn.runs.reader import Curve, Run
from fastdqn.runs.statistics import FEWEST_RUNS

# Column of metrics.csv, name of the panel; the return has the large one.
_SMALL = (
    ("epsilon", "epsilon"),
    ("td_error_abs", "|TD error|, batch mean"),
    ("q_mean", "Q estimate, batch mean"),
    ("env_steps_per_s", "env steps/s"),
)
_WIDTH, _DPI = 10.0, 150  # inches: text is still read where a page shows it half as wide
_MAIN, _SMALLER, _RUN, _TRAINING = 2.0, 1.3, 0.8, 1.4  # line widths
_FAINT, _BAND, _PALE = 0.4, 0.18, 0.85  # opacity
_MOST_COLUMNS = 3


def plot_curves(runs: Sequence[Run], path: Path) -> list[Group]:
    """Draw the returns of the runs over env steps, a panel for each env.

    Runs that differ only in their seed share a colour. Of three or more the thick line is their
    mean, as far as all of them have come, the band its 95 % bootstrap interval, and faint lines are
    the single runs; of fewer every run is a line. Evaluations make these lines, and training
    returns a dotted one beside them; where no run was evaluated twice, training returns make them,
    and diamonds are evaluations. Of one env epsilon, |TD error|, Q and speed are drawn, too.

    Args:
        runs: At least one.
        path: Of the picture; its suffix is the format (png, svg, pdf).

    Returns:
        The runs by configuration and env.

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
    envs = by_env(groups)
    if len(envs) == 1:
        figure, large, small = _one_env(groups[0].env_name)
        for group in groups:
            for axes, (name, _) in zip(small, _SMALL, strict=True):
                curves = [curve for curve in (run.curve(name) for run in group.runs) if curve[0]]
                _draw(axes, curves, group.configuration, _SMALLER)
        _scale(small)
        panels = {groups[0].env_name: large}
    else:
        figure, panels = _many_envs(envs)
        small = []
    for env, axes in panels.items():
        for group in envs[env]:
            _draw_returns(axes, returns_of(group), group.configuration)
        _draw_threshold(axes, envs[env])
    for axes in (*panels.values(), *small):
        style.count_axis(axes.xaxis, most=5 if axes in small or len(panels) > 1 else 7)
        if not any(len(line.get_xdata()) for line in axes.get_lines() if line.get_zorder() > 1):
            axes.set_yticks([])
            axes.text(
                0.5, 0.5, "nothing yet", transform=axes.transAxes, ha="center", color=style.GREY
            )
    _legends(figure, groups, envs)
    style.save(figure, path)
    return groups


def _one_env(env: str) -> tuple[Any, Any, list[Any]]:
    figure = style.new_figure(_WIDTH, 5.2, dpi=_DPI)
    spec = figure.add_gridspec(2, 4)
    large = style.plain_axes(figure.add_subplot(spec[:, :2]))
    small = [
        style.plain_axes(figure.add_subplot(spec[k // 2, 2 + k % 2], sharex=large))
        for k in range(4)
    ]
    large.set_title(f"{env[:40]}: return per episode", loc="left", fontsize=11, parse_math=False)
    for axes, (_, title) in zip(small, _SMALL, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.tick_params(labelsize=9)
    for axes in (large, *small[2:]):
        axes.set_xlabel("env steps")
    return figure, large, small


def _many_envs(envs: dict[str, list[Group]]) -> tuple[Any, dict[str, Any]]:
    """A panel for each env: their returns have different units."""
    columns = 2 if len(envs) in (2, 4) else _MOST_COLUMNS
    rows = math.ceil(len(envs) / columns)
    figure = style.new_figure(_WIDTH, 2.8 * rows + 1.2, dpi=_DPI)
    panels = {}
    for number, (name, groups) in enumerate(envs.items()):
        axes = style.plain_axes(figure.add_subplot(rows, columns, number + 1))
        counted = f" ({groups[0].seeds})" if len(groups) == 1 else ""
        axes.set_title(name[:40] + counted, loc="left", fontsize=11, parse_math=False)
        if number + columns >= len(envs):
            axes.set_xlabel("env steps")
        if number % columns == 0:
            axes.set_ylabel("return per episode")
        panels[name] = axes
    return figure, panels


def _draw_returns(axes: Any, returns: Returns, configuration: int) -> None:
    if returns.leads == "trained":
        _draw(axes, returns.trained, configuration)
        for env_steps, means in returns.evaluated:
            axes.plot(
                env_steps,
                means,
                linestyle="",
                marker="D",
                markersize=7,
                markerfacecolor=_color(configuration),
                markeredgecolor="white",
                zorder=6,
                clip_on=False,
            )
        return
    _draw(axes, returns.evaluated, configuration)
    for env_steps, means in _mean_or_each(returns.trained):
        axes.plot(
            env_steps,
            means,
            color=_color(configuration),
            linewidth=_TRAINING,
            linestyle=":",
            alpha=_PALE,
            zorder=3,
        )


def _draw(axes: Any, curves: Sequence[Curve], configuration: int, width: float = _MAIN) -> None:
    """The curves of one configuration in one panel."""
    color = _color(configuration)
    dashes = ("-", "--", "-.")[configuration // len(style.PALETTE) % 3]
    if len(curves) >= FEWEST_RUNS:
        for curve in curves:
            axes.plot(*curve, color=color, linewidth=_RUN, alpha=_FAINT, zorder=3)
        total = aggregate(curves)
        assert total.interval is not None
        axes.fill_between(
            total.env_steps, *total.interval, color=color, alpha=_BAND, linewidth=0, zorder=2
        )
    for env_steps, values in _mean_or_each(curves):
        # A single row would be a line of no length.
        marker = "s" if len(env_steps) == 1 else ""
        axes.plot(
            env_steps,
            values,
            color=color,
            linewidth=width,
            linestyle=dashes,
            marker=marker,
            markersize=4,
            zorder=4,
        )


def _mean_or_each(curves: Sequence[Curve]) -> list[Any]:
    """Two runs have a mean, but no interval: a line for it would hide how little is known."""
    if len(curves) < FEWEST_RUNS:
        return list(curves)
    total = aggregate(curves)
    return [(total.env_steps, total.mean)]


def _draw_threshold(axes: Any, groups: Sequence[Group]) -> None:
    found = threshold_of(groups)
    if found is not None:
        axes.axhline(found, color=style.GREY, linewidth=1.0, linestyle="--", zorder=1)


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


def _legends(figure: Any, groups: Sequence[Group], envs: dict[str, list[Group]]) -> None:
    """Above, the colours of the configurations; below, what the marks that occur mean."""
    from matplotlib.lines import Line2D

    names = _names(groups, envs)
    if names:
        handles = [
            Line2D([], [], color=_color(number), linewidth=_MAIN, label=name)
            for number, name in names.items()
        ]
        figure.legend(
            handles=handles,
            loc="outside upper left",
            ncols=1 if max(map(len, names.values())) > 45 else min(len(handles), 3),
            frameon=False,
            fontsize=10,
        )
    key = _key(groups, envs)
    figure.legend(
        handles=key, loc="outside lower left", ncols=3, frameon=False, fontsize=9,
        labelcolor="#444444",
    )  # fmt: skip


def _names(groups: Sequence[Group], envs: dict[str, list[Group]]) -> dict[int, str]:
    """What each colour stands for; nothing where the names of panels say it."""
    if len(envs) > 1 and len({group.configuration for group in groups}) == 1:
        return {}
    names: dict[int, str] = {}
    for group in groups:
        same = [each for each in groups if each.configuration == group.configuration]
        seeds = {each.seeds for each in same}
        counted = f" ({seeds.pop()})" if len(seeds) == 1 else ""
        names[group.configuration] = f"{group.label}{counted}"
    return names


def _key(groups: Sequence[Group], envs: dict[str, list[Group]]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    returns = [returns_of(group) for group in groups]
    kinds = {each.leads for each in returns}
    trained = f"training ({window_of([run for group in groups for run in group.runs])})"
    counts = [len(getattr(each, each.leads)) for each in returns]
    averaged, single = max(counts) >= FEWEST_RUNS, min(counts) < FEWEST_RUNS
    of = ": mean of the runs" + (f", each run if fewer than {FEWEST_RUNS}" if single else "")
    of = of if averaged else ""
    grey: Any = {"color": "#444444"}
    handles: list[Any] = []
    if "evaluated" in kinds:
        handles.append(Line2D([], [], linewidth=_MAIN, label=f"evaluation{of}", **grey))
    if "trained" in kinds:
        handles.append(Line2D([], [], linewidth=_MAIN, label=f"{trained}{of}", **grey))
    if averaged:
        handles.append(Patch(alpha=_BAND, label="95 % bootstrap interval of the mean", **grey))
        handles.append(Line2D([], [], linewidth=_RUN, alpha=_FAINT, label="each run", **grey))
    if any(each.leads == "evaluated" and each.trained for each in returns):
        handles.append(Line2D([], [], linewidth=_TRAINING, linestyle=":", label=trained, **grey))
    if any(each.leads == "trained" and each.evaluated for each in returns):
        handles.append(Line2D([], [], linestyle="", marker="D", label="evaluation", **grey))
    thresholds = {threshold_of(each) for each in envs.values()} - {None}
    if thresholds:
        at = f" at {thresholds.pop():g}" if len(thresholds) == 1 else ""
        handles.append(
            Line2D([], [], color=style.GREY, linewidth=1.0, linestyle="--", label=f"solved{at}")
        )
    return handles


def _color(configuration: int) -> str:
    return style.PALETTE[configuration % len(style.PALETTE)]

"""A dot and a range for every case measured, a panel per group; peers in another colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastdqn.bench.columns import busy
from fastdqn.bench.figures import duration, rate
from fastdqn.bench.table import TITLES
from fastdqn.plotting import style

Record = Mapping[str, Any]
# What a group's dots show: a rate, or else the median time.
_RATES = {
    "env": "env_steps",
    "act": "env_steps",
    "per": "samples",
    "gather": "samples",
    "net": "samples",
    "adam": "updates",
    "update": "updates",
    "e2e": "env_steps",
}
_NAMES = {"env_steps": "env steps", "samples": "samples", "updates": "updates"}
_MARKS = (
    "dot: median over windows; line: p10 to p90; rates: right is better, times: left is better\n"
    "orange: other ways of doing the same; hollow: other processes kept the CPUs busy"
)
_WIDTH_INCHES, _ROW_INCHES, _PANEL_INCHES, _HEAD_INCHES = 11.0, 0.24, 0.75, 1.1


def save(result: Record, path: Path) -> None:
    """Write the picture; the suffix says as what.

    Args:
        result: What ``--json`` writes.
        path: ``.png``, ``.svg`` or ``.pdf``.
    """
    done = [record for record in result["cases"] if record["status"] == "ok"]
    done = beside_their_peers(done)
    panels = [(g, own) for g in TITLES if (own := [r for r in done if _panel_of(r) == g])]
    heights = [_PANEL_INCHES + _ROW_INCHES * len(own) for _, own in panels] or [1.0]
    figure = style.new_figure(_WIDTH_INCHES, _HEAD_INCHES + sum(heights), dpi=130)
    figure.suptitle(heading(result), fontsize=11, x=0.01, ha="left", linespacing=1.5)
    axes = figure.subplots(max(1, len(panels)), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (group, own) in zip(axes, panels, strict=False):
        _panel(axis, group, own)
    if not panels:
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, "no case was measured", ha="center")
    figure.supxlabel(_MARKS, fontsize=8, x=0.01, ha="left", color=style.GREY)
    style.save(figure, path)


def heading(result: Record) -> str:
    """Machine, date and versions, in two lines."""
    machine = result["fingerprint"]
    versions = machine["versions"]
    device, cpus = machine["device_name"], f"{machine['cpus_usable']} CPUs"
    software = [
        f"{name} {versions[name]}"
        for name in ("fastdqn", "torch", "gymnasium", "numpy", "python", "cuda")
        if versions.get(name)
    ]
    if machine.get("git_commit"):
        software.append(f"commit {machine['git_commit'][:12]}")
    smoke = ": a smoke run, no figure means anything" if result["settings"]["smoke"] else ""
    return f"fastdqn bench on {device}, {cpus}, {result['date'][:10]}{smoke}\n{', '.join(software)}"


def beside_their_peers(records: Sequence[Record]) -> list[Record]:
    """Each peer behind the last case that was timed in turns with it."""
    last = {
        peer: record["name"] for record in records for peer in record.get("times_as_fast_as", ())
    }
    ordered = [record for record in records if record["name"] not in last]
    for peer in (record for record in records if record["name"] in last):
        names = [record["name"] for record in ordered]
        ordered.insert(names.index(last[peer["name"]]) + 1, peer)
    return ordered


def _panel_of(record: Record) -> str:
    if record["group"] != "peer":
        return str(record["group"])
    panels = {"updates_per_s": "update", "env_steps_per_s": "env"}
    return next((panel for rate, panel in panels.items() if rate in record["rates"]), "per")


def _panel(axis: Any, group: str, own: Sequence[Record]) -> None:
    name = _RATES.get(group)
    key = f"{name}_per_s"
    by_rate = name is not None and all(key in record["rates"] for record in own)
    ends: list[float] = []
    for place, record in enumerate(own):
        us = record["us"]
        if by_rate:
            value = record["rates"][key]
            low, high = (value * us["median"] / us[end] for end in ("p90", "p10"))
            label = rate(value)
        else:
            value, low, high = us["median"], us["p10"], us["p90"]
            label = duration(value)
        colour = style.VERMILION if record["group"] == "peer" else style.BLUE
        axis.plot([low, high], [place, place], color=colour, linewidth=2.2, alpha=0.45)
        doubtful = busy(record)
        axis.plot(
            value, place, "o", markersize=6, color=colour,
            markerfacecolor="white" if doubtful else colour,
        )  # fmt: skip
        axis.annotate(
            label, (high, place), xytext=(8, 0), textcoords="offset points", va="center",
            fontsize=8.5, color=colour,
        )  # fmt: skip
        ends += [low, high]
    style.plain_axes(axis)
    axis.set_yticks(range(len(own)), [record["name"] for record in own], fontsize=8.5)
    axis.set_ylim(len(own) - 0.4, -0.6)
    axis.set_xscale("log")
    axis.set_xlim(min(ends) / 1.5, max(ends) * _room(min(ends), max(ends)))
    _ticks(axis, by_rate)
    what = f"{_NAMES[str(name)]} per second" if by_rate else "time of one unit"
    axis.set_title(f"{group}: {TITLES[group].partition(',')[0]}, {what}", fontsize=10, loc="left")


def _room(low: float, high: float) -> float:
    """On the right of a logarithmic axis, for the labels there."""
    return 1.3 * (high / low * 1.5) ** 0.14


def _ticks(axis: Any, by_rate: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_xlim()
    subs = (1.0,) if high / low > 300 else (1.0, 3.0) if high / low > 20 else (1.0, 2.0, 5.0)
    axis.xaxis.set_major_locator(LogLocator(subs=subs))
    axis.xaxis.set_minor_locator(NullLocator())

    def said(value: float, _: Any = None) -> str:
        text = rate(value) if by_rate else duration(value)
        number, _, unit = text.partition(" ")
        return f"{float(number.replace(',', '')):,g} {unit}".strip()

    axis.xaxis.set_major_formatter(FuncFormatter(said))
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)

"""Horizontal bars of every case that was measured, a panel per group; peers beside what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastdqn.bench.catalogue import GROUPS
from fastdqn.bench.table import TITLES, duration, rate

Record = Mapping[str, Any]
# What a group's bars show: a rate, or else the median time.
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
_BAR_INCHES = 0.28


def save(records: Sequence[Record], lines: Sequence[str], path: Path) -> None:
    """Write the picture; the suffix says as what.

    Args:
        records: Of :func:`fastdqn.bench.runner.run_cases`.
        lines: The headline.
        path: ``.png``, ``.svg`` or ``.pdf``.
    """
    from matplotlib.figure import Figure

    done = [record for record in records if record["status"] == "ok"]
    panels = [(g, own) for g in GROUPS if (own := [r for r in done if _panel_of(r) == g])]
    heights = [len(own) + 1.6 for _, own in panels] or [1]
    figure = Figure(figsize=(10, 0.9 + _BAR_INCHES * sum(heights) * 1.15), layout="constrained")
    figure.suptitle("\n".join(lines[:3]), fontsize=8, x=0.01, ha="left", family="monospace")
    axes = figure.subplots(max(1, len(panels)), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (group, own) in zip(axes, panels, strict=False):
        _panel(axis, group, own)
    figure.savefig(path, dpi=130)


def _panel_of(record: Record) -> str:
    if record["group"] != "peer":
        return str(record["group"])
    panels = {"updates_per_s": "update", "env_steps_per_s": "env"}
    return next((panel for rate, panel in panels.items() if rate in record["rates"]), "per")


def _panel(axis: Any, group: str, own: Sequence[Record]) -> None:
    name = _RATES.get(group)
    key = f"{name}_per_s"
    by_rate = name is not None and all(key in record["rates"] for record in own)
    values, low, high, labels = [], [], [], []
    for record in own:
        us = record["us"]
        if by_rate:
            value = record["rates"][key]
            worst, best = value * us["median"] / us["p90"], value * us["median"] / us["p10"]
            label = rate(value)
        else:
            value, worst, best = us["median"], us["p10"], us["p90"]
            label = duration(value)
        values.append(value)
        low.append(value - worst)
        high.append(best - value)
        labels.append(label)
    places = range(len(own))
    colours = ["#b0b0b0" if record["group"] == "peer" else "#2a78b8" for record in own]
    axis.barh(places, values, xerr=(low, high), color=colours, ecolor="#555555", capsize=2)
    axis.set_yticks(places, [record["name"] for record in own], fontsize=7)
    axis.invert_yaxis()
    axis.set_xscale("log")
    # Room for the labels on the right; bars of one decade still show their differences.
    axis.set_xlim(min(values) / 3, max(values) * 4)
    for place, value, up, label in zip(places, values, high, labels, strict=True):
        axis.text((value + up) * 1.06, place, label, va="center", fontsize=7)
    what = (
        f"{str(name).replace('_', ' ')}/s, logarithmic"
        if by_rate
        else "microseconds, less is better; logarithmic"
    )
    axis.set_title(f"{group}: {TITLES[group]} ({what})", fontsize=8, loc="left")
    axis.tick_params(axis="x", which="both", labelsize=6)
    axis.spines[["top", "right"]].set_visible(False)

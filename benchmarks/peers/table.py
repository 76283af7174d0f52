"""Medians, spreads and ratios, and the markdown that shows them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.peers.rows import ROWS


def ratio(ours: float, peer: float, more_is_better: bool) -> float:
    """How many times better ours is, whichever way better lies."""
    return ours / peer if more_is_better else peer / ours


def median_ratio(ours: Sequence[float], peer: Sequence[float], more_is_better: bool) -> float:
    """Ratio of the medians."""
    return ratio(statistics.median(ours), statistics.median(peer), more_is_better)


def worst_ratio(ours: Sequence[float], peer: Sequence[float], more_is_better: bool) -> float:
    """Our worst round against the peer's best."""
    if more_is_better:
        return ratio(min(ours), max(peer), True)
    return ratio(max(ours), min(peer), False)


def is_ours(label: str) -> bool:
    """Whether a label is one of fastdqn's."""
    return label.startswith("fastdqn")


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    if value >= 1000:
        return f"{value:,.0f}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}"


def spread(values: Sequence[float]) -> str:
    """``median (min-max)``; one value stands alone."""
    middle = number(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))}-{number(max(values))})"


def row_table(
    name: str, results: Mapping[str, Mapping[str, Any]], protocol: str | None = None
) -> str:
    """One row's table: a line per system, a column per way to run fastdqn.

    Args:
        name: Of the row.
        results: By label: ``values``, one per round, or ``failed``, a reason.
        protocol: As it was when measured; None: as it is.
    """
    row = ROWS[name]
    found = {label: r["values"] for label, r in results.items() if "values" in r}
    ours = [label for label in found if is_ours(label)]
    peers = [label for label in found if not is_ours(label)]
    heads = [f"{label}: {spread(found[label])}" for label in ours]
    lines = [
        f"**{name}**: {protocol or row.protocol}; {row.unit}",
        "",
        "| " + " | ".join(["system", f"{row.unit}, median (min-max)", *heads]) + " |",
        "|---" * (2 + len(ours)) + "|",
    ]
    for label in peers:
        cells = [
            f"{median_ratio(found[o], found[label], row.more_is_better):.2f}x "
            f"(worst {worst_ratio(found[o], found[label], row.more_is_better):.2f}x)"
            for o in ours
        ]
        lines.append("| " + " | ".join([label, spread(found[label]), *cells]) + " |")
    for label, result in results.items():
        if "failed" in result:
            lines.append(f"| {label} | failed: {result['failed']} |" + " |" * len(ours))
    return "\n".join(lines)


def tables(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Every row that has results, in the order of ROWS."""
    return "\n\n".join(
        row_table(name, rows[name]["results"], rows[name].get("protocol"))
        for name in ROWS
        if name in rows and rows[name]["results"]
    )

"""What was found beside what was predicted and what is wanted. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.gpu.targets import PREDICTIONS, TARGETS, Found, Prediction, Target

NOT_RUN = "not run"


def stage_lines(
    name: str,
    record: Mapping[str, Any],
    found: Found,
    predictions: Sequence[Prediction] = PREDICTIONS,
) -> list[str]:
    """A stage's entries in a line each, its errors, and its predictions.

    Args:
        name: Of the stage.
        record: As its file has it.
        found: Entries of all stages.
        predictions: Of all stages.
    """
    lines = [f"{key}: {_short(value)}" for key, value in record.get("entries", {}).items()]
    lines += [f"{key} failed: {why[:160]}" for key, why in record.get("errors", {}).items()]
    lines += [f"{key} left out: {why}" for key, why in record.get("left_out", {}).items()]
    for prediction in predictions:
        value = prediction.find(found) if prediction.stage == name else None
        if value is not None:
            lines.append(f"{prediction.line}: {verdict(prediction, value)}")
    return lines


def verdict(prediction: Prediction, value: float) -> str:
    """``48,000 frames/s, predicted 54,000: 0.89 x``."""
    low, high, unit = prediction.low, prediction.high, prediction.unit
    if low <= value <= high:
        miss = "as predicted"
    else:
        miss = f"{value / (low if value < low else high):.2f} x"
    foreseen = number(low) if low == high else f"{number(low)} to {number(high)}"
    return f"{number(value)} {unit}".strip() + f", predicted {foreseen}: {miss}"


def target_rows(found: Found, targets: Sequence[Target] = TARGETS) -> list[dict[str, Any]]:
    """Target by target: what is wanted, ``measured`` (None: not run), ``met``, ``aim_met``."""
    rows = []
    for target in targets:
        value = target.find(found)

        def meets(wanted: float | None, target: Target = target, value: Any = value) -> Any:
            if value is None or wanted is None:
                return None
            return bool(value <= wanted if target.at_most else value >= wanted)

        rows.append(
            {
                "target": target.line,
                "unit": target.unit,
                "at_most": target.at_most,
                "must": target.must,
                "aim": target.aim,
                "measured": value,
                "met": meets(target.must),
                "aim_met": meets(target.aim),
            }
        )
    return rows


def target_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """:func:`target_rows` for a terminal."""
    cells = [("target", "must", "aim", "measured", "")]
    for row in rows:
        bound = "<= " if row["at_most"] else ">= "
        measured = row["measured"]
        cells.append(
            (
                row["target"],
                f"{bound}{number(row['must'])} {row['unit']}",
                "" if row["aim"] is None else number(row["aim"]),
                NOT_RUN if measured is None else f"{number(measured)} {row['unit']}",
                {None: "", True: "met", False: "missed"}[row["met"]]
                + (", the aim too" if row["aim_met"] else ""),
            )
        )
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def number(value: float) -> str:
    """Three digits, or whole thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _short(value: Any) -> str:
    """An entry on one line: times as ``us (p10 .. p90)``, of anything long its beginning."""
    if isinstance(value, Mapping):
        parts = []
        if "us" in value and isinstance(value["us"], int | float):
            parts.append(f"{number(value['us'])} us")
            if "p10" in value and "p90" in value:
                parts[0] += f" ({number(value['p10'])} .. {number(value['p90'])})"
        for key, inner in value.items():
            if key in ("us", "p10", "p90"):
                continue
            if isinstance(inner, Mapping) and "us" in inner:
                parts.append(f"{key} {_short(inner)}")
            elif isinstance(inner, Mapping) and "launches" in inner:
                parts.append(f"{number(inner['launches'])} launches")
            elif isinstance(inner, bool | str):
                parts.append(f"{key} {inner}")
            elif isinstance(inner, int | float):
                parts.append(f"{key} {number(inner)}")
        text = ", ".join(parts)
    elif isinstance(value, float):
        text = number(value)
    elif isinstance(value, list):
        text = f"{len(value)} rows, the last {value[-1]}" if value else "no rows"
    else:
        text = str(value)
    return text[:200]

"""Two results side by side: which cases got faster or slower by more than their noise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastdqn.bench.fingerprint import differences
from fastdqn.errors import ConfigError

FORMAT_VERSION = 1
KIND = "fastdqn bench"

Result = Mapping[str, Any]


def load(path: str) -> dict[str, Any]:
    """Read what ``--json`` wrote; ConfigError where it is not that."""
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"compare = {path!r} cannot be read ({error}).") from None
    if not isinstance(result, dict) or result.get("kind") != KIND:
        raise ConfigError(
            f"compare = {path!r} is no result of 'fastdqn bench'; name a file that --json wrote."
        )
    if result.get("format_version") != FORMAT_VERSION:
        raise ConfigError(
            f"compare = {path!r} has format_version {result.get('format_version')!r}, this fastdqn "
            f"reads {FORMAT_VERSION}; measure the old version again."
        )
    return result


def ratios(old: Result, new: Result) -> list[dict[str, Any]]:
    """Time of the new over time of the old, per case measured in both.

    ``low`` and ``high`` are the ratios of opposite ends of the two ranges from p10 to p90; a case
    is ``faster`` or ``slower`` where those ranges do not overlap, else ``same``.
    """
    before = {case["name"]: case for case in old["cases"] if case["status"] == "ok"}
    found = []
    for case in new["cases"]:
        if case["status"] != "ok" or case["name"] not in before:
            continue
        a, b = before[case["name"]]["us"], case["us"]
        verdict = "faster" if b["p90"] < a["p10"] else "slower" if b["p10"] > a["p90"] else "same"
        found.append(
            {
                "name": case["name"],
                "ratio": b["median"] / a["median"],
                "low": b["p10"] / a["p90"],
                "high": b["p90"] / a["p10"],
                "verdict": verdict,
            }
        )
    return found


def lines(old: Result, new: Result, path: str) -> list[str]:
    """The comparison, for people."""
    rows = ratios(old, new)
    said = [f"against {path} ({old.get('date')}): time new / old, with the spread"]
    apart = differences(old["fingerprint"], new["fingerprint"])
    if apart:
        said.append(f"warning: another machine or software: {'; '.join(apart)}")
    if old["settings"].get("smoke") != new["settings"].get("smoke"):
        said.append("warning: one of them is a smoke run, of other sizes")
    width = max((len(row["name"]) for row in rows), default=0)
    marks = {"faster": "  faster", "slower": "  SLOWER", "same": ""}
    said += [
        f"{row['name']:<{width}}  {row['ratio']:6.3f}  ({row['low']:.3f} .. {row['high']:.3f})"
        f"{marks[row['verdict']]}"
        for row in rows
    ]
    if not rows:
        said.append("no case was measured in both")
    return [*said, *_appeared(old["cases"], new["cases"])]


def _appeared(old: Sequence[Result], new: Sequence[Result]) -> list[str]:
    was = {case["name"]: case["status"] for case in old}
    return [
        f"warning: {case['name']} was measured before and is now {case['status']}"
        for case in new
        if case["status"] != "ok" and was.get(case["name"]) == "ok"
    ]

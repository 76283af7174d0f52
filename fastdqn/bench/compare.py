"""Two results side by side: which cases got faster or slower by more than their noise."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastdqn.bench.columns import busy
from fastdqn.bench.fingerprint import differences
from fastdqn.bench.noise import change
from fastdqn.errors import ConfigError

FORMAT_VERSION = 1
KIND = "fastdqn bench"
UNKNOWN = "noise unknown"
_DOUBTFUL = "the machine was busy"

Result = Mapping[str, Any]


def load(path: str) -> dict[str, Any]:
    """Read what ``--json`` wrote; ConfigError where it is not that."""
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"compare = {path!r} cannot be read ({error}); name a file that --json wrote."
        ) from None
    if not isinstance(result, dict) or result.get("kind") != KIND:
        raise ConfigError(
            f"compare = {path!r} is no result of 'fastdqn bench'; name a file that --json wrote."
        )
    if result.get("format_version") != FORMAT_VERSION:
        raise ConfigError(
            f"compare = {path!r} has format_version {result.get('format_version')!r}, this fastdqn "
            f"reads {FORMAT_VERSION}; measure the old version again."
        )
    parts = {"cases": list, "fingerprint": dict, "settings": dict}
    missing = [name for name, kind in parts.items() if not isinstance(result.get(name), kind)]
    if missing or not all(map(_whole, result["cases"])):
        raise ConfigError(
            f"compare = {path!r} lacks {' and '.join(missing) or 'times of its cases'}; name a "
            f"file that --json wrote."
        )
    return result


def _whole(case: Any) -> bool:
    """Whether a case of a file has what is read here."""
    if not isinstance(case, dict) or not isinstance(case.get("name"), str):
        return False
    if case.get("status") != "ok":
        return "status" in case
    us = case.get("us")
    times = [us.get("median") if isinstance(us, dict) else None, *case.get("rounds_us", ())]
    return all(isinstance(time, int | float) and time > 0 for time in times)


def names(result: Result) -> list[str]:
    """Of the cases that it has times of."""
    return [case["name"] for case in result["cases"] if case["status"] == "ok"]


def ratios(old: Result, new: Result) -> list[dict[str, Any]]:
    """Time of the new over time of the old, per case measured in both.

    ``verdict`` is ``faster`` or ``slower`` where the interval of 95 % (``low`` to ``high``) lies
    on one side of 1, else ``within noise``; where neither has two rounds there is no interval, and
    the noise is unknown. ``doubtful`` says that other processes kept the CPUs busy.
    """
    before = {case["name"]: case for case in old["cases"] if case["status"] == "ok"}
    found = []
    for case in new["cases"]:
        if case["status"] != "ok" or case["name"] not in before:
            continue
        a, b = before[case["name"]], case
        changed = change(_rounds(a), _rounds(b))
        known: dict[str, Any] = {
            "ratio": b["us"]["median"] / a["us"]["median"], "low": None, "high": None,
            "verdict": UNKNOWN,
        }  # fmt: skip
        if changed is not None:
            known = {
                "ratio": changed.ratio, "low": changed.low, "high": changed.high,
                "verdict": changed.verdict,
            }  # fmt: skip
        found.append({"name": case["name"], **known, "doubtful": busy(a) or busy(b)})
    return found


def _rounds(case: Result) -> Sequence[float]:
    return case.get("rounds_us") or [case["us"]["median"]]


def lines(old: Result, new: Result, path: str) -> list[str]:
    """The comparison, for people."""
    rows = ratios(old, new)
    said = [f"against {path} ({old.get('date')}): time now / time then, interval of 95 %"]
    apart = differences(old["fingerprint"], new["fingerprint"])
    if apart:
        said.append(f"warning: another machine or software: {'; '.join(apart)}")
    if old["settings"].get("smoke") or new["settings"].get("smoke"):
        said.append("warning: a smoke run's times mean nothing")
    width = max((len(row["name"]) for row in rows), default=0)
    said += [_line(row, width) for row in rows]
    if not rows:
        said.append("no case was measured in both")
    return [*said, *_summary(rows), *_appeared(old["cases"], new["cases"])]


def _line(row: Result, width: int) -> str:
    interval = "" if row["low"] is None else f"{row['low']:.3f} .. {row['high']:.3f}"
    verdict = row["verdict"].upper() if row["verdict"] == "slower" else row["verdict"]
    doubt = f", but {_DOUBTFUL}" if row["doubtful"] else ""
    return f"{row['name']:<{width}}  {row['ratio']:6.3f}  {interval:<16}  {verdict}{doubt}"


def _summary(rows: Sequence[Result]) -> list[str]:
    if not rows:
        return []
    count = {
        verdict: sum(row["verdict"] == verdict for row in rows)
        for verdict in ("slower", "faster", "within noise", UNKNOWN)
    }
    said = [", ".join(f"{n} {verdict}" for verdict, n in count.items() if n or verdict != UNKNOWN)]
    if count[UNKNOWN]:
        said.append(
            f"{UNKNOWN}: neither result has more than one round; measure both with --rounds 2"
        )
    known = [row for row in rows if row["low"] is not None]
    if known:
        width = statistics.median(row["high"] / row["ratio"] - 1 for row in known)
        least = f"of {100 * width:.0f} %" if width < 1 else f"by a factor of {1 + width:.0f}"
        said.append(
            f"half of the cases would show a change {least}; of twenty that have not changed one "
            "looks changed by chance: measure again what matters"
        )
    if any(row["doubtful"] for row in rows):
        said.append(f"where {_DOUBTFUL}, a change may be another process's: measure again")
    return said


def _appeared(old: Sequence[Result], new: Sequence[Result]) -> list[str]:
    was = {case["name"]: case["status"] for case in old}
    return [
        f"warning: {case['name']} was measured before and is now {case['status']}"
        for case in new
        if case["status"] != "ok" and was.get(case["name"]) == "ok"
    ]

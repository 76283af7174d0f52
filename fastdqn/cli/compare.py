"""``fastdqn compare``: what sets runs apart, and what they came to, side by side."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fastdqn.cli.arguments import parse
from fastdqn.errors import ConfigError
from fastdqn.runs.comparison import (
    Account,
    differences,
    not_recorded,
    one_line,
    read_account,
    shown_value,
)

_WIDTH = 100  # characters, where there is no terminal
_NARROWEST = 16  # of a run's column
_LONGEST_NAME = 30
_DOTS = "..."

Row = tuple[str, list[str]]  # a label, and a value for each run; no values: a heading


@dataclass(frozen=True, kw_only=True)
class _CompareFlags:
    """The options of ``fastdqn compare``."""

    run: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="RUN RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Run directories, finished or in progress."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print everything as JSON, what is the same included."""


def run(args: list[str]) -> int:
    """Show what differs between runs; ``fastdqn compare``."""
    flags = parse(
        _CompareFlags,
        args,
        prog="fastdqn compare",
        description="Show what differs between runs, and what they came to.",
        example="fastdqn compare runs/A runs/B",
    )
    paths = {Path(run).resolve(): Path(run) for run in flags.run}  # each only once
    if len(paths) < 2:
        named = f", and {flags.run[0]} is one" if flags.run else ""
        raise ConfigError(
            f"fastdqn compare needs two different runs or more{named}; name them as RUN RUN."
        )
    accounts = [read_account(path) for path in paths.values()]
    if flags.json:
        print(json.dumps(_report(accounts), indent=2))
        return 0
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    encoding = sys.stdout.encoding or "utf-8"
    for line in _text(accounts, width):
        print(line.encode(encoding, "backslashreplace").decode(encoding))
    return 0


def _report(accounts: Sequence[Account]) -> dict[str, Any]:
    found = differences(accounts)
    return {
        "runs": [
            {"run": str(account.path), **account.sections, "results": account.results}
            for account in accounts
        ],
        "differences": found,
        "only_seeds_differ": _only_seeds(found),
    }


def _only_seeds(found: dict[str, dict[str, list[Any]]]) -> bool:
    """Whether the seeds, and with them the commands, are all that is known to differ."""
    return set(found) <= {"settings", "start"} and list(found.get("settings", {})) == ["seed"]


def _text(accounts: Sequence[Account], width: int) -> list[str]:
    found, missing = differences(accounts), not_recorded(accounts)
    rows: list[Row] = []
    for section in accounts[0].sections:
        names = found.get(section, {})
        silent = missing.get(section, [])
        if names or (silent and not all(silent)):
            rows.append((section, []))
        for name, values in names.items():
            label = "  " + _cut(one_line(name), 0, _LONGEST_NAME)
            rows.append((label, [shown_value(section, name, value) for value in values]))
        if silent and not names and not all(silent):
            rows.append(("  recorded", ["-" if none else "yes" for none in silent]))
    rows += [("results", []), *_result_rows(accounts)]
    lines = [*textwrap.wrap(_verdict(found, missing), width), ""]
    # As many runs side by side as fit; the others below.
    left = max(len(name) for name, _ in rows)
    beside = max(1, (width - left) // (_NARROWEST + 2))
    names_of_runs = [one_line(str(account.path)) for account in accounts]
    for first in range(0, len(accounts), beside):
        part = slice(first, first + beside)
        table = [("", names_of_runs[part]), *((name, values[part]) for name, values in rows)]
        lines += [*_table(table, left, width), ""]
    return lines[:-1]


def _verdict(found: dict[str, dict[str, list[Any]]], missing: dict[str, list[bool]]) -> str:
    """In a sentence or two, how far the runs are the same."""
    settings = list(found.get("settings", {}))
    rest = ", ".join(section for section in found if section not in ("settings", "start"))
    if not settings:
        said = "The settings are the same, the seeds included"
    elif settings == ["seed"]:
        said = "Of the settings only the seeds differ"
    else:
        said = f"{len(settings)} setting{'s differ' if len(settings) > 1 else ' differs'}"
    if rest:
        said += f"; what else differs: {rest}"
    elif settings == ["seed"] or not settings:
        said += "; nothing else differs" if settings else "; nothing differs"
    lacking = ", ".join(section for section in missing if section != "start")
    return f"{said}." + (f" Not every run has recorded: {lacking}." if lacking else "")


def _result_rows(accounts: Sequence[Account]) -> list[Row]:
    results = [account.results for account in accounts]
    scores = [result["evaluation"] or {} for result in results]

    def row(label: str, cells: list[str]) -> Row:
        return f"  {label}", cells

    rows = [
        row("stopped by", [_stopped(result) for result in results]),
        row("evaluation", [_mean(score) for score in scores]),
        row("evaluated", [_when(score) for score in scores]),
        row("eval episodes", [_count(score.get("episodes")) for score in scores]),
        row("median", [_decimal(score.get("median")) for score in scores]),
        row("min to max", [_range(score) for score in scores]),
        row("training return", [_decimal(result["train_return_mean"]) for result in results]),
        row("env steps", [_count(result["env_steps"]) for result in results]),
        row("updates", [_count(result["updates"]) for result in results]),
        row("episodes", [_count(result["episodes"]) for result in results]),
        row("wall time", [_time(result["wall_s"]) for result in results]),
        row("env steps/s", [_count(result["env_steps_per_s"]) for result in results]),
        row("updates/s", [_count(result["updates_per_s"]) for result in results]),
        row("started", [one_line(str(result["started"] or "-")) for result in results]),
        row("ended", [one_line(str(result["ended"] or "-")) for result in results]),
    ]
    if any(score.get("unfinished") for score in scores):
        rows.insert(4, row("cut short", [_count(score.get("unfinished")) for score in scores]))
    if any((result["sessions"] or 1) > 1 for result in results):
        rows.append(row("sessions", [_count(result["sessions"]) for result in results]))
    return rows


def _stopped(result: dict[str, Any]) -> str:
    return one_line(str(result["stopped_by"])) if result["finished"] else "unfinished"


def _mean(score: dict[str, Any]) -> str:
    spread = "" if score.get("std") is None else f" +- {score['std']:.1f}"
    return f"{_decimal(score.get('mean'))}{spread}"


def _when(score: dict[str, Any]) -> str:
    if not score:
        return "-"
    return "at the end" if score["final"] else f"at {_count(score['env_steps'])}"


def _range(score: dict[str, Any]) -> str:
    if score.get("min") is None or score.get("max") is None:
        return "-"
    return f"{_decimal(score['min'])} to {_decimal(score['max'])}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(math.floor(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _table(rows: Sequence[Row], left: int, width: int) -> list[str]:
    """Columns as wide as their values, as far as they fit; what does not is cut."""
    runs = len(rows[0][1])
    room = max(_NARROWEST, (width - left) // runs - 2)
    cells = [_fit(values, room) for _, values in rows]
    widths = [max((len(row[k]) for row in cells if row), default=0) for k in range(runs)]
    lines = []
    for (name, _), row in zip(rows, cells, strict=True):
        padded = [f"  {cell:<{wide}}" for cell, wide in zip(row, widths, strict=False)]
        lines.append(f"{name:<{left}}{''.join(padded)}".rstrip())
    return lines


def _fit(values: Sequence[str], width: int) -> list[str]:
    """Values cut to a width, with the place where they part in view."""
    long = {value for value in values if len(value) > width}
    start = 0
    if len(long) > 1:
        letters = enumerate(zip(*long, strict=False))
        parted = (place for place, each in letters if len(set(each)) > 1)
        shared = next(parted, min(map(len, long)))
        start = shared - width // 3 if shared > width // 2 else 0
    return [_cut(value, start, width) for value in values]


def _cut(value: str, start: int, width: int) -> str:
    if len(value) <= width:
        return value
    text = _DOTS + value[start:] if start else value
    return text if len(text) <= width else text[: width - len(_DOTS)] + _DOTS

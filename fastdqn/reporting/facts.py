"""The rows of a page's tables, as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdqn.runs.comparison import Account, differences, one_line, shown_value
from fastdqn.runs.reader import Run
from fastdqn.runs.scores import GroupScore

_FEW_NAMES = 3
_LONGEST_VALUE = 240  # characters
_MACHINE = {
    "host": ("cpu", "cpus_usable", "memory_total_bytes", "gpus", "platform"),
    "resolved": ("device", "precision", "mode", "updates_per_launch", "torch_threads"),
}
_WORDS = {
    "cpu": "CPU",
    "cpus_usable": "usable CPUs",
    "memory_total_bytes": "memory",
    "gpus": "GPUs",
    "updates_per_launch": "updates per launch",
    "torch_threads": "threads of torch",
    "git_commit": "commit",
    "git_dirty": "uncommitted changes",
    "cuda": "CUDA of torch",
}
NONE = "\N{EN DASH}"


@dataclass(frozen=True)
class Value:
    """What some of the runs say of a setting."""

    text: str
    runs: str  # which; empty: all of them


@dataclass(frozen=True)
class Row:
    """A setting and its values."""

    section: str
    name: str
    values: tuple[Value, ...]


def names_of(paths: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as tell them apart."""
    whole = [path.absolute().parts for path in paths]
    for count in range(1, max(map(len, whole))):
        names = ["/".join(parts[-count:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def difference_rows(accounts: Sequence[Account], names: Sequence[str]) -> list[Row]:
    """What sets runs apart, but for their seeds and commands, which stand elsewhere."""
    return [
        Row(section, one_line(name), _values(section, name, values, names))
        for section, found in differences(accounts).items()
        if section != "start"
        for name, values in found.items()
        if (section, name) != ("settings", "seed")
    ]


def machine_rows(accounts: Sequence[Account], names: Sequence[str]) -> list[Row]:
    """Hardware, what it has made of the configuration, versions and commit."""
    rows = []
    wanted = {**_MACHINE, "versions": _all(accounts, "versions"), "code": _all(accounts, "code")}
    for section, fields in wanted.items():
        for name in fields:
            values = [account.sections[section].get(name) for account in accounts]
            if any(value is not None for value in values):
                word = _WORDS.get(name, one_line(name))
                rows.append(Row(section, word, _values(section, name, values, names)))
    return rows


def run_rows(
    runs: Sequence[Run], accounts: Sequence[Account], names: Sequence[str]
) -> list[dict[str, Any]]:
    """How far each run has come, and how fast."""
    rows = []
    for run, account, name in zip(runs, accounts, names, strict=True):
        results = account.results
        evaluation = results["evaluation"] or {}
        mean = evaluation.get("mean", results["train_return_mean"])
        rows.append(
            {
                "name": name,
                "seed": str(run.config.seed),
                "env": run.env_name,
                "state": _state(run, results),
                "score": number(mean),
                "in_training": not evaluation and mean is not None,
                "env_steps": count(results["env_steps"]),
                "updates": count(results["updates"]),
                "episodes": count(results["episodes"]),
                "env_steps_per_s": count(results["env_steps_per_s"]),
                "updates_per_s": count(results["updates_per_s"]),
                "replay_ratio": f"{run.config.replay_ratio:g}",
                "wall": duration(results["wall_s"]),
                "command": shown_value(
                    "start", "command", account.sections["start"].get("command")
                ),
            }
        )
    return rows


def counted(score: GroupScore) -> str:
    """Of how many runs, at which env steps and of what kind the scores of a group are."""
    steps = sorted({each.env_steps for each in score.scores})
    at = f"{steps[0]:,.0f}" + (f" to {steps[-1]:,.0f}" if len(steps) > 1 else "")
    kinds = " and ".join(sorted({each.kind for each in score.scores}))
    missing = len(score.group.runs) - len(score.scores)
    without = f"; {missing} {'run' if missing == 1 else 'runs'} without" if missing else ""
    return f"{kinds} at {at} env steps{without}"


def number(value: float | None, digits: int | None = None) -> str:
    """A return with as many digits as say something."""
    if value is None or not math.isfinite(value):
        return NONE
    if digits is None:
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """A whole number with separators."""
    return NONE if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Seconds as h:mm:ss."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(math.floor(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def short(text: str) -> str:
    """Cut, where a run says too much."""
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def _values(
    section: str, name: str, values: Sequence[Any], names: Sequence[str]
) -> tuple[Value, ...]:
    found: dict[str, list[str]] = {}
    for value, run in zip(values, names, strict=True):
        text = shown_value(section, name, value)
        text = {"True": "yes", "False": "no"}.get(text, text) if section == "code" else short(text)
        found.setdefault(text, []).append(run)
    if len(found) == 1:
        return (Value(next(iter(found)), ""),)
    return tuple(
        Value(text, ", ".join(said) if len(said) <= _FEW_NAMES else f"{len(said)} runs")
        for text, said in found.items()
    )


def _all(accounts: Sequence[Account], section: str) -> Iterable[str]:
    return dict.fromkeys(name for account in accounts for name in account.sections[section])


def _state(run: Run, results: dict[str, Any]) -> str:
    if results["finished"]:
        stopped = one_line(str(results["stopped_by"]))
        return "complete" if stopped == "total_env_steps" else f"stopped by {short(stopped)}"
    share = (results["env_steps"] or 0) / run.config.total_env_steps
    return f"not finished, {share:.0%}"

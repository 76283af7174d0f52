"""What sets runs apart and what each came to, from the files they left; no torch, no numpy."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdqn.config.config import Config
from fastdqn.errors import ConfigError
from fastdqn.runs.reader import Evaluation, check_run, read_figures
from fastdqn.runs.record import read_record
from fastdqn.system.bounded_json import read_bounded, read_object
from fastdqn.system.signals import EXIT_CODES

# Where a run lies and how it was started is no setting of it; its command tells.
_NO_SETTINGS = {"run_dir", "resume", "format_version"}
_RESOLVED = ("device", "precision", "mode", "updates_per_launch", "torch_threads")

Section = dict[str, Any]  # names and JSON values; what a run does not say is absent


@dataclass(frozen=True)
class Account:
    """What a run was and what it came to so far."""

    path: Path
    sections: dict[str, Section]  # what may differ, under its heading
    results: Section  # None where a run does not say


def read_account(path: Path) -> Account:
    """Read what a run directory says of itself, in progress or finished, of any age.

    Raises:
        CheckpointError: Where it is no run directory, or its rows cannot be read.
        ConfigError: Where its config.json cannot be read.
    """
    check_run(path)
    record, summary = read_object(path / "run.json"), read_object(path / "summary.json")
    sessions = [part for part in _list(record.get("sessions")) if isinstance(part, dict)]
    # The newest session; runs without a record say some of it in their summary.
    start = sessions[-1] if sessions else summary
    settings, envs = _settings(path / "config.json"), read_record(path).envs
    if not envs.made_from_config:
        settings["env_id"] = envs.name or envs.what
    sections = {
        "settings": settings,
        "resolved": {name: start[name] for name in _RESOLVED if name in start},
        "envs": _dict(record.get("envs")),
        "network": _dict(record.get("network")),
        "versions": _dict(start.get("versions")),
        "code": {name: start[name] for name in ("git_commit", "git_dirty") if name in start},
        "host": _dict(start.get("host")),
        "start": {"command": start["command"]} if "command" in start else {},
    }
    return Account(path, sections, _results(path, summary, sessions))


def differences(accounts: Sequence[Account]) -> dict[str, dict[str, list[Any]]]:
    """By section and name, the value of each run where they differ; None: not said.

    A run that says nothing of a section differs in nothing there: see :func:`not_recorded`.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for section in accounts[0].sections:
        parts = [account.sections[section] for account in accounts]
        for name in dict.fromkeys(name for part in parts for name in part):
            said = [part.get(name) for part in parts if part]
            if any(value != said[0] for value in said):
                found.setdefault(section, {})[name] = [part.get(name) for part in parts]
    return found


def not_recorded(accounts: Sequence[Account]) -> dict[str, list[bool]]:
    """Sections of which some runs say nothing, and which runs those are."""
    return {
        section: [not account.sections[section] for account in accounts]
        for section in accounts[0].sections
        if not all(account.sections[section] for account in accounts)
    }


def shown_value(section: str, name: str, value: Any) -> str:
    """A value that a run says of itself, in one line."""
    if value is None:
        return "None" if section == "settings" else "-"
    if name == "command" and isinstance(value, list):
        return one_line(shlex.join(map(str, value)))
    if name == "git_commit":
        return one_line(str(value)[:12])
    if name.endswith("_bytes") and isinstance(value, int | float):
        return f"{value / 1e9:.1f} GB"
    if isinstance(value, list):
        return one_line(", ".join(map(str, value))) or "none"
    return one_line(json.dumps(value) if isinstance(value, dict) else str(value))


def one_line(text: str) -> str:
    """In one line, and without what would steer a terminal: a run may be somebody else's."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.split())


def _settings(path: Path) -> Section:
    """The fields of a config.json as JSON has them: those of another version may be no Config."""
    try:
        body = json.loads(read_bounded(path))
        if not isinstance(body, dict):
            raise ValueError("it is no JSON object of field names and values")
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"The configuration {path} cannot be read ({error}).") from None
    # A version without a field did as the field's default does.
    whole = {**json.loads(Config().to_json()), **body}
    return {name: value for name, value in whole.items() if name not in _NO_SETTINGS}


def _results(path: Path, summary: Section, sessions: Sequence[Section]) -> Section:
    columns, evaluations = read_figures(path)
    newest_row = {name: _last(values) for name, values in columns.items()}
    finished = _is_newest(summary, newest_row, sessions)
    said = summary if finished else {}
    speed, updates_speed = _speeds(columns)
    started = (sessions[0] if sessions else summary).get("started")
    counts: Section = {
        name: _number(said.get(name)) if finished else newest_row.get(name)
        for name in ("env_steps", "updates", "episodes", "wall_s")
    }
    return {
        "finished": finished,
        "stopped_by": said.get("stopped_by"),
        **counts,
        "evaluation": _evaluation(evaluations, said),
        "train_return_mean": _number(said.get("train_return_mean"))
        if finished
        else newest_row.get("return_mean"),
        "env_steps_per_s": _number(said.get("env_steps_per_s")) if finished else speed,
        "updates_per_s": _number(said.get("updates_per_s")) if finished else updates_speed,
        "solved": said.get("solved"),
        "started": started,
        "ended": said.get("ended"),
        "sessions": len(sessions) or None,
    }


def _is_newest(
    summary: Section, newest_row: Mapping[str, float | None], sessions: Sequence[Section]
) -> bool:
    """Whether the summary is of the run as it is: one that was resumed since has gone further."""
    env_steps = _number(summary.get("env_steps"))
    if env_steps is None or env_steps < (newest_row.get("env_steps") or 0):
        return False
    ended = summary.get("ended")
    resumed = sessions[-1].get("started") if sessions else None
    # Both ISO 8601 in UTC.
    return not (isinstance(ended, str) and isinstance(resumed, str) and resumed > ended)


def _evaluation(evaluations: Sequence[Evaluation], summary: Section) -> Section | None:
    """The newest one; ``final`` where it is of the run's end."""
    newest = evaluations[-1] if evaluations else None
    mean = _number(summary.get("eval_return_mean"))
    if mean is not None and (newest is None or math.isnan(newest.episodes)):
        # A run without evaluations.csv. Signals end it without a final evaluation.
        at = summary.get("eval_env_steps", summary.get("env_steps"))
        return {
            "env_steps": _number(at),
            "mean": mean,
            **{
                name: _number(summary.get(f"eval_return_{name}"))
                for name in ("std", "median", "min", "max")
            },
            "episodes": _number(summary.get("eval_episodes")),
            "unfinished": _number(summary.get("eval_unfinished_episodes")),
            "final": summary.get("stopped_by") not in EXIT_CODES,
        }
    if newest is None:
        return None
    body = {
        name: value if isinstance(value, bool) else _number(value)
        for name, value in dataclasses.asdict(newest).items()
    }
    at_end = summary.get("env_steps") == newest.env_steps  # else the run has gone on since
    return {**body, "final": newest.final and at_end}


def _speeds(columns: Mapping[str, Sequence[float]]) -> tuple[float | None, float | None]:
    """Env steps/s and updates/s while training, from the rows so far: what a summary would say.

    A row counts transitions, so that the rows which some envs spend on resets make this a little
    too large or too small.
    """
    seconds = before = 0.0
    for env_steps, speed in zip(
        columns.get("env_steps", []), columns.get("env_steps_per_s", []), strict=False
    ):
        if math.isfinite(env_steps) and 0 < speed < math.inf:
            seconds += max(0.0, env_steps - before) / speed
            before = env_steps
    updates = _last(columns.get("updates", []))
    if seconds == 0:
        return None, None
    return before / seconds, None if updates is None else updates / seconds


def _last(values: Sequence[float]) -> float | None:
    return next(itertools.filterfalse(math.isnan, reversed(values)), None)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _dict(value: Any) -> Section:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

"""Malformed configurations, by command line and by file: refused in one useful sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.reliability import Outcome

FIGURE = "120 and more: exit 2, one message with field, value, range or nearest name, < 2 s"
LIMIT_S = 2.0
SHORT_COUNT = 15
PROCESSES = 20  # of the cases, as commands of their own; the others share one process

# Takes a list of command lines; gives what each printed and took, and whether torch came in.
_CHILD = """
import contextlib, io, json, sys, time
from fastdqn.cli.main import main
found = []
for args in json.load(sys.stdin):
    err, began = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stderr(err):
        code = main(args)
    found.append((code, err.getvalue(), time.perf_counter() - began))
print(json.dumps([found, "torch" in sys.modules]))
"""
# How a message says what would do: the range, the choices, the nearest name, or an action.
_FIX = re.compile(
    r"\b(use|must be|did you mean|name|lower|set|unset|drop|needs|lists|shows|reads|cannot be read"
    r"|is not valid JSON|exclude|leave)\b"
)


@dataclass
class Case:
    """A command line and what its refusal must hold."""

    args: list[str]
    words: list[str]


def run(short: bool) -> Outcome:
    """Each case in a process; a sample of them in one of its own, timed from its start."""
    with tempfile.TemporaryDirectory() as name:
        every = cases(Path(name))
        chosen = every[:: max(1, len(every) // SHORT_COUNT)][:SHORT_COUNT] if short else every
        began = time.perf_counter()
        child = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=json.dumps([case.args for case in chosen]),
            capture_output=True,
            text=True,
            timeout=600,
        )
        total = time.perf_counter() - began
        if child.returncode != 0:
            return Outcome(f"not refused but raised: {child.stderr[-300:]}", False)
        found, torch_came = json.loads(child.stdout)
        faults = [
            fault
            for case, (code, err, seconds) in zip(chosen, found, strict=True)
            for fault in judge(case, code, err, seconds)
        ]
        own: list[float] = []
        for case in chosen[:: max(1, len(chosen) // (3 if short else PROCESSES))]:
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "fastdqn", *case.args],
                capture_output=True,
                text=True,
                timeout=60,
            )
            own.append(time.perf_counter() - began)
            faults += judge(case, done.returncode, done.stderr, own[-1])
    wrong = len({fault["args"] for fault in faults})
    return Outcome(
        f"{len(chosen) - wrong} of {len(chosen)}; the slowest of {len(own)} processes took "
        f"{max(own):.2f} s; torch was {'' if torch_came else 'never '}imported",
        not faults and not torch_came,
        {
            "faults": faults,
            "slowest_process_s": max(own),
            "slowest_in_process_s": max(seconds for _, _, seconds in found),
            "all_in_one_process_s": total,
            "example": found[0][1],
        },
    )


def judge(case: Case, code: int, err: str, seconds: float) -> list[dict[str, Any]]:
    """What is wrong with a refusal."""
    wrong = []
    if code != 2:
        wrong.append(f"exit code {code}")
    if not err.startswith("fastdqn: error: ") or err.count("\n") != 1 or len(err) > 400:
        wrong.append("not one message")
    wrong += [f"no {word}" for word in case.words if word not in err]
    if not _FIX.search(err):
        wrong.append("no fix")
    if seconds > LIMIT_S:
        wrong.append(f"{seconds:.1f} s")
    return [{"args": " ".join(case.args)[:200], "wrong": wrong, "said": err[-400:]}] * bool(wrong)


def cases(scratch: Path) -> list[Case]:
    """All of them; files go to ``scratch``."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from helpers.malformed import BAD, BAD_JSON, BAD_PAIRS, BAD_TEXT, IDLE, UNKNOWN

    def file(text: str) -> list[str]:
        path = scratch / f"{len(list(scratch.iterdir()))}.json"
        path.write_text(text, encoding="utf-8")
        return ["train", "--config", str(path)]

    found = []
    for index, (name, value) in enumerate(BAD):
        if index % 2:
            found.append(Case(file(json.dumps({name: value})), [name, shown(value)]))
        else:
            words = [str(item) for item in value] if isinstance(value, list) else [str(value)]
            args = ["train", "--" + name.replace("_", "-"), *words, "--dry-run"]
            found.append(Case(args, [name, *(word for word in words if word.isprintable())]))
    found += [Case(file(json.dumps({n: v})), [n, shown(v)]) for n, v in BAD_JSON]
    found += [Case(file(json.dumps(changes)), [name]) for changes, name in BAD_PAIRS]
    found += [Case(file(text), []) for text in BAD_TEXT]
    found += [Case(["train", *args], words) for args, words in [*UNKNOWN, *IDLE]]
    return found


def shown(value: Any) -> str:
    """The value as a message shows it, or the beginning of it."""
    return repr(value).strip("[]")[:15]

"""Figures of the kind that users only learn the hard way, each from a run that prints it.

    python -m benchmarks.reliability                      # every row; an hour and a half with soak
    python -m benchmarks.reliability --only kill --only soak
    python -m benchmarks.reliability --short              # a minute or two, no claim
    python -m benchmarks.reliability --table              # print what was found, run nothing

A row is a module of this package with ``FIGURE``, the claim in words, and ``run(short)``. Each
writes its result as soon as it ends, so an interrupted run goes on with those that are missing
(``--again`` starts over). Faults are injected from outside the process under test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Modules of this package, in the order of the table.
ROWS = (
    "kill",
    "mutate",
    "hostile",
    "resume",
    "save",
    "signals",
    "lock",
    "configs",
    "memory",
    "determinism",
    "bad_envs",
    "worker_kill",
    "disk_full",
    "hang",
    "soak",
)


@dataclass
class Outcome:
    """What a row found."""

    result: str  # in words, for the table: "200 kills, 0 unreadable"
    passed: bool
    details: dict[str, Any] = field(default_factory=dict)  # for the JSON

"""What a case hands to the harness: the work, its check, and what one unit of it amounts to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class UnavailableError(Exception):
    """The case cannot run here; the message says why, and the case is reported as skipped."""


class CheckError(Exception):
    """The case gives a wrong result, so its time would mean nothing."""


@dataclass(frozen=True)
class Floor:
    """The least that one unit must do, whatever the code: arithmetic and memory traffic."""

    flop: float
    bytes: float
    precision: str = "fp32"  # of the arithmetic: fp32 or bf16


def _nothing() -> None:
    pass


@dataclass(kw_only=True)
class Workload:
    """One case, made and ready.

    A *unit* is what a time is given for (an update, a vector step, a draw); one repeat does
    ``units`` of them.
    """

    run: Callable[[int], object]
    """Do so many repeats; on CUDA it may return before they are done."""
    check: Callable[[], None]
    """Raise CheckError where the result is wrong. Called once, before anything is timed."""
    unit: str
    units: int = 1
    counts: Mapping[str, float] = field(default_factory=dict)
    """Per unit: updates, samples, env_steps, frames, bytes, flop."""
    replay_ratio: float | None = None
    """Transitions trained per env step."""
    floor: Floor | None = None
    host_clock: bool = False
    """Time with the host's clock, having waited for the device, instead of CUDA events."""
    threads: int | None = None
    """CPU threads of torch while it runs."""
    details: dict[str, Any] = field(default_factory=dict)
    """Whatever else belongs to the record: precision, mode, sizes, compile_s."""
    begin: Callable[[], None] = _nothing
    """Called between warming up and the first window."""
    extra: Callable[[], dict[str, float]] = dict
    """Numbers gathered over the windows, e.g. env_s, learn_s and overlap."""
    close: Callable[[], None] = _nothing

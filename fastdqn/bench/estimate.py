"""How long the bench will take, before torch is imported. Needs no torch.

Seconds were measured on two cores of a CPU, and are rough: a compiler's cache, a faster CPU and
other processes change them by a factor of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastdqn.bench.case import CUDA, IMPALA_WIDTHS, Case
from fastdqn.bench.catalogue import families
from fastdqn.bench.harness import MIN_WINDOWS, WARM_UP_FRACTION

IMPORT_S = 5.0  # of torch, and looking at the machine
_CHECK_S = 0.2  # make and check a case that is nothing special
_PIXELS_S = 0.7  # fill a replay with frames, and check on it
_ALE_S = 1.5
_AGAIN = 0.3  # of a first compilation: the compiler's cache is warm
# First compilations, by what is compiled.
_COMPILE_S = {"step": 5.0, "mlp": 3.0, "cnn": 20.0, "many updates": 40.0, "graph": 10.0}
_SMOKE_COMPILE = 0.5  # of them: tiny, but compiled all the same
# A repeat that is longer than a window: seconds per sample of one update on a CPU.
_UPDATE_S = {"impala1": 0.010, "impala2": 0.035, "impala4": 0.13}
_REPEATS_BEFORE = 4  # the check's and the warm-up's


def likely_device(device: str) -> str:
    """``cpu`` or ``cuda``; what ``auto`` will be, as far as it is seen without torch."""
    if device != "auto":
        return device.partition(":")[0]
    return "cuda" if Path("/dev/nvidiactl").exists() else "cpu"


@dataclass(frozen=True)
class Effort:
    """What is spent on each case."""

    seconds: float  # of timing, over all rounds
    rounds: int = 1
    smoke: bool = False  # tiny, and run twice


def bench_seconds(chosen: Sequence[Case], device: str, effort: Effort) -> float:
    """Of the whole command."""
    return IMPORT_S + sum(costs(chosen, device, effort))


def costs(chosen: Sequence[Case], device: str, effort: Effort) -> list[float]:
    """Seconds of each case in each round, in the order in which they run."""
    return [
        case_seconds(case, device, effort, first=number == 0)
        for number in range(effort.rounds)
        for family in families(chosen)
        for case in family
    ]


def case_seconds(case: Case, device: str, effort: Effort, *, first: bool) -> float:
    """Make, check, warm up and time one case in one round.

    Args:
        case: Of the catalogue.
        device: ``cpu`` or ``cuda``.
        effort: Of the run.
        first: Nothing of it is compiled yet.
    """
    if device == "cpu" and _needs_cuda(case):
        return 0.0  # skipped
    params = case.params
    compiling = _compile_seconds(case) * (1.0 if first else _AGAIN)
    if effort.smoke:
        return _CHECK_S + _SMOKE_COMPILE * compiling
    net = params.get("net", "")
    pixels = case.group in ("update", "net", "e2e", "gather") and net not in ("mlp", "vector")
    ale = "ALE/" in str(params.get("env_id")) or params.get("env") == "pong"
    setup = _CHECK_S + pixels * _PIXELS_S + ale * _ALE_S + compiling
    repeat = 0.0
    if net in IMPALA_WIDTHS and device == "cpu":
        repeat = _UPDATE_S[net] * params.get("batch_size", 0)
    windows = effort.seconds / effort.rounds * (1 + 1.5 * WARM_UP_FRACTION)
    return setup + max(windows, (MIN_WINDOWS + _REPEATS_BEFORE) * repeat)


def _needs_cuda(case: Case) -> bool:
    return case.params.get("mode") == "graph" or (case.group == "ceil" and case.default_on == CUDA)


def _compile_seconds(case: Case) -> float:
    params = case.params
    if params.get("compile"):
        return _COMPILE_S["step"]
    if params.get("mode") not in ("compile", "graph"):
        return 0.0
    if params["launch"] > 1:
        return _COMPILE_S["many updates"]
    if params["mode"] == "graph":
        return _COMPILE_S["graph"]
    return _COMPILE_S["mlp" if params["net"] == "mlp" else "cnn"]

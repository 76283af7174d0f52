"""Runs cases family by family and records what came out."""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

import torch

from fastdqn.bench.case import Case
from fastdqn.bench.catalogue import families
from fastdqn.bench.context import Context
from fastdqn.bench.floors import floor_seconds
from fastdqn.bench.harness import WINDOWS, Timer, Timing, measure, together
from fastdqn.bench.load import CpuWatch
from fastdqn.bench.memory import PeakMemory
from fastdqn.bench.timer import DeviceTimer
from fastdqn.bench.workload import CheckError, UnavailableError, Workload
from fastdqn.errors import EnvError, FastDQNError

Record = dict[str, Any]
Tell = Callable[[int, int, str], None]  # cases done, cases in all rounds, what comes next


class Heard(Protocol):
    """Told of each family that ends."""

    def __call__(self, fresh: list[Record], so_far: list[Record], number: int) -> None:
        """The family's records, all records so far, and the round, from 0."""


def run_cases(
    selected: Sequence[Case],
    context: Context,
    *,
    seconds: float,
    tell: Tell,
    ended: Heard = lambda fresh, so_far, number: None,
    rounds: int = 1,
) -> list[Record]:
    """One record per case, in the order given.

    Args:
        selected: From the catalogue.
        context: Device and sizes.
        seconds: Of timing for each case, over all rounds.
        tell: Hears of the progress.
        ended: Hears of every family that has been timed.
        rounds: How often all of it is made, checked and timed; what was skipped or failed once is
            not tried again.
    """
    threads = torch.get_num_threads()
    results: dict[str, _Result] = {}
    ceilings: dict[str, float] = {}
    timer = DeviceTimer(context.device)
    done, total = 0, rounds * len(selected)
    try:
        for number, family in product(range(rounds), families(selected)):
            tell(done, total, family[0].family or family[0].name)
            done += len(family)
            again = [
                case
                for case in family
                if case.name not in results or results[case.name].record["status"] == "ok"
            ]
            if not again:
                continue
            fresh = _run_family(
                again, context, timer, seconds / rounds, WINDOWS // rounds, ceilings, results
            )
            so_far = [results[case.name].record for case in selected if case.name in results]
            ended(fresh, so_far, number)
            context.forget_replays()
            gc.collect()
            if context.device.type == "cuda":
                torch.cuda.empty_cache()
    finally:
        torch.set_num_threads(threads)
    tell(total, total, "")
    return [results[case.name].record for case in selected]


@dataclass
class _Result:
    """Of one case, over the rounds."""

    record: Record
    timings: list[Timing] = field(default_factory=list)
    others: list[float | None] = field(default_factory=list)


def _run_family(
    family: Sequence[Case],
    context: Context,
    timer: Timer,
    seconds: float,
    windows: int,
    ceilings: dict[str, float],
    results: dict[str, _Result],
) -> list[Record]:
    """Make, check and time the cases of a family once more; their records."""
    ready: dict[str, Workload] = {}
    memory = PeakMemory(context.device)

    def timed(workload: Workload, repeats: int) -> float:
        name = next(name for name, known in ready.items() if known is workload)
        with memory.of(name):
            return timer(workload, repeats)

    made = {case.name: _blank(case) for case in family}
    try:
        for case in family:
            _make_ready(case, context, made[case.name], ready)
        watch = CpuWatch()
        try:
            timings = (
                measure(ready, timed, seconds=seconds, windows=windows, smoke=context.smoke)
                if ready
                else {}
            )
        except Exception as error:
            timings = {}
            for name in ready:
                made[name].update(status="failed", reason=_said(error))
        others = watch.lap()
        for name, timing in timings.items():
            result = results.setdefault(name, _Result(made[name]))
            result.timings.append(timing)
            result.others.append(others)
            first = result.record
            made[name].update(describe(ready[name], together(result.timings), ceilings))
            made[name].update(_of_rounds(result, memory.peaks.get(name)))
            for kept in ("setup_s", "details"):  # before anything was compiled
                made[name][kept] = first.get(kept, made[name][kept])
            _note_ceiling(made[name], ceilings)
        _add_ratios(made, {case.name: case.against for case in family})
    finally:
        for workload in ready.values():
            workload.close()
    for name, record in made.items():
        results.setdefault(name, _Result(record)).record = record
    return list(made.values())


def _of_rounds(result: _Result, peak_bytes: int | None) -> Record:
    """What a record says of its rounds: medians, the CPUs that others took, the highest peak."""
    peaks = [peak for peak in (result.record.get("peak_bytes"), peak_bytes) if peak]
    return {
        "rounds_us": [timing.median for timing in result.timings],
        "other_cpus": result.others[:],
        "peak_bytes": max(peaks, default=None),
    }


def _blank(case: Case) -> Record:
    return {"name": case.name, "group": case.group, "line": case.line, "status": "ok"}


def _make_ready(case: Case, context: Context, record: Record, ready: dict[str, Workload]) -> None:
    """Make and check one case; where that fails, its record says why."""
    workload = None
    began = time.perf_counter()
    try:
        module = importlib.import_module(f"fastdqn.bench.cases.{case.group}")
        workload = module.make(context, **case.params)
        if workload.threads is not None:
            torch.set_num_threads(workload.threads)
        workload.check()
        context.synchronize()
        record["setup_s"] = time.perf_counter() - began
        ready[case.name] = workload
        return
    except CheckError as error:
        record.update(status="failed", reason=f"the check found a wrong result: {error}")
    except UnavailableError as error:
        record.update(status="skipped", reason=str(error))
    except torch.OutOfMemoryError:
        record.update(status="skipped", reason="does not fit in the device's memory")
    except EnvError as error:
        record.update(status="failed", reason=_said(error))
    except FastDQNError as error:  # what this machine cannot do: no room, no compiler
        record.update(status="skipped", reason=_said(error))
    except Exception as error:
        record.update(status="failed", reason=_said(error))
    if workload is not None:
        workload.close()


def _said(error: BaseException) -> str:
    """What went wrong; what a broken capture says hides the error that broke it."""
    while error.__context__ is not None and not error.__suppress_context__:
        error = error.__context__
    lines = str(error).strip().splitlines() or ["no reason given"]
    return f"{type(error).__name__}: {lines[0][:200]}"


def describe(workload: Workload, timing: Timing, ceilings: dict[str, float]) -> Record:
    """Times, rates and what was derived from them, ready for JSON."""
    per_second = 1e6 / timing.median if timing.median else 0.0
    record: Record = {
        "unit": workload.unit,
        "us": timing.to_json(),
        "windows": timing.windows,
        "repeats": timing.repeats,
        "rates": {f"{name}_per_s": count * per_second for name, count in workload.counts.items()},
        "threads": workload.threads,
        "details": workload.details,
        **workload.extra(),
    }
    if workload.replay_ratio is not None:
        record["replay_ratio"] = workload.replay_ratio
    if workload.floor is not None:
        floor = floor_seconds(workload.floor, ceilings)
        if floor is not None:
            record["floor_us"] = 1e6 * floor
            record["floor_percent"] = 100 * 1e6 * floor / timing.median
    return record


def _note_ceiling(record: Record, ceilings: dict[str, float]) -> None:
    """Remember what a ``ceil/`` case has measured."""
    if record["status"] != "ok":
        return
    if record["name"] == "ceil/copy":
        ceilings["bytes_per_s"] = record["rates"]["bytes_per_s"]
    for precision in ("fp32", "bf16"):
        if record["name"] == f"ceil/gemm_{precision}":
            ceilings[precision] = record["rates"]["flop_per_s"]


def _add_ratios(records: dict[str, Record], against: Mapping[str, str]) -> None:
    """How many times as fast as each peer of the family the others are, or as long as one takes.

    Args:
        records: Of a family, by name.
        against: By name the case whose time is the unit of another's, or nothing.
    """
    done = [r for r in records.values() if r["status"] == "ok"]
    for record in done:
        unit = records.get(against[record["name"]])
        if unit in done:
            record["times_as_long_as"] = {unit["name"]: _ratio(unit, record)}
    peers = [r for r in done if r["group"] == "peer"]
    for record in done:
        if record["group"] == "peer":
            continue
        for peer in peers:
            record.setdefault("times_as_fast_as", {})[peer["name"]] = _ratio(record, peer)


def _ratio(ours: Record, theirs: Record) -> dict[str, float]:
    """Time of theirs over time of ours, with the spread."""
    a, b = ours["us"], theirs["us"]
    return {
        "median": b["median"] / a["median"],
        "low": b["p10"] / a["p90"],
        "high": b["p90"] / a["p10"],
    }

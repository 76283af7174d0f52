"""The options of ``fastdqn bench``, checked before torch is imported, and the run itself."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fastdqn.bench import compare, estimate, load
from fastdqn.bench.case import Case
from fastdqn.bench.catalogue import cases, one_of_each, select
from fastdqn.bench.estimate import Effort
from fastdqn.bench.figures import wall
from fastdqn.bench.report import Report
from fastdqn.bench.result import ResultFile
from fastdqn.bench.screen import Screen
from fastdqn.cli.arguments import parse
from fastdqn.cli.status_line import StatusLine
from fastdqn.errors import ConfigError
from fastdqn.system.signals import Stopped, exit_on_signals

_CHART_SUFFIXES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, kw_only=True)
class BenchFlags:
    """The options of ``fastdqn bench``."""

    cases: tyro.conf.UseAppendAction[
        Annotated[
            tuple[str, ...], tyro.conf.arg(metavar="GLOB", help_behavior_hint="(default set)")
        ]
    ] = ()
    """Cases to run: names, globs such as 'update/*', or groups such as 'env'; repeatable, and
    several may be joined by commas."""
    seconds: float = 2.0
    """Time spent on each case over all rounds, beside making, checking and warming it up."""
    rounds: int = 2
    """How often everything is made anew and timed: what rounds differ by is the noise that a
    comparison knows."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; auto takes CUDA where there is one."""
    json: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Write everything measured, and the machine it was measured on, to this file."""
    compare: Annotated[str | None, tyro.conf.arg(metavar="OLD.json")] = None
    """Say how each case did against an earlier result; without --cases its cases are measured."""
    chart: Annotated[str | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw the result: a dot and a range for each case, on logarithmic axes."""
    list: tyro.conf.FlagCreatePairsOff[bool] = False
    """Name the cases, and run nothing; a star marks the default set."""
    smoke: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run every kind of case once at a tiny size, for its check alone: no figure means anything."""


def run(args: list[str]) -> int:
    """Run ``fastdqn bench ARGS``; 1 where a case failed."""
    flags = parse(
        BenchFlags,
        args,
        prog="fastdqn bench",
        description="Measure this machine: envs, acting, replay, updates and the training loop.",
        example="fastdqn bench --cases 'update/*' --json before.json",
    )
    if "" in flags.cases:
        raise ConfigError("cases = '' names none; 'fastdqn bench --list' names them.")
    patterns = list(flags.cases) or (["*"] if flags.smoke else [])
    select(patterns, "cpu")  # a name that is none shall not wait for torch
    if flags.list:
        print("\n".join(listing(patterns)))
        return 0
    _check(flags)
    old = None if flags.compare is None else compare.load(flags.compare)
    if old is not None:
        timed = [name for name in compare.names(old) if name in cases()]
        patterns = patterns or timed
        if not {case.name for case in select(patterns, "cpu")} & set(timed):
            raise ConfigError(
                f"compare = {flags.compare!r} has a time of none of these cases; choose some that "
                f"it has, or name another file."
            )
    likely = estimate.likely_device(flags.device)
    _say_how_long(flags, patterns, likely)
    if (busy := load.said_before()) is not None:
        print(f"fastdqn bench: {busy}.", file=sys.stderr, flush=True)
    with StatusLine() as status:
        status.say("loading torch ...")
        from fastdqn.system.devices import resolve_device

        device = resolve_device(flags.device)
    if device.type != likely:
        _say_how_long(flags, patterns, device.type)
    return _measure(flags, patterns, str(device), old, args)


def listing(patterns: list[str]) -> list[str]:
    """Every case with its line; a star where it is in the default set of that kind of device."""
    chosen = select(patterns, "cpu") if patterns else list(cases().values())
    width = max(len(case.name) for case in chosen)
    rows = [f"cpu  cuda  {'case':<{width}}  what it times (*: in the default set)"]
    for case in chosen:
        cpu, cuda = ("*" if kind in case.default_on else "-" for kind in ("cpu", "cuda"))
        rows.append(f" {cpu}    {cuda}    {case.name:<{width}}  {case.line}")
    return rows


def _check(flags: BenchFlags) -> None:
    if not 0.01 <= flags.seconds <= 3600:
        raise ConfigError(
            f"seconds = {flags.seconds:g} is out of range; use a number from 0.01 to 3600."
        )
    if not 1 <= flags.rounds <= 20:
        raise ConfigError(f"rounds = {flags.rounds} is out of range; use a number from 1 to 20.")
    for name in ("json", "chart"):
        path = getattr(flags, name)
        if path is None:
            continue
        if not path or Path(path).is_dir():
            raise ConfigError(f"{name} = {path!r} is no file; name one to write.")
        parent = Path(path).absolute().parent
        if not parent.is_dir():
            raise ConfigError(
                f"{name} = {path!r} needs the directory {str(parent)!r}; name a file in a "
                f"directory that exists."
            )
        if not os.access(parent, os.W_OK):
            raise ConfigError(f"{name} = {path!r} cannot be written there; name another directory.")
    if flags.chart is not None and Path(flags.chart).suffix not in _CHART_SUFFIXES:
        raise ConfigError(
            f"chart = {flags.chart!r} must end in one of {', '.join(_CHART_SUFFIXES)}."
        )


def _say_how_long(flags: BenchFlags, patterns: list[str], kind: str) -> None:
    """On stderr, before torch is imported."""
    chosen, effort = _chosen(flags, patterns, kind), _effort(flags)

    def wait(cases: list[Case], effort: Effort) -> str:
        return "about " + wall(estimate.bench_seconds(cases, kind, effort))

    rounds = "" if effort.rounds == 1 else f" in {effort.rounds} rounds"
    said = f"fastdqn bench: {len(chosen)} cases{rounds}, {wait(chosen, effort)}"
    if kind == "cpu":
        said += " on two idle CPU cores"
    if not patterns and effort.seconds > 0.5:
        said += f"; --seconds 0.5 takes {wait(chosen, replace(effort, seconds=0.5))}"
        said += f", --cases act {wait(select(['act'], kind), effort)}"
    print(f"{said}. Ctrl-C keeps what was measured.", file=sys.stderr, flush=True)


def _effort(flags: BenchFlags) -> Effort:
    return Effort(flags.seconds, 1 if flags.smoke else flags.rounds, flags.smoke)


def _chosen(flags: BenchFlags, patterns: list[str], kind: str) -> list[Case]:
    chosen = select(patterns, kind)
    return one_of_each(chosen) if flags.smoke else chosen


def _measure(
    flags: BenchFlags, patterns: list[str], device: str, old: dict[str, Any] | None, args: list[str]
) -> int:
    from fastdqn.bench.context import Context
    from fastdqn.bench.fingerprint import fingerprint, headline
    from fastdqn.bench.runner import run_cases
    from fastdqn.system.info import device_name

    kind = device.partition(":")[0]
    chosen, effort = _chosen(flags, patterns, kind), _effort(flags)
    settings = {**asdict(effort), "device": device}
    machine = fingerprint(device, device_name(device))
    report = Report(
        Screen(sys.stdout, sys.stderr, estimate.costs(chosen, kind, effort)),
        chosen,
        ResultFile(flags.json, args, settings, machine, len(chosen)),
    )
    with exit_on_signals():
        try:
            with report.screen:
                report.begin(headline(machine))
                records = run_cases(
                    chosen,
                    Context(device, smoke=flags.smoke),
                    seconds=effort.seconds,
                    rounds=effort.rounds,
                    tell=report.screen.tell,
                    ended=report.ended,
                )
        except (Stopped, KeyboardInterrupt):
            report.end()
            _after(flags, report, old)
            raise
        report.end(complete=True)
        _after(flags, report, old)
    return 1 if any(record["status"] == "failed" for record in records) else 0


def _after(flags: BenchFlags, report: Report, old: dict[str, Any] | None) -> None:
    """The comparison and the picture, of what was measured."""
    result = report.file.result
    if old is not None:
        print("\n" + "\n".join(compare.lines(old, result, str(flags.compare))), flush=True)
    if flags.chart is not None:
        from fastdqn.bench import chart

        chart.save(result, Path(flags.chart))

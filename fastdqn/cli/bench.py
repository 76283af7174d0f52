"""The options of ``fastdqn bench``, checked before torch is imported, and the run itself."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fastdqn.bench import compare
from fastdqn.bench.catalogue import cases, one_of_each, select
from fastdqn.cli.arguments import parse
from fastdqn.errors import ConfigError
from fastdqn.system.signals import exit_on_signals

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
    """Time spent on each case, beside making, checking and warming it up."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; auto takes CUDA where there is one."""
    json: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Write everything measured, and the machine it was measured on, to this file."""
    compare: Annotated[str | None, tyro.conf.arg(metavar="OLD.json")] = None
    """Say how each case did against an earlier result."""
    chart: Annotated[str | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw the result as bars."""
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
    )
    patterns = list(flags.cases) or (["*"] if flags.smoke else [])
    select(patterns, "cpu")  # a name that is none shall not wait for torch
    if flags.list:
        print("\n".join(listing(patterns)))
        return 0
    _check(flags)
    old = None if flags.compare is None else compare.load(flags.compare)
    from fastdqn.system.devices import resolve_device

    device = resolve_device(flags.device)
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
    for name in ("json", "chart"):
        path = getattr(flags, name)
        if path is None:
            continue
        if not path or Path(path).is_dir():
            raise ConfigError(f"{name} = {path!r} is no file; name one to write.")
        parent = Path(path).absolute().parent
        if not os.access(parent, os.W_OK):
            raise ConfigError(f"{name} = {path!r} cannot be written: {parent} is not writable.")
    if flags.chart is not None and Path(flags.chart).suffix not in _CHART_SUFFIXES:
        raise ConfigError(
            f"chart = {flags.chart!r} must end in one of {', '.join(_CHART_SUFFIXES)}."
        )


def _measure(
    flags: BenchFlags, patterns: list[str], device: str, old: dict[str, Any] | None, args: list[str]
) -> int:
    from fastdqn.bench.context import Context
    from fastdqn.bench.fingerprint import fingerprint, headline
    from fastdqn.bench.progress import Progress
    from fastdqn.bench.runner import run_cases
    from fastdqn.bench.table import show
    from fastdqn.system.info import device_name

    chosen = select(patterns, device.partition(":")[0])
    if flags.smoke:
        chosen = one_of_each(chosen)
    machine = fingerprint(device, device_name(device))
    began = time.perf_counter()
    context = Context(device, smoke=flags.smoke)

    def result_of(records: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "format_version": compare.FORMAT_VERSION,
            "kind": compare.KIND,
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": shlex.join(["fastdqn", "bench", *args]),
            "settings": {"seconds": flags.seconds, "smoke": flags.smoke, "device": device},
            "wall_s": time.perf_counter() - began,
            "fingerprint": machine,
            "cases": records,
        }

    def write(result: dict[str, Any]) -> None:
        if flags.json is not None:
            text = json.dumps(result, indent=1, allow_nan=False) + "\n"
            Path(flags.json).write_text(text, encoding="utf-8")

    def keep(records: list[dict[str, Any]]) -> None:
        """So that what ends this process does not take the measurements with it."""
        if flags.json is None or (Path(flags.json).exists() and not Path(flags.json).is_file()):
            return  # whoever reads a pipe wants one result
        with suppress(OSError):  # the table may still be had
            write(result_of(records))

    with exit_on_signals(), Progress(sys.stderr) as tell:  # which gives the terminal back
        records = run_cases(chosen, context, seconds=flags.seconds, tell=tell, keep=keep)
    result = result_of(records)
    lines = [*headline(machine), *_about(flags, result)]
    show(records, lines, sys.stdout, checks_only=flags.smoke)
    write(result)
    if flags.chart is not None:
        from fastdqn.bench import chart

        chart.save(records, lines, Path(flags.chart))
    if old is not None:
        print("\n" + "\n".join(compare.lines(old, result, str(flags.compare))))
    return 1 if any(record["status"] == "failed" for record in records) else 0


def _about(flags: BenchFlags, result: dict[str, Any]) -> list[str]:
    count = sum(record["status"] == "ok" for record in result["cases"])
    line = f"measured  {count} cases in {result['wall_s']:.0f} s, {result['date']}"
    smoke = (
        ["smoke run: every kind of case once at a tiny size, for its check"] if flags.smoke else []
    )
    return [line, *smoke]

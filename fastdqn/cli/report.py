"""``fastdqn report``: one page about runs."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fastdqn.cli.arguments import parse
from fastdqn.cli.pictures import disk_may_refuse
from fastdqn.errors import ConfigError
from fastdqn.system.out_path import out_path


@dataclass(frozen=True, kw_only=True)
class _ReportFlags:
    """The options of ``fastdqn report``."""

    run: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Run directories, finished or in progress, of one game or several. Those that differ only in
    their seed count together."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = "report.html"
    """The page: one .html file that needs no other. An existing one is overwritten."""


def run(args: list[str]) -> int:
    """Write one page about runs; ``fastdqn report``."""
    flags = parse(
        _ReportFlags,
        args,
        prog="fastdqn report",
        description="Write one page about runs: curves, scores, protocol, speed, how to repeat.",
        example="fastdqn report runs/breakout-* --out breakout.html",
    )
    out = out_path(flags.out, (".html", ".htm"), "page")
    if not flags.run:
        raise ConfigError("fastdqn report needs RUN; 'fastdqn report --help' says more.")
    paths = {Path(run).resolve(): Path(run) for run in flags.run}  # each only once
    from fastdqn.reporting.films import MOST_BYTES
    from fastdqn.reporting.page import write_report

    with disk_may_refuse(out):
        report = write_report(list(paths.values()), out)
    for film in report.left_out:
        warnings.warn(
            f"{film.name} has {film.num_bytes / 1e6:.1f} MB and is left out of {out}, which holds "
            f"{MOST_BYTES // 10**6} MB of films.",
            stacklevel=2,
        )
    count = len(paths)
    size = os.path.getsize(out)
    said = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
    print(f"{out} ({count} {'run' if count == 1 else 'runs'}, {said})")
    return 0

"""Runs the rows and prints the tables."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.rows import GROUPS, PUBLISHED, ROWS, Job, for_cuda
from benchmarks.peers.runner import VENV, Runner, install, merge, run_group, run_in_turns
from benchmarks.peers.settings import TASKS
from benchmarks.peers.table import tables
from benchmarks.result_file import RESULTS, write_result
from fastdqn import Config

PEERS = ("sb3", "plain", "tianshou", "torchrl", "cpprb")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    names = [*GROUPS, *(name for name in ROWS if name not in GROUPS)]
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help=", ".join(names))
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, metavar="NAME", default=PEERS,
        help=f"beside fastdqn: some of {', '.join(PEERS)}; none if empty",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--turns", type=int, default=8, help="windows of each training loop, taken in turn"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument(
        "--device", default="cpu", help="cuda where a system can; not tried on a GPU so far"
    )
    parser.add_argument("--venv", type=Path, default=VENV, help="the peers' environment")
    parser.add_argument("--install", action="store_true", help="make that environment, and stop")
    parser.add_argument("--short", action="store_true", help="tiny sizes, no claim, no file")
    parser.add_argument("--again", action="store_true", help="also rows that have a result")
    parser.add_argument("--table", action="store_true", help="print the results, run nothing")
    parser.add_argument("--out", type=Path, help="where to write the JSON")
    return parser.parse_args(arguments)


def chosen_groups(only: Sequence[str] | None) -> list[str]:
    """Groups that fill any of the rows; all of them without a choice."""
    return [
        name
        for name, group in GROUPS.items()
        if only is None or name in only or any(row in only for row in group.rows)
    ]


def chosen_jobs(name: str, peers: Sequence[str], device: str = "cpu") -> list[Job]:
    """Jobs of a group: fastdqn's, as far as it has the fields, and the peers asked for."""
    fields = {field.name for field in dataclasses.fields(Config)}
    jobs = []
    for job in GROUPS[name].jobs:
        if job.system == "ours" and name in ("cartpole-16", "cartpole-64", "pong-8"):
            if any(pair.split("=")[0] not in fields for pair in job.variant.split()):
                continue
        elif job.system != "ours" and job.system not in peers:
            continue
        if device != "cpu" and (job.malloc or job.variant == "malloc"):
            continue  # it is about activations in main memory
        jobs.append(job if device == "cpu" else for_cuda(name, job))
    return jobs


def is_done(rows: dict[str, Any], name: str, args: argparse.Namespace) -> bool:
    """Whether an earlier run has every row of a group, as many rounds and as long."""
    wanted = {"rounds": rounds_of(name, args), "seconds": args.seconds, "peers": sorted(args.peers)}
    return all(
        row in rows and all(rows[row].get(key) == value for key, value in wanted.items())
        for row in GROUPS[name].rows
    )


def rounds_of(name: str, args: argparse.Namespace) -> int:
    """How many values each label of a group gets."""
    return args.turns if name in TASKS and args.turns > 1 else args.rounds


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    if args.install:
        install(args.venv)
        return 0
    name = "peers" if args.device == "cpu" else "peers-cuda"
    path = args.out or RESULTS / f"{name}.json"
    keep = args.out is not None or not args.short
    rows: dict[str, Any] = {}
    if keep and path.exists():
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    if args.table:
        print(tables(rows) or f"{path} is not there yet")
        return 0
    if args.short:
        args.seconds, args.rounds, args.turns = min(args.seconds, 0.5), 1, 1
    runner = Runner(
        args.venv.absolute(), args.seconds, args.device, args.threads, 0.05 if args.short else 1.0
    )
    began = time.perf_counter()
    for group_name in chosen_groups(args.only):
        if not args.again and args.only is None and is_done(rows, group_name, args):
            continue
        group = GROUPS[group_name]
        jobs = chosen_jobs(group_name, args.peers, args.device)
        if group_name in TASKS and args.turns > 1:
            found = run_in_turns(group_name, jobs, args.turns, runner.measure_in_turns, _say)
        else:
            found = run_group(group_name, group, jobs, args.rounds, runner.measure, _say)
        about = {
            "date": time.strftime("%Y-%m-%d"),
            "command": "python -m benchmarks.peers " + " ".join(arguments or sys.argv[1:]),
            "rounds": rounds_of(group_name, args),
            "seconds": args.seconds,
            "threads": args.threads,
            "device": args.device,
            "peers": sorted(args.peers),
        }
        new = {
            row: {
                "unit": ROWS[row].unit,
                "more_is_better": ROWS[row].more_is_better,
                "protocol": f"{ROWS[row].protocol}; {args.threads} torch threads unless stated",
                **about,
                "results": results,
            }
            for row, results in found.items()
        }
        rows = merge(rows, new)
        if keep:
            write_result("peers", {"published": PUBLISHED, "rows": rows}, str(path))
    print(f"\n{tables(rows)}\n\n{time.perf_counter() - began:.0f} s")
    failed = [r for row in rows.values() for r in row["results"].values() if "failed" in r]
    return 1 if failed else 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

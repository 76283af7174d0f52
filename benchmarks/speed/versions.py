"""Two checkouts on one machine, ``fastdqn bench`` of one after that of the other, in turns.

python -m benchmarks.speed.versions ../before . --cases 'adam/*/nature' --launches 3

Every launch is a process of its own: what the layout of memory does to a time counts as noise, too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastdqn.bench import compare

Result = dict[str, Any]


def launch(checkout: Path, arguments: Sequence[str], out: Path) -> Result:
    """One run of a checkout's bench; its result."""
    command = [sys.executable, "-m", "fastdqn", "bench", *arguments, "--json", str(out)]
    paths = filter(None, [str(checkout), os.environ.get("PYTHONPATH")])
    done = subprocess.run(
        command, cwd=checkout, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode not in (0, 1):  # 1: a case failed
        raise SystemExit(done.returncode)
    return compare.load(str(out))


def merged(launches: Sequence[Result]) -> Result:
    """One result whose rounds are launches; cases that one of them lacks are left out."""
    cases = []
    for case in launches[0]["cases"]:
        same = [c for run in launches for c in run["cases"] if c["name"] == case["name"]]
        if len(same) < len(launches) or any(c["status"] != "ok" for c in same):
            continue
        medians = [c["us"]["median"] for c in same]
        others = [lap for c in same for lap in c.get("other_cpus", ())]
        us = {"median": statistics.median(medians), "p10": min(medians), "p90": max(medians)}
        cases.append({**case, "us": us, "rounds_us": medians, "other_cpus": others})
    return {**launches[0], "cases": cases}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.versions", description=__doc__.splitlines()[0]
    )
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="another")
    parser.add_argument("--cases", required=True)
    parser.add_argument("--seconds", default="2")
    parser.add_argument("--launches", type=int, default=3)
    args = parser.parse_args(argv)
    if args.launches < 2:
        parser.error("--launches: two or more, or nothing is known of the noise")
    for checkout in (args.old, args.new):
        if not (checkout / "fastdqn" / "bench").is_dir():
            parser.error(f"{checkout} is no checkout of fastdqn")
    checkouts = {"old": args.old.resolve(), "new": args.new.resolve()}
    found: dict[str, list[Result]] = {"old": [], "new": []}
    arguments = ["--cases", args.cases, "--seconds", args.seconds]
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(args.launches):
            for which, checkout in checkouts.items():
                print(f"launch {number + 1} of {args.launches}: {checkout}", file=sys.stderr)
                out = Path(scratch) / f"{which}-{number}.json"
                found[which].append(launch(checkout, arguments, out))
    old, new = merged(found["old"]), merged(found["new"])
    print("\n".join(compare.lines(old, new, str(args.old))))


if __name__ == "__main__":
    main()

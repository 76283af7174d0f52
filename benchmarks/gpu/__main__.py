"""Everything that is to be measured on one GPU: stages with limits of their own, in one call.

python -m benchmarks.gpu                          # 520 s: the most telling first
python -m benchmarks.gpu --total 300              # again on the same machine: what is left
python -m benchmarks.gpu --only e2e --again
python -m benchmarks.gpu --smoke                  # on a CPU, tiny: that all of it works

To --out go results.json and logs.txt, written after every entry. Exit code 0: every stage asked for
is finished and nothing in it failed; 1: not so; 2: there is no GPU.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu import report
from benchmarks.gpu.driver import Driver, Task, python, working_folder
from benchmarks.gpu.stages import STAGES
from benchmarks.result_file import head

_SMOKE_LIMIT_S = 150.0  # sizes are tiny, processors may be two and busy


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--total", type=float, default=520.0, metavar="SECONDS", help="for all")
    parser.add_argument("--only", nargs="+", choices=list(STAGES), metavar="STAGE",
                        help="of " + ", ".join(STAGES))  # fmt: skip
    parser.add_argument("--again", action="store_true", help="also what is finished")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes; a CPU will do")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a temporary folder if unset")
    args = parser.parse_args()
    import torch

    if not args.smoke and not torch.cuda.is_available():
        print("No CUDA device is here; --smoke runs the same stages on a CPU.", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):  # the stage that runs must end, too
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    if not args.smoke:
        return _run(args, working_folder())
    with tempfile.TemporaryDirectory(prefix="fastdqn-gpu-smoke-") as folder:  # anew each time
        return _run(args, Path(folder))


def _run(args: argparse.Namespace, folder: Path) -> int:
    out = args.out or Path(tempfile.mkdtemp(prefix="fastdqn-gpu-"))
    driver = Driver(
        folder,
        out,
        args.total,
        head={**head("gpu"), "total_s": args.total, "smoke": args.smoke},
        summarise=lambda records: {"targets": report.target_rows(_found(records, args.smoke))},
        tell=lambda name, records: _say(
            report.stage_lines(name, records[name], _found(records, args.smoke))
        ),
    )
    clean = driver.run([_task(name, args.smoke) for name in args.only or STAGES], again=args.again)
    rows = report.target_rows(_found(driver.records, args.smoke))
    print(f"\n{report.target_table(rows)}\n\n{out / 'results.json'}")
    return 0 if clean else 1


def _found(records: Mapping[str, Any], smoke: bool) -> dict[str, dict[str, Any]]:
    """Entries by stage; those of a smoke run are nothing to compare with."""
    return {} if smoke else {name: record["entries"] for name, record in records.items()}


def _task(name: str, smoke: bool) -> Task:
    limit_s = max(STAGES[name].limit_s, _SMOKE_LIMIT_S) if smoke else STAGES[name].limit_s
    arguments = (name, "--smoke") if smoke else (name,)
    return Task(name, limit_s, python("benchmarks.gpu.stage", *arguments))


def _say(lines: list[str]) -> None:
    for line in lines:
        print(f"   {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

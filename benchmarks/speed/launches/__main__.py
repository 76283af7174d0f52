"""Counts the launches of an update and of a vector step on an H100, without one.

python -m benchmarks.speed.launches                       # every case; some minutes
python -m benchmarks.speed.launches dqn-atari --json

It needs a CUDA build of torch and Triton, no GPU. Exits with 1 where a law of capture is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
import warnings
from typing import Any

from benchmarks.speed.launches import device, inductor
from benchmarks.speed.launches.table import markdown
from benchmarks.speed.launches.watch import WATCH

MODES = ("eager", "graph")


def count(case: str) -> dict[str, Any]:
    """A case as plain data: costs by mode and call, broken laws, the number of cubins made."""
    from benchmarks.speed.launches.parts import CASES, Run, describe

    WATCH.forget()
    inductor.CUBINS.clear()
    result: dict[str, Any] = {"case": case, "modes": {}, "error": None}
    try:
        for mode in MODES:
            with device.fake_device():
                costs = Run(CASES[case], mode).costs()
            result["modes"][mode] = {call: describe(cost) for call, cost in costs.items()}
    except Exception as error:
        traceback.print_exc()
        result["error"] = f"{type(error).__name__}: {error}"
    return {**result, "broken": WATCH.broken, "cubins": len(inductor.CUBINS)}


def main() -> int:
    warnings.filterwarnings("ignore")
    device.install()
    from benchmarks.speed.launches.parts import CASES

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.launches",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--json", action="store_true", help="print every node by name instead")
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - set(CASES)
    if unknown:
        parser.error(f"there is no case {', '.join(sorted(unknown))}; they are {', '.join(CASES)}")
    results = []
    for case in arguments.cases or CASES:
        results.append(count(case))
        if not arguments.json:
            print(markdown(results[-1]), flush=True)
    if arguments.json:
        print(json.dumps(results))
    return int(any(result["error"] or result["broken"] for result in results))


sys.exit(main())

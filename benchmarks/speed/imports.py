"""What the first use of a public name costs beside ``import torch``, in fresh processes.

python -m benchmarks.speed.imports               # ten rounds of every name
python -m benchmarks.speed.imports --names ReplayBuffer Learner --rounds 30
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from benchmarks.result_file import write_result

NAMES = (
    "ReplayBuffer",
    "SumTree",
    "Batch",
    "TimeStep",
    "Config",
    "Learner",
    "Policy",
    "make_network",
    "train",
)
_USE = """
import time
start = time.perf_counter()
import torch
{}
print(time.perf_counter() - start)
"""
_MAKE = """
import fastdqn, gymnasium, numpy
fastdqn.ReplayBuffer(1024, 1, gymnasium.spaces.Box(-1, 1, (4,), numpy.float32))
"""


def statements(names: list[str]) -> dict[str, str]:
    """What is run behind ``import torch``, by name; the first is nothing."""
    uses = {f"fastdqn.{name}": f"import fastdqn; fastdqn.{name}" for name in names}
    return {"torch": "", "torch again": "", **uses, "a ReplayBuffer made": _MAKE}


def seconds(statement: str) -> float:
    """Of ``import torch`` and a statement, in a process of their own."""
    code = _USE.format(statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.imports", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--out", help="where to write the JSON")
    args = parser.parse_args()
    cases = statements(args.names)
    found: dict[str, list[float]] = {name: [] for name in cases}
    for code in cases.values():  # files into the page cache, bytecode onto the disk
        seconds(code)
    for _ in range(args.rounds):  # interleaved, so that a slow minute hits every case
        for name, code in cases.items():
            found[name].append(seconds(code))
    rows = {}
    for name, times in found.items():
        # Of each round: a machine that slows down does so for both.
        ratios = [time / torch for time, torch in zip(times, found["torch"], strict=True)]
        rows[name] = {
            "median_s": statistics.median(times),
            "least_s": min(times),
            "median_ratio": statistics.median(ratios),
            "ratio_of_least": min(times) / min(found["torch"]),
        }
        print(f"{name:24}" + "".join(f"  {key} {value:.3f}" for key, value in rows[name].items()))
    if args.out:
        write_result("speed.imports", {"rounds": args.rounds, "results": rows}, args.out)


if __name__ == "__main__":
    main()

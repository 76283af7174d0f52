"""Everything to run on a machine with one GPU, in three calls of at most ten minutes each.

python -m benchmarks.gpu --part tests           # the tests that need a GPU, a short default bench
python -m benchmarks.gpu --part ladder bench    # every rung beside its prediction, and the parts
python -m benchmarks.gpu --part e2e             # the training loop, 65,536 native envs, Pong
python -m benchmarks.gpu --smoke --part bench   # on a CPU: that this script works

Each part is a list of steps, the most telling first. A step is a process of its own, for a fault in
one kernel ends the process that it happens in. What no longer fits in the part's time is not
started, and the result says so. The result is written after every step.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, write_result

ROOT = Path(__file__).parents[1]
BUDGET_S = {"tests": 570.0, "ladder": 400.0, "bench": 170.0, "e2e": 570.0}
_TAIL = 30  # lines kept of what a step that failed has said
_CEILINGS = "ceil/copy,ceil/gemm_*"  # so that a step's cases have their floors
_KERNELS = ("3_flatadam", "7_fused")  # rungs with kernels of our own


@dataclass(frozen=True)
class Step:
    """One process: a bench of some cases, or anything else of ``python -m``."""

    name: str
    arguments: tuple[str, ...]

    @property
    def is_bench(self) -> bool:
        """Whether it writes a result of its own."""
        return self.arguments[:2] == ("fastdqn", "bench")


def bench(name: str, cases: str, seconds: float = 1.0) -> Step:
    chosen = ("--cases", cases) if cases else ()
    return Step(name, ("fastdqn", "bench", *chosen, "--seconds", f"{seconds:g}"))


def steps(part: str, smoke: bool) -> list[Step]:
    """What a part consists of; in a smoke run one step of each kind."""
    if smoke:
        return [
            Step(step.name, (*step.arguments, *(("--smoke",) if step.is_bench else ())))
            for step in _SMOKE[part]
        ]
    return _STEPS[part]


def _ladder(batch: int, kernels: bool) -> Step:
    from fastdqn.bench.ladder.rungs import RUNGS

    in_torch = [rung for rung in RUNGS if rung not in _KERNELS]
    chosen = ["2_graph", *_KERNELS] if kernels else in_torch
    cases = ",".join(f"update/*/B{batch}/ladder/{rung}/*" for rung in chosen)
    kind = "rungs with kernels of our own" if kernels else "rungs in torch"
    return bench(f"{kind}, B {batch}", f"{_CEILINGS},{cases}", 0.8)


# -v: what has failed before the time is over is known by its name.
_TESTS = Step("tests", ("pytest", "-m", "gpu", "-v", "--tb=short", "--no-header"))
_STEPS = {
    "tests": [_TESTS, bench("default set", "", 0.5)],
    "ladder": [
        bench("launches", "ceil/graph_*", 0.5),
        _ladder(32, kernels=False),
        _ladder(32, kernels=True),
        _ladder(256, kernels=False),
        _ladder(256, kernels=True),
    ],
    "bench": [
        bench(
            "prioritized replay",
            "per/*/sumtree/N1e6/*,per/*/cumsum/N1e6/*,per/*/torchrl/N1e6/*,per/cycle/pixels/N1e6",
            0.4,
        ),
        bench(
            "gather and Adam",
            f"{_CEILINGS},gather/pixels,gather/pixels_s2d/*/torch,adam/flat/nature,"
            "adam/flat_lowered/nature,adam/torch_fused/nature,adam/foreach/nature",
            0.4,
        ),
        bench(
            "the same in kernels of our own",
            f"{_CEILINGS},per/*/sumtree/N1e6/*,per/*/triton/N1e6/*,gather/pixels_s2d,"
            "adam/flat*/nature",
            0.4,
        ),
        bench("networks", f"{_CEILINGS},net/*/nature/*,net/*/impala2/B256/*", 0.5),
        bench("IMPALA's updates", "update/impala2/B256", 1.0),
    ],
    "e2e": [
        bench("loop A, no emulator", "e2e/A/synthetic/N64", 5.0),
        bench("loop B, no emulator", "e2e/B/synthetic/N64,e2e/B2/synthetic/N64", 5.0),
        bench("loop C, no emulator", "e2e/C/synthetic/N64", 5.0),
        bench("65,536 native envs", "env/native/cartpole/N65536,peer/gymnasium/cartpole/N65536"),
        bench("Pong", "env/ale/pong/N64,e2e/A/pong/N64,e2e/B/pong/N64", 8.0),
        bench("loop D", "e2e/D/synthetic/N64,e2e/D/pong/N64", 5.0),
        bench("screens", "env/native/cartpole_pixels/*/N1024,peer/gymnasium/cartpole_render"),
    ],
}
_SMOKE = {
    "tests": [
        Step("tests", (*_TESTS.arguments, "tests/test_gpu.py")),
        bench("default set", "ceil/copy,adam/flat/mlp"),
    ],
    "ladder": [bench("rungs", "update/*/B32/ladder/4_s2d/K1,update/*/B32/ladder/6_2B/K1")],
    "bench": [bench("Adam", "adam/*/mlp")],
    "e2e": [bench("loop A", "e2e/A/synthetic/N8")],
}


def run_part(
    part: str, plan: Sequence[Step], budget_s: float, out: Path | None
) -> list[dict[str, Any]]:
    """Run the steps one after another; a record each, written to ``out`` as they come."""
    deadline = time.monotonic() + budget_s
    records: list[dict[str, Any]] = []
    for step in plan:
        left = deadline - time.monotonic()
        print(f"\n== {part}: {step.name} ({max(left, 0):.0f} s left)", flush=True)
        if left <= 0:
            records.append(_record(step, "not started: no time left"))
        else:
            records.append(run_step(step, left))
        print(f"== {records[-1]['status']}, {records[-1]['wall_s']:.0f} s", flush=True)
        if out is not None:
            body = {"part": part, "budget_s": budget_s, "steps": records}
            write_result("gpu", body, str(out / f"gpu-{part}.json"))
    return records


def run_step(step: Step, limit_s: float) -> dict[str, Any]:
    """Run one; whatever it does, a record comes back."""
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "bench.json"
        extra = ["--json", str(result)] if step.is_bench else []
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", *step.arguments, *extra],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=limit_s)
            code = process.returncode
            status = "ok" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the compilers that it has started
            said, _ = process.communicate()
            status = f"stopped: no time left after {limit_s:.0f} s"
        print(said, flush=True)
        record = _record(step, status, time.monotonic() - began)
        if status != "ok":
            record["said"] = said.splitlines()[-_TAIL:]
        if result.exists():
            record["result"] = json.loads(result.read_text(encoding="utf-8"))
    return record


def _record(step: Step, status: str, wall_s: float = 0.0) -> dict[str, Any]:
    command = "python -m " + " ".join(step.arguments)
    return {"name": step.name, "command": command, "status": status, "wall_s": wall_s}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=list(BUDGET_S), default=list(BUDGET_S))
    parser.add_argument("--out", metavar="DIR", help="for gpu-PART.json; results/ if unset")
    parser.add_argument("--budget-s", type=float, help="for each part, instead of its own")
    parser.add_argument("--smoke", action="store_true", help="a CPU will do; saved with --out")
    args = parser.parse_args()
    import torch

    if not args.smoke and not torch.cuda.is_available():
        print("No CUDA device is here; --smoke runs the same steps on a CPU.", file=sys.stderr)
        return 2
    out = Path(args.out) if args.out else None if args.smoke else RESULTS
    summary: list[tuple[str, dict[str, Any]]] = []
    for part in args.part:
        budget_s = BUDGET_S[part] if args.budget_s is None else args.budget_s
        records = run_part(part, steps(part, args.smoke), budget_s, out)
        summary += [(part, record) for record in records]
    print()
    for part, record in summary:
        print(f"{part:<7} {record['name']:<36} {record['wall_s']:>4.0f} s  {record['status']}")
    return 0 if all(record["status"] == "ok" for _, record in summary) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Runs the rows and prints the table."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.reliability import ROWS
from benchmarks.result_file import RESULTS, write_result
from fastdqn.system.info import environment


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--only", action="append", choices=ROWS, help="this row; may be repeated")
    parser.add_argument("--short", action="store_true", help="small numbers, no claim, no file")
    parser.add_argument("--again", action="store_true", help="also rows that have a result")
    parser.add_argument("--table", action="store_true", help="print the results, run nothing")
    args = parser.parse_args()
    path = RESULTS / "reliability.json"
    found: dict[str, Any] = {}
    if path.exists() and not args.short:
        found = json.loads(path.read_text(encoding="utf-8"))["rows"]
    chosen = () if args.table else args.only or ROWS
    for name in chosen:
        if name in found and not args.again and not args.only:
            continue
        module = importlib.import_module(f"benchmarks.reliability.{name}")
        print(f"{name}: {module.FIGURE} ...", flush=True)
        began = time.perf_counter()
        outcome = module.run(args.short)
        found[name] = {
            "figure": module.FIGURE,
            "result": outcome.result,
            "passed": outcome.passed,
            "seconds": round(time.perf_counter() - began, 1),
            "date": time.strftime("%Y-%m-%d"),
            "git_commit": environment()["git_commit"],  # rows may come from several
            "details": outcome.details,
        }
        print(f"  {'ok' if outcome.passed else 'FAILED'}: {outcome.result}", flush=True)
        if not args.short:
            found = write(path, name, found[name])
    print(table(found))
    return 0 if all(row["passed"] for row in found.values()) else 1


def write(path: Path, name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Put one row into the file, and return all: another process may have written others since."""
    found = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {}
    found[name] = row
    write_result("reliability", {"rows": {name: found[name] for name in ROWS if name in found}})
    return found


def table(found: dict[str, Any]) -> str:
    """Markdown, as the README has it."""
    lines = ["| test | figure | found | s |", "|---|---|---|---|"]
    for name in ROWS:
        if name in found:
            row = found[name]
            mark = "" if row["passed"] else "**missed**: "
            lines.append(
                f"| {name} | {row['figure']} | {mark}{row['result']} | {row['seconds']:g} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())

"""What every result file carries: when, where, with what, by which command."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from fastdqn.system.info import environment

RESULTS = Path(__file__).parent / "results"


def head(name: str) -> dict[str, Any]:
    """When, by which command of ``benchmarks``, and the machine."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": "python -m " + " ".join(["benchmarks." + name, *sys.argv[1:]]),
        "environment": environment(),
    }


def write_result(name: str, body: dict[str, Any], out: str | None = None) -> Path:
    """Write a result under ``results/`` (or to ``out``), with the machine and the command."""
    record = {**head(name), **body}
    path = Path(out) if out else RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path

"""A file of results, and what each carries: when, where, with what, by which command."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from fastdqn.system.info import environment

RESULTS = Path(__file__).parent / "results"


def head(module: str) -> dict[str, Any]:
    """When, by which module of ``benchmarks`` (``learning.cartpole``), and the machine."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": "python -m " + " ".join(["benchmarks." + module, *sys.argv[1:]]),
        "environment": environment(),
    }


def write_result(module: str, body: dict[str, Any], out: str | None = None) -> Path:
    """Write ``results/<last part of module>.json`` (or ``out``): the head, and ``body``."""
    record = {**head(module), **body}
    path = Path(out) if out else RESULTS / f"{module.rpartition('.')[2]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path

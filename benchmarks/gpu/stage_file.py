"""What a stage has found so far, in a file of its own. Needs no torch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RUNNING, FINISHED = "running", "finished"


def write_json(path: Path, body: Any) -> None:
    """Write so that whoever reads sees the old file or the new one, and never a part."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(_finite(body), indent=1, allow_nan=False) + "\n", "utf-8")
    os.replace(fresh, path)


def _finite(body: Any) -> Any:
    """With None for what is not finite, which JSON does not know."""
    if isinstance(body, Mapping):
        return {key: _finite(value) for key, value in body.items()}
    if isinstance(body, list | tuple):
        return [_finite(value) for value in body]
    return None if isinstance(body, float) and not math.isfinite(body) else body


class StageFile:
    """``entries``, ``errors`` and ``left_out`` by key, a ``status`` and the seconds it all took.

    Args:
        path: Read if it is there: a stage that was cut short goes on where it stood.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record: dict[str, Any] = {
            "status": RUNNING, "wall_s": 0.0, "entries": {}, "errors": {}, "left_out": {}
        }  # fmt: skip
        if path.exists():
            self.record.update(json.loads(path.read_text(encoding="utf-8")))

    @property
    def finished(self) -> bool:
        """Whether it came to its end, entries that failed included, with nothing left out."""
        return self.record["status"] == FINISHED

    @property
    def clean(self) -> bool:
        """Whether it is finished and nothing failed."""
        return self.finished and not self.record["errors"]

    def save(self) -> None:
        """Write everything."""
        write_json(self.path, self.record)

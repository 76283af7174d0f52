"""What ``--json`` writes, whole or not at all."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastdqn.bench.compare import FORMAT_VERSION, KIND
from fastdqn.system.file_systems import replace

Record = dict[str, Any]


class ResultFile:
    """The result of one run as it grows.

    Args:
        path: Where to write; None: nowhere.
        arguments: Of ``fastdqn bench``.
        settings: That figures depend on.
        machine: Of :func:`fastdqn.bench.fingerprint.fingerprint`.
        planned: How many cases were to be measured.
    """

    def __init__(
        self,
        path: str | None,
        arguments: Sequence[str],
        settings: Mapping[str, Any],
        machine: Record,
        planned: int,
    ) -> None:
        self._path = None if path is None else Path(path)
        self._began = time.perf_counter()
        self.result: Record = {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": shlex.join(["fastdqn", "bench", *arguments]),
            "settings": dict(settings),
            "complete": False,
            "cases_planned": planned,
            "wall_s": 0.0,
            "fingerprint": machine,
            "cases": [],
        }

    def keep(self, records: list[Record], *, complete: bool = False) -> None:
        """Take what was measured so far, and write it where that can be overwritten."""
        self.result.update(
            cases=records, complete=complete, wall_s=time.perf_counter() - self._began
        )
        if self._path is None or (self._path.exists() and not self._path.is_file()):
            return  # whoever reads a pipe wants one result
        with suppress(OSError):  # the table may still be had
            self._write(self._path)

    def close(self) -> None:
        """Write the last state; OSError where that cannot be."""
        if self._path is not None:
            self._write(self._path)

    def _write(self, path: Path) -> None:
        text = json.dumps(self.result, indent=1, allow_nan=False) + "\n"
        if path.exists() and not path.is_file():  # a pipe
            path.write_text(text, encoding="utf-8")
            return
        path = path.resolve()
        unfinished = path.with_name(path.name + ".tmp")
        try:
            unfinished.write_text(text, encoding="utf-8")
            replace(unfinished, path)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            raise

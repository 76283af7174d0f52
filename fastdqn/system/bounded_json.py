"""Limits to JSON that somebody else may have written. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MAX_JSON = 2 * 1024**2  # bytes of a header or of a JSON file
MAX_JSON_VALUES = 100_000  # parsed, each may take 100 times its text


def check_json(data: bytes) -> None:
    """Raise ValueError where there is more of it than may be parsed."""
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    if len(data) > MAX_JSON or values > MAX_JSON_VALUES:
        raise ValueError(
            f"{len(data)} bytes of JSON with {values} values; at most {MAX_JSON} bytes and "
            f"{MAX_JSON_VALUES} values: keep numbers in arrays"
        )


def read_bounded(path: Path) -> str:
    """The text of a file of JSON that may be parsed; OSError or ValueError where it may not."""
    with path.open("rb") as file:
        data = file.read(MAX_JSON + 1)
    check_json(data)
    return data.decode("utf-8")


def read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object; empty where there is none that can be read."""
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            return {}
        body = json.loads(read_bounded(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}

"""The newest film of some runs, as a part of a page."""

from __future__ import annotations

import base64
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 16 * 1000**2
"""Of all films of a page, before they become a third larger as text."""

# By suffix: media type, and what such a file has where. A run may be somebody else's: a link, or a
# file that only calls itself a film, would show a file of the reader's to whoever gets the page.
_KINDS = {".mp4": ("video/mp4", 4, b"ftyp"), ".gif": ("image/gif", 0, b"GIF8")}


@dataclass(frozen=True)
class Film:
    """A film in a page, or why it is not there."""

    env: str
    name: str
    address: str  # data:...; empty where it is too large
    is_video: bool
    num_bytes: int


def newest_film(env: str, runs: Sequence[Path], room: int) -> Film | None:
    """The newest film in ``films/`` of the runs; None where there is none.

    Args:
        env: That they were trained on.
        runs: Run directories.
        room: Bytes that it may have.
    """
    found = sorted(
        (file.lstat().st_mtime, str(file), file)
        for run in runs
        for file in _files(run / "films")
        if _is_film(file)
    )
    if not found:
        return None
    file = found[-1][-1]
    kind, _, _ = _KINDS[file.suffix.lower()]
    size = file.stat().st_size
    name = f"{file.parents[1].name}/films/{file.name}"
    address = ""
    if size <= room:
        address = f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
    return Film(env, name, address, kind.startswith("video"), size)


def _files(directory: Path) -> list[Path]:
    if directory.is_symlink() or not directory.is_dir():
        return []
    return [file for file in directory.iterdir() if file.suffix.lower() in _KINDS]


def _is_film(file: Path) -> bool:
    _, start, mark = _KINDS[file.suffix.lower()]
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            return False
        with file.open("rb") as stream:
            return stream.read(start + len(mark))[start:] == mark
    except OSError:
        return False

"""The file that a command writes: where it goes, and what the disk says to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastdqn.errors import ConfigError

_FORMATS = (".png", ".svg", ".pdf")


def picture_path(out: str) -> Path:
    """Where to draw, refused before anything is computed if it cannot be."""
    return out_path(out, _FORMATS, "picture")


def out_path(out: str, formats: Sequence[str], what: str) -> Path:
    """Where to write, refused before anything is computed if it cannot be.

    Args:
        out: A file.
        formats: How its name may end.
        what: It is to be.
    """
    path = Path(out)
    if path.suffix.lower() not in formats:
        raise ConfigError(f"out = {out!r} is no {what}; end it in {', '.join(formats)}.")
    check_place(path)
    return path


def check_place(path: Path) -> None:
    """Refuse, by a ConfigError, where no file can be written."""
    out = str(path)
    if path.is_dir() or not path.parent.is_dir():
        why = "is a directory" if path.is_dir() else f"needs the directory {str(path.parent)!r}"
        raise ConfigError(f"out = {out!r} {why}; name a file in a directory that exists.")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"out = {out!r} cannot be written there; name another directory.")


@contextlib.contextmanager
def disk_may_refuse(out: Path) -> Iterator[None]:
    """One sentence for a disk that does not take the file."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"out = {str(out)!r} cannot be written ({error.strerror}); name another file."
        ) from None

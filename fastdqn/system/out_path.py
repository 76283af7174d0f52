"""Where a file that somebody asked for will lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastdqn.errors import ConfigError


def out_path(out: str, formats: Sequence[str], what: str) -> Path:
    """Where to write, refused before anything is computed if it cannot be.

    Args:
        out: A file.
        formats: How its name may end, in two ways or more.
        what: It is to be.

    Raises:
        ConfigError: Where it ends in another way, or no file can be written there.
    """
    path = Path(out)
    if path.suffix.lower() not in formats:
        endings = f"{', '.join(formats[:-1])} or {formats[-1]}"
        raise ConfigError(f"out = {out!r} is no {what}; end it in {endings}.")
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

"""The picture that a command draws, and what the disk says to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fastdqn.errors import ConfigError
from fastdqn.system.out_path import out_path

_FORMATS = (".png", ".svg", ".pdf")


def picture_path(out: str) -> Path:
    """Where to draw, refused before anything is computed if it cannot be."""
    return out_path(out, _FORMATS, "picture")


@contextlib.contextmanager
def disk_may_refuse(out: Path) -> Iterator[None]:
    """One sentence for a disk that does not take the file."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"out = {str(out)!r} cannot be written ({error.strerror}); name another file."
        ) from None

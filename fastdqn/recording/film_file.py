"""A film on the disk: whole or not there, in the format that its name asks for."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fastdqn.errors import ConfigError
from fastdqn.system.file_systems import replace

if TYPE_CHECKING:
    import numpy as np

MOST_FPS = {".mp4": 60.0, ".gif": 30.0}
"""Formats by their suffix, and how many frames a second of theirs has unless told otherwise."""


class FilmFile(Protocol):
    """Takes the frames of a film."""

    fps: float

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, uint8 [H, W, 3], as large as the first."""
        ...

    def finish(self) -> None:
        """Write what is still missing; nothing where there was no frame."""
        ...

    def abandon(self) -> None:
        """Close without it."""
        ...


_GIF_FPS = 50.0  # above, browsers take a frame for one of a tenth of a second


def film_path(out: Path | str, fps: float | None = None) -> Path:
    """Where to write, refused by a ConfigError before anything is played if it cannot be.

    Args:
        out: The film.
        fps: Frames per second, if somebody has asked for them.
    """
    path = Path(out)
    if path.suffix.lower() not in MOST_FPS:
        raise ConfigError(f"out = {str(out)!r} is no film; end it in .mp4 or .gif.")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a directory" if path.is_dir() else f"needs the directory {str(path.parent)!r}"
        raise ConfigError(f"out = {str(out)!r} {what}; name a file in a directory that exists.")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"out = {str(out)!r} cannot be written there; name another directory.")
    if path.suffix.lower() == ".mp4" and not has_mp4():
        raise ConfigError(
            f"out = {str(out)!r} needs PyAV; pip install 'fastdqn[video]', or end it in .gif."
        )
    if path.suffix.lower() == ".gif" and fps is not None and fps > _GIF_FPS:
        raise ConfigError(f"fps = {fps:g} is too fast for a .gif; use 50 or less, or an .mp4.")
    return path


def has_mp4() -> bool:
    """Whether PyAV, which writes them, is installed."""
    return importlib.util.find_spec("av") is not None


@contextlib.contextmanager
def film_file(path: Path, fps: float) -> Iterator[FilmFile]:
    """A film to write to, which gets its name when the block ends without an error.

    Args:
        path: As :func:`film_path` returned it.
        fps: Frames per second.

    Raises:
        OSError: Where the disk refuses.
    """
    unfinished = path.with_name(path.name + ".tmp")
    file: FilmFile
    if path.suffix.lower() == ".mp4":
        from fastdqn.recording.mp4 import Mp4

        file = Mp4(unfinished, fps)
    else:
        from fastdqn.recording.gif import Gif

        file = Gif(unfinished, fps)
    try:
        yield file
        file.finish()
        replace(unfinished, path)
    except BaseException:
        file.abandon()
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise

"""A film on the disk: whole or not there, in the format that its name asks for."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fastdqn.errors import ConfigError
from fastdqn.system.file_systems import replace
from fastdqn.system.out_path import out_path

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
    path = out_path(str(out), tuple(MOST_FPS), "film")
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

"""Whether an env can open a window, told before torch is imported."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from fastdqn.config.env_ids import is_native
from fastdqn.errors import EnvError

_INSTEAD = "film it with 'fastdqn record RUN --out play.mp4'"
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")


def check_window(env_id: str) -> None:
    """Refuse, by an EnvError, to open a window where there can be none."""
    if is_native(env_id):
        raise EnvError(f"{env_id} has no window of its own; {_INSTEAD}.")
    if not _has_display():  # SDL would draw into a window that nobody sees
        raise EnvError(f"There is no display for a window of {env_id} (no DISPLAY); {_INSTEAD}.")


@contextlib.contextmanager
def without_display() -> Iterator[None]:
    """Keep SDL from looking for a display that is not there, and from complaining on stderr."""
    if _has_display():
        yield
        return
    os.environ["SDL_VIDEODRIVER"] = "dummy"
    try:
        yield
    finally:
        del os.environ["SDL_VIDEODRIVER"]


def _has_display() -> bool:
    return not sys.platform.startswith("linux") or any(map(os.environ.get, _DISPLAYS))

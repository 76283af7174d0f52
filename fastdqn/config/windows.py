"""Whether an env can open a window, told before torch is imported."""

from __future__ import annotations

import os
import sys

from fastdqn.config.env_ids import is_native
from fastdqn.errors import EnvError

_INSTEAD = "film it with 'fastdqn record RUN --out play.mp4'"
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")


def check_window(env_id: str) -> None:
    """Refuse, by an EnvError, to open a window where there can be none."""
    if is_native(env_id):
        raise EnvError(f"{env_id} has no window of its own; {_INSTEAD}.")
    # Without one SDL draws into a window that nobody sees.
    if sys.platform.startswith("linux") and not any(map(os.environ.get, _DISPLAYS)):
        raise EnvError(f"There is no display for a window of {env_id} (no DISPLAY); {_INSTEAD}.")

"""A run without what it says of the machine's directories. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from fastdqn.config.config import Config

_OF_A_DIRECTORY = ("run_dir", "resume", "lock_timeout_s", "replan_schedules")


def portable(config: Config) -> Config:
    """A configuration without the directory it ran in, and without its owner's home."""
    default = Config()
    changes = {name: getattr(default, name) for name in _OF_A_DIRECTORY}
    if config.initial is not None:
        changes["initial"] = without_home(config.initial)
    return config.replace(**changes)


def without_home(text: str) -> str:
    """A text with ``~`` for the home directory."""
    home = str(Path.home())
    return text if home == Path.home().anchor else text.replace(home, "~")

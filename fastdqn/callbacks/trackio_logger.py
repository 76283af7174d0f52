"""Trackio: W&B's calls, on a local SQLite file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdqn.callbacks.logger import Logger


class TrackioLogger(Logger):
    """One Trackio run for each run, gone on with where that is resumed.

    ``TRACKIO_PROJECT`` names the project (else ``fastdqn``); the package's own variables decide on
    the rest (``TRACKIO_DIR``, ``TRACKIO_SPACE_ID``). ``trackio show`` opens the dashboard.
    """

    _run: Any = None

    def open(self, config: dict[str, Any]) -> None:
        """Begin, or go on."""
        import trackio

        before = self.remembered()
        name = before or self.run.run_dir.name
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "fastdqn"),
            name=name,
            config=config,
            resume="never" if before is None else "allow",
            embed=False,  # in a notebook it would open its dashboard
            auto_log_gpu=False,  # we log what the run takes
            auto_log_cpu=False,
        )
        self.remember(name)

    def log(self, figures: Mapping[str, float], env_steps: int) -> None:
        """Take figures."""
        self._run.log(dict(figures), step=env_steps)

    def film(self, path: Path, env_steps: int) -> None:
        """Keep a film."""
        import trackio

        self._run.log({"film": trackio.Video(str(path))}, step=env_steps)

    def close(self) -> None:
        """Write what is left."""
        import trackio

        if self._run is not None:
            trackio.finish()  # which also keeps it from being finished again at exit

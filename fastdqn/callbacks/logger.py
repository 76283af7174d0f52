"""What every service that a run is logged to has in common."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdqn.callbacks.callback import LiveRun
from fastdqn.callbacks.names import evaluation_figures, training_figures
from fastdqn.callbacks.system_figures import SystemFigures
from fastdqn.runs.directory import write_json
from fastdqn.system.bounded_json import read_object

_REMEMBERED = "loggers.json"


class Logger:
    """Takes what a run says to a service. A subclass overrides what the service can take.

    A subclass opens it in :meth:`open`, takes figures in :meth:`log`, and ends in :meth:`end` (all
    went well) or :meth:`close` (always, and last).
    """

    run: LiveRun
    ended = False  # whether the run came to its end

    def start(self, run: LiveRun) -> None:
        """Open the service for a run."""
        self.run = run
        self._system = SystemFigures(run.learner.device)
        self.open(json.loads(run.config.to_json()))

    def write(self, row: Mapping[str, float]) -> None:
        """A row of metrics.csv, with the step size and what the run takes of its machine."""
        env_steps = int(row["env_steps"])
        figures = training_figures(row) | self._system.read()
        figures["train/learning_rate"] = self.run.schedules.learning_rate(env_steps)
        self.log(figures, env_steps)

    def write_evaluation(self, row: Mapping[str, float]) -> None:
        """A row of evaluations.csv."""
        self.log(evaluation_figures(row), int(row["env_steps"]))

    def end(self, summary: Mapping[str, Any]) -> None:
        """The run is over, and all its files are written."""
        self.ended = True

    def open(self, config: dict[str, Any]) -> None:
        """Begin; ``config`` is that of ``self.run`` as plain values."""

    def log(self, figures: Mapping[str, float], env_steps: int) -> None:
        """Take finite figures by their names."""

    def film(self, path: Path, env_steps: int) -> None:
        """Take a film, .mp4 or .gif."""

    def close(self) -> None:
        """Nothing will follow."""

    def remembered(self) -> str | None:
        """What the service called this run before it was resumed."""
        name = read_object(self.run.run_dir / _REMEMBERED).get(type(self).__name__)
        return name if isinstance(name, str) and self.run.env_steps else None

    def remember(self, name: str) -> None:
        """What the service calls this run, for when it is resumed."""
        path = self.run.run_dir / _REMEMBERED
        with contextlib.suppress(OSError):  # a full disk costs no more than this
            write_json(path, {**read_object(path), type(self).__name__: name})

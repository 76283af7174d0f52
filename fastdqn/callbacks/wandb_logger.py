"""Weights & Biases."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastdqn.callbacks.logger import Logger


class WandbLogger(Logger):
    """One W&B run for each run, gone on with where that is resumed.

    The package's own variables decide on the rest: ``WANDB_PROJECT`` (else ``fastdqn``),
    ``WANDB_ENTITY``, ``WANDB_MODE`` (``offline``: files in the run's directory). Who is not logged
    in is not asked to be: the run would wait for an answer.
    """

    _run: Any = None

    def open(self, config: dict[str, Any]) -> None:
        """Begin, or go on."""
        import wandb

        before = self.remembered()
        with _no_questions():
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "fastdqn"),
                name=self.run.run_dir.name,
                config=config,
                dir=self.run.run_dir,
                id=before,
                resume=None if before is None else "allow",
                settings=wandb.Settings(console="off"),  # the terminal is the progress line's
            )
        self.remember(self._run.id)
        # Its own step may not go back, as that of a resumed run does.
        self._run.define_metric("*", step_metric="env_steps")

    def log(self, figures: Mapping[str, float], env_steps: int) -> None:
        """Take figures."""
        self._run.log({**figures, "env_steps": env_steps})

    def film(self, path: Path, env_steps: int) -> None:
        """Upload a film."""
        import wandb

        film = wandb.Video(str(path), format=path.suffix.removeprefix("."))  # type: ignore[arg-type]
        self._run.log({"film": film, "env_steps": env_steps})

    def end(self, summary: Mapping[str, Any]) -> None:
        """Leave what the run came to as its summary."""
        super().end(summary)
        self._run.summary.update(
            {name: x for name, x in summary.items() if isinstance(x, int | float | str)}
        )

    def close(self) -> None:
        """Upload what is left; without an end the run has failed."""
        if self._run is not None:
            self._run.finish(exit_code=0 if self.ended else 1)


@contextlib.contextmanager
def _no_questions() -> Iterator[None]:
    """As in a pipe: the package raises where it would ask for a key."""
    stdin, sys.stdin = sys.stdin, io.StringIO()
    try:
        yield
    finally:
        sys.stdin = stdin

"""A logger that may break without breaking the run."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastdqn.callbacks.callback import Callback, LiveRun
from fastdqn.callbacks.logger import Logger


class Guarded(Callback):
    """Somebody's logger: once it has raised it hears no more, and the run goes on.

    Args:
        logger: Theirs.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger: Logger | None = logger

    def on_start(self, run: LiveRun) -> None:
        """Hand it on."""
        self._try(lambda logger: logger.start(run))

    def on_log(self, row: Mapping[str, float]) -> None:
        """Hand it a row of its own."""
        self._try(lambda logger: logger.write(dict(row)))

    def on_evaluation(self, row: Mapping[str, float]) -> None:
        """Hand it a row of its own."""
        self._try(lambda logger: logger.write_evaluation(dict(row)))

    def on_film(self, path: Path, env_steps: int) -> None:
        """Hand it on."""
        self._try(lambda logger: logger.film(path, env_steps))

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """Hand it a summary of its own."""
        self._try(lambda logger: logger.end(dict(summary)))

    def close(self) -> None:
        """Close it, whatever it raises."""
        if self._logger is not None:
            with contextlib.suppress(Exception):
                self._logger.close()
        self._logger = None

    def _try(self, tell: Callable[[Logger], None]) -> None:
        if self._logger is None:
            return
        try:
            tell(self._logger)
        except Exception as error:
            name = type(self._logger).__name__
            self.close()
            why = " ".join(str(error).split()) or "no reason given"
            _warn(
                f"The logger {name} gets no more rows ({type(error).__name__}: {why}); the run "
                f"goes on, and metrics.csv has them."
            )


def _warn(sentence: str) -> None:
    try:
        warnings.warn(sentence, stacklevel=5)
    except Warning:  # the caller's filters make errors of warnings, and the run must not end
        with contextlib.suppress(OSError, ValueError):
            print(f"fastdqn: warning: {sentence}", file=sys.stderr, flush=True)

"""A logger that may break without breaking the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastdqn.callbacks.callback import Callback, LiveRun
from fastdqn.callbacks.logger import Logger
from fastdqn.system.faults import warn_safely


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
        """Close it; what it raises is said, for it may have kept the newest rows until now."""
        logger, self._logger = self._logger, None
        if logger is None:
            return
        try:
            logger.close()
        except Exception as error:
            warn_safely(
                f"The logger {type(logger).__name__} may lack the newest rows ({_why(error)}); "
                f"metrics.csv has them.",
                stacklevel=3,
            )

    def _try(self, tell: Callable[[Logger], None]) -> None:
        if self._logger is None:
            return
        try:
            tell(self._logger)
        except Exception as error:
            logger, self._logger = self._logger, None
            with contextlib.suppress(Exception):  # it is broken, and that is said
                logger.close()
            warn_safely(
                f"The logger {type(logger).__name__} gets no more rows ({_why(error)}); the run "
                f"goes on, and metrics.csv has them.",
                stacklevel=5,
            )


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"

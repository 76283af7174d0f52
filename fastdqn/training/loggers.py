"""Where the rows of a run go: metrics.csv first, then whatever else is listed."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from fastdqn.training.metrics_file import MetricsFile


class Logger(Protocol):
    """Takes rows: of metrics.csv, by the names of its columns."""

    def write(self, row: Mapping[str, float]) -> None:
        """One row; a figure that there was nothing to say about is missing or NaN."""
        ...

    def close(self) -> None:
        """No row will follow."""
        ...


class FileLogger:
    """A file of the run, whose disk may refuse rows for a while without ending the run.

    Args:
        file: Open.
        survived: Holds what the disk raises, under the file's name.
    """

    def __init__(
        self, file: MetricsFile, survived: Callable[[str], AbstractContextManager[object]]
    ) -> None:
        self._file, self._survived = file, survived

    def write(self, row: Mapping[str, float]) -> None:
        """Append it, after those that were refused before."""
        with self._survived(self._file.path.name):
            self._file.write(row)

    def flush(self) -> None:
        """Write what was refused before, and wait until all of it is on the disk."""
        with self._survived(self._file.path.name):
            self._file.flush()
            self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Guarded:
    """Somebody's logger: once it has raised it gets no more rows, and the run goes on.

    Args:
        logger: Theirs.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger: Logger | None = logger

    def write(self, row: Mapping[str, float]) -> None:
        """Hand it a row of its own."""
        if self._logger is None:
            return
        try:
            self._logger.write(dict(row))
        except Exception as error:
            name = type(self._logger).__name__
            self.close()
            why = " ".join(str(error).split()) or "no reason given"
            _warn(
                f"The logger {name} gets no more rows ({type(error).__name__}: {why}); the run "
                f"goes on, and metrics.csv has them."
            )

    def close(self) -> None:
        """Close it, whatever it raises."""
        if self._logger is not None:
            with contextlib.suppress(Exception):
                self._logger.close()
        self._logger = None


def _warn(sentence: str) -> None:
    try:
        warnings.warn(sentence, stacklevel=4)
    except Warning:  # the caller's filters make errors of warnings, and the run must not end
        with contextlib.suppress(OSError, ValueError):
            print(f"fastdqn: warning: {sentence}", file=sys.stderr, flush=True)

"""A file of rows that survives its disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from fastdqn.training.metrics_file import MetricsFile


class RowFile:
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

"""A CSV file that grows by whole rows, on a disk that may refuse them."""

from __future__ import annotations

import contextlib
import csv
import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastdqn.system.file_systems import replace, sync_file


class MetricsFile:
    """Rows of metrics.csv or evaluations.csv, on the disk at once, whole or not at all.

    A row that the disk refuses is kept, and written before the next one.

    Args:
        path: Where it lies.
        columns: Their names; ``env_steps`` is one of them.
        keep_until_env_steps: None starts anew; else rows after this are cut off, so that a
            resumed run goes on from its checkpoint. Of rows with other columns what fits is kept.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        keep_until_env_steps: int | None = None,
    ) -> None:
        self.path, self.columns = path, columns
        kept = [] if keep_until_env_steps is None else _read(path, keep_until_env_steps, columns)
        temporary = path.with_suffix(".csv.tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(kept)
        replace(temporary, path)
        self._file = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
        self._counts_links = os.fstat(self._file).st_nlink > 0  # some FUSE mounts always say 0
        self._unwritten = b""

    def write(self, row: Mapping[str, float]) -> None:
        """Append one row; names not given stay empty.

        Raises:
            OSError: Where the disk refuses; the file is as it was before.
        """
        values = [_text(row[name]) if name in row else "" for name in self.columns]
        self._unwritten += (",".join(values) + "\r\n").encode()  # numbers need no quotes
        self.flush()

    def flush(self) -> None:
        """Write the rows that the disk has refused before; OSError as :meth:`write`."""
        before = os.fstat(self._file)
        if before.st_nlink == 0 and (self._counts_links or not self.path.exists()):
            raise FileNotFoundError(errno.ENOENT, "it has been deleted", str(self.path))
        try:
            os.lseek(self._file, 0, os.SEEK_END)
            written = os.write(self._file, self._unwritten)
            if written < len(self._unwritten):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError:
            self._take_back(before.st_size)
            raise
        self._unwritten = b""

    def _take_back(self, size: int) -> None:
        try:
            os.ftruncate(self._file, size)
        except OSError:  # files only grow here: the rest of the row will follow what has arrived
            arrived = os.fstat(self._file).st_size - size
            self._unwritten = self._unwritten[max(0, arrived) :]

    def sync(self) -> None:
        """Wait until all rows are on the disk: a share may refuse here what it took before.

        Raises:
            OSError: Where it does.
        """
        sync_file(self.path, self._file)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            with contextlib.suppress(OSError):  # sync() says it
                os.close(self._file)
        self._file = -1


def _read(path: Path, until_env_steps: int, columns: Sequence[str]) -> list[dict[str, str]]:
    """Whole rows up to a step; a torn last line is dropped, and whatever else is no row."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.DictReader(line for line in file if line.endswith("\n")))
    return [
        {name: row.get(name, "") for name in columns}
        for row in rows
        if None not in row.values()  # too short
        and row.get("env_steps", "").isdecimal()
        and int(row["env_steps"]) <= until_env_steps
    ]


def _text(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if value != value else f"{value:.7g}"  # NaN: nothing to report yet

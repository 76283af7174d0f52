"""What a run reports: episode statistics kept on the device, and metrics.csv."""

from __future__ import annotations

import contextlib
import csv
import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.errors import CheckpointError
from fastdqn.system.file_systems import replace, sync_file
from fastdqn.system.staging import as_tensor
from fastdqn.types import Array, TimeStep

COLUMNS = (
    "env_steps",
    "updates",
    "episodes",
    "return_mean",
    "length_mean",
    "epsilon",
    "loss",
    "td_error_abs",
    "q_mean",
    "eval_return_mean",
    "env_steps_per_s",
    "frames_per_s",
    "updates_per_s",
    "wall_s",
)
EVALUATION_COLUMNS = (
    "env_steps",
    "updates",
    "wall_s",
    "episodes",
    "mean",
    "std",
    "median",
    "min",
    "max",
    "unfinished",
    "final",  # 1: of the run's end, on other episodes than those before
)
# Columns that differ between two runs of the same seed.
TIME_COLUMNS = ("env_steps_per_s", "frames_per_s", "updates_per_s", "wall_s")

_HOST = torch.device("cpu")


class EpisodeStatistics:
    """Raw returns and lengths of finished episodes, without a look at the host per step.

    An episode is over when a reset shows up, so losing a life is not an end. The sums live where
    the steps arrive: those of envs on the host cost the device nothing.

    Args:
        num_envs: N.
        window: Episodes in the means.
    """

    def __init__(self, num_envs: int, window: int) -> None:
        self.window = window
        self._size = max(window, num_envs)  # so that one step's episodes have distinct places
        self._current = torch.zeros((2, num_envs))  # return, length
        # The last place takes what is not an end, so that nothing depends on data.
        self._recent = torch.zeros((2, self._size + 1))
        self._counts = torch.zeros(2, dtype=torch.int64)  # episodes, reset rows

    @torch.no_grad()
    def add(self, step: TimeStep) -> None:
        """Take in one step, as the envs return it."""
        device = step.first.device if isinstance(step.first, Tensor) else _HOST
        if device != self._current.device:
            for name in ("_current", "_recent", "_counts"):
                setattr(self, name, getattr(self, name).to(device))
        if device.type == "cpu":
            reset = None if step.reset is None else _as_numpy(step.reset)
            with np.errstate(all="ignore"):  # NaN and inf are looked for later
                self._add_on_host(_as_numpy(step.first), _as_numpy(step.reward), reset)
        else:
            self._add(as_tensor(step.first), as_tensor(step.reward), step.reset)

    def _add_on_host(self, first: np.ndarray, reward: np.ndarray, reset: np.ndarray | None) -> None:
        """The same as :meth:`_add`; free to look, and an operation of numpy costs half as much."""
        returns, lengths = current = self._current.numpy()
        if first.any():
            self._finish_on_host(current, first & (lengths > 0))
            self._counts.numpy()[1] += np.count_nonzero(first)
            returns += np.where(first, np.float32(0), reward)
            lengths += ~first
        else:
            returns += reward
            lengths += 1
        if reset is not None:
            self._finish_on_host(current, reset)

    def _finish_on_host(self, current: np.ndarray, over: np.ndarray) -> None:
        (ended,) = over.nonzero()
        if not len(ended):
            return
        finished, counts = current[:, ended], self._counts.numpy()
        places = (np.arange(len(ended)) + counts[0]) % self._size
        self._recent.numpy()[:, places] = finished
        counts[0] += len(ended)
        current[:, ended] = finished * 0

    def _add(self, first: Tensor, reward: Tensor, reset: Array | None) -> None:
        # A reset right after a reset ends no episode.
        self._finish(first & (self._current[1] > 0))
        self._counts[1].add_(first.sum())
        self._current[0].add_(torch.where(first, 0.0, reward))
        self._current[1].add_(~first)
        if reset is not None:
            self._finish(as_tensor(reset))

    def _finish(self, over: Tensor) -> None:
        place = (self._counts[0] + over.cumsum(0) - 1) % self._size
        self._recent.index_copy_(1, torch.where(over, place, self._size), self._current)
        self._counts[0].add_(over.sum())
        self._current.mul_(~over)

    def rewards_are_finite(self) -> bool:
        """Whether every reward so far was a number; NaN and inf stay in the running sums.

        For the sums are cleared by a product, and 0 * inf is NaN. Waits for the device.
        """
        return bool(torch.isfinite(self._current[0]).all())

    def read(self) -> tuple[int, int, float, float]:
        """Episodes, reset rows, and mean return and length of the last ``window`` episodes.

        The means are NaN before the first end. Waits for the device.
        """
        episodes, reset_rows = self._counts.tolist()
        count = min(episodes, self.window)
        if count == 0:
            return episodes, reset_rows, float("nan"), float("nan")
        places = torch.arange(episodes - count, episodes, device=self._recent.device) % self._size
        returns, lengths = self._recent[:, places].double().mean(dim=1).tolist()
        return episodes, reset_rows, returns, lengths

    def state_dict(self) -> dict[str, Any]:
        """Running and finished episodes."""
        return {"current": self._current, "recent": self._recent, "counts": self._counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; CheckpointError where a shape is another."""
        for name, tensor in self.state_dict().items():
            if state[name].shape != tensor.shape:
                raise CheckpointError(
                    "The saved episode statistics belong to another num_envs or stop_window; "
                    "use the configuration they were saved with."
                )
            tensor.copy_(state[name])

    def forget_running(self) -> None:
        """Drop running episodes: after a resume whose envs start anew."""
        self._current.zero_()


class FiniteFrames:
    """Whether every observation so far was finite, kept where they arrive; bytes always are."""

    def __init__(self) -> None:
        self._zeros: Tensor | None = None  # [N, *O]: the sum of 0 * x, which NaN and inf spoil

    def add(self, step: TimeStep) -> None:
        """Take in one step: one elementwise operation per array of floats."""
        for array in (step.observation, step.reset_observation):
            if array is None or not (frames := as_tensor(array)).is_floating_point():
                continue
            if self._zeros is None:
                self._zeros = torch.zeros_like(frames)
            self._zeros.add_(frames, alpha=0.0)

    def are_finite(self) -> bool:
        """The answer; waits for the device."""
        return self._zeros is None or bool(torch.isfinite(self._zeros).all())


class MetricsFile:
    """Rows of metrics.csv or evaluations.csv, on the disk at once, whole or not at all.

    A row that the disk refuses is kept, and written before the next one.

    Args:
        path: Where it lies.
        keep_until_env_steps: None starts anew; else rows after this are cut off, so that a
            resumed run goes on from its checkpoint.
        columns: Their names; ``env_steps`` is one of them.
    """

    def __init__(
        self,
        path: Path,
        keep_until_env_steps: int | None = None,
        columns: Sequence[str] = COLUMNS,
    ) -> None:
        self.path, self.columns = path, columns
        kept = [] if keep_until_env_steps is None else _read(path, keep_until_env_steps, columns)
        temporary = path.with_suffix(".csv.tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(kept)
        replace(temporary, path)
        self._file = os.open(path, os.O_WRONLY)
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


def _as_numpy(array: Array) -> np.ndarray:
    return array.numpy() if isinstance(array, Tensor) else array


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

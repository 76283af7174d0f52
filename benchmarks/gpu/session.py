"""What a stage works with: the device, the time that is left, a place for what it finds."""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.stage_file import FINISHED, RUNNING, StageFile
from benchmarks.gpu.timing import Times, kernels_of, time_workload, times
from fastdqn.bench.context import Context
from fastdqn.bench.harness import Timing
from fastdqn.bench.workload import UnavailableError, Workload

_NEEDED_S = 8.0  # no entry is begun with less


class DeviceLostError(Exception):
    """The process can do nothing more on the device; a new one can."""


class Session:
    """One run of a stage, in its process.

    Args:
        path: The stage's file; written after every entry.
        ends: When the process is ended from outside, by ``time.monotonic()``.
        smoke: Tiny sizes, on any device.
        retry: Whether what failed before is tried again.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(
        self, path: Path, ends: float, *, smoke: bool, retry: bool, device: str = "auto"
    ) -> None:
        self._ends = ends
        self.file = StageFile(path)
        self.smoke = smoke
        self.context = Context(device, smoke=smoke)
        self.device = self.context.device
        self.on_cuda = self.device.type == "cuda"
        if smoke:  # two threads beside a busy process slow convolutions down tens of times
            torch.set_num_threads(1)
        self._began, self._before_s = time.monotonic(), self.file.record["wall_s"]
        self.file.record["left_out"] = {}
        if retry:
            self.file.record["errors"] = {}
        self._save(RUNNING)

    def left(self) -> float:
        """Seconds."""
        return self._ends - time.monotonic()

    @property
    def entries(self) -> dict[str, Any]:
        """What was found, by key."""
        entries: dict[str, Any] = self.file.record["entries"]
        return entries

    def keep(self, key: str, value: Any) -> None:
        """Note an entry; once more to bring it up to date."""
        self.entries[key] = value
        self._save(RUNNING)
        print(key, value, flush=True)

    def measure(
        self, key: str, find: Callable[[], Any], *, needs_s: float = _NEEDED_S
    ) -> Any | None:
        """Find an entry, unless it is known already or failed; one that fails stops no other.

        Args:
            key: Its name.
            find: Gives its value, ready for JSON.
            needs_s: With less time left it is left out, and the stage is not finished.

        Returns:
            The value, or None where there is none.

        Raises:
            DeviceLostError: Where nothing more can be done in this process.
        """
        record = self.file.record
        if key in self.entries or key in record["errors"]:
            return self.entries.get(key)
        if self.left() < needs_s:
            record["left_out"][key] = f"{max(0.0, self.left()):.0f} s left"
            self._save(RUNNING)
            return None
        try:
            self.keep(key, find())
        except Exception as error:
            if isinstance(error, UnavailableError):  # nothing is wrong, and nothing is measured
                self.keep(key, {"unavailable": str(error)})
                return None
            traceback.print_exc()
            self.fail(key, repr(error)[:500])
            self._require_device(error)
        finally:
            self._free()
        return self.entries.get(key)

    def _free(self) -> None:
        """Captured graphs keep memory of their own, in cycles of references."""
        gc.collect()
        if self.on_cuda:
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()

    def fail(self, key: str, why: str) -> None:
        """Note what went wrong."""
        self.file.record["errors"][key] = why
        self._save(RUNNING)
        print(f"{key} failed: {why}", flush=True)

    def time(
        self, call: Callable[[], object], *, units: int = 1, seconds: float = 0.4,
        host_clock: bool = False,
    ) -> Times:  # fmt: skip
        """Microseconds per unit of a call that does so many; ``host_clock`` as of a Workload."""

        def run(repeats: int) -> None:
            for _ in range(repeats):
                call()

        workload = Workload(
            run=run, check=lambda: None, unit="call", units=units, host_clock=host_clock
        )
        return self.time_workload(workload, seconds=seconds)

    def time_workload(self, workload: Workload, *, seconds: float = 0.4) -> Times:
        """Check it, then time it; closes it."""
        return times(self.timing(workload, seconds=seconds))

    def timing(self, workload: Workload, *, seconds: float) -> Timing:
        """As :meth:`time_workload`, with windows and repeats."""
        return time_workload(workload, self.device, seconds=seconds, smoke=self.smoke)

    def kernels(self, call: Callable[[], object]) -> dict[str, Any] | None:
        """What one call launches, see :func:`kernels_of`; None without a GPU.

        Where the machine does not let itself be profiled, times are kept all the same.
        """
        try:
            return kernels_of(call) if self.on_cuda else None
        except Exception as error:
            self._require_device(error)
            return {"unavailable": repr(error)[:200]}

    def end(self) -> None:
        """Note that the stage came to its end."""
        left_out = self.file.record["left_out"]
        self._save(f"{len(left_out)} left out for want of time" if left_out else FINISHED)

    def _save(self, status: str) -> None:
        wall_s = self._before_s + time.monotonic() - self._began
        self.file.record.update(status=status, wall_s=round(wall_s, 1))
        self.file.save()

    def _require_device(self, error: Exception) -> None:
        """A fault in a kernel stays: every later call of the process fails as well."""
        if not self.on_cuda:
            return
        try:
            torch.cuda.synchronize(self.device)
            torch.zeros(1, device=self.device).add_(1).item()
        except RuntimeError:
            raise DeviceLostError(str(error)[:200]) from error

"""What every measured process shares: its arguments, its clock, the one line it prints.

Imports neither fastdqn nor torch at the top: it runs in the peers' environment as well.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

MARK = "RESULT "
_PACKAGES = (
    "torch", "numpy", "gymnasium", "ale-py", "tensordict", "torchrl", "torchrl-nightly",
    "stable-baselines3", "tianshou", "cpprb", "numba", "opencv-python-headless",
)  # fmt: skip
WINDOWS = 5
WARM_SHARE = 0.25  # of the time that the windows take
MALLOC = "+ malloc"  # glibc keeps freed memory: see keep_freed_memory
RATIO_TOLERANCE = 0.02
TURNS = "FASTDQN_PEERS_TURNS"  # how many windows a training loop is measured in; see Pace


@dataclass(frozen=True)
class Work:
    """What one process is asked to do."""

    row: str
    variant: str
    seconds: float  # of steady state
    device: str
    threads: int
    size: float  # 1.0 is the real thing; less shrinks what is filled before measuring

    def scaled(self, count: int, least: int = 1) -> int:
        """``count`` at full size, fewer in a short run."""
        return max(least, int(count * self.size))


def start(main: Callable[[Work], Mapping[str, Any]]) -> None:
    """Parse the arguments, run ``main`` and print its result as one line of JSON.

    Args:
        main: Returns ``values``, {row: number} or {row: {suffix of the label: number}}, and
            whatever else is worth keeping.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("row")
    parser.add_argument("--variant", default="")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=float, default=1.0)
    work = Work(**vars(parser.parse_args()))
    import torch

    torch.set_num_threads(work.threads)
    result = dict(main(work))
    result["values"] = {
        row: value if isinstance(value, dict) else {"": value}
        for row, value in result["values"].items()
    }
    result.setdefault("torch_threads", torch.get_num_threads())
    result["versions"] = versions()
    print(MARK + json.dumps(result), flush=True)


def versions() -> dict[str, str]:
    """Of every package here that a result may depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class Pace:
    """Steady speed of a training loop: counts from the first tick after warming up.

    With several turns the process stops itself (SIGSTOP) when it is warm and after each window, and
    goes on when its turn comes (SIGCONT), so that loops can be compared within a second or two of
    each other although each takes long to start.

    Args:
        seconds: How long to count.
        period: Env steps per update that the loop is meant to keep.
        warm_updates: Updates to make before counting starts.
        slack_updates: By how many updates the two ends of the count may be out of step.
        now: The clock.
    """

    def __init__(
        self,
        seconds: float,
        period: float,
        *,
        warm_updates: int,
        slack_updates: int = 1,
        now: Callable[[], float] = time.perf_counter,
        turns: int | None = None,
    ) -> None:
        self.seconds, self.period = seconds, period
        self.warm_updates, self.slack_updates = warm_updates, slack_updates
        self._now = now
        self._first: tuple[float, int, int] | None = None
        self._last: tuple[float, int, int] | None = None
        self.turns = int(os.environ.get(TURNS, "1")) if turns is None else turns
        self._windows: list[tuple[float, int, int]] = []  # seconds, env steps, updates

    @property
    def counting(self) -> bool:
        """Whether the loop is warm."""
        return self._first is not None

    def tick(self, env_steps: int, updates: int) -> bool:
        """Take note of both totals; whether the time is up."""
        here = (self._now(), env_steps, updates)
        if self._first is None:
            if updates >= self.warm_updates:
                self._first = (self._wait_for_turn(), env_steps, updates)
            return False
        self._last = here
        if here[0] - self._first[0] < self.seconds:
            return False
        self._end_window()
        if len(self._windows) == self.turns:
            return True
        self._first, self._last = (self._wait_for_turn(), env_steps, updates), None
        return False

    def _end_window(self) -> None:
        assert self._first is not None and self._last is not None
        elapsed, steps, updates = (b - a for a, b in zip(self._first, self._last, strict=True))
        self._windows.append((elapsed, int(steps), int(updates)))

    def _wait_for_turn(self) -> float:
        """The time when it has come."""
        if self.turns > 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return self._now()

    def result(self) -> dict[str, Any]:
        """Counts and speeds; RuntimeError where the replay ratio is off by more than 2 %."""
        if not self._windows:
            if self._last is None:
                raise RuntimeError("the loop ended before it was warm")
            self._end_window()
        elapsed, env_steps, updates = (sum(column) for column in zip(*self._windows, strict=True))
        expected = env_steps / self.period
        if abs(updates - expected) > max(RATIO_TOLERANCE * expected, self.slack_updates):
            raise RuntimeError(
                f"{updates} updates in {env_steps} env steps, not one per {self.period:g}"
            )
        return {
            "env_steps": env_steps,
            "updates": updates,
            "seconds": round(elapsed, 3),
            "env_steps_per_update": round(env_steps / max(1, updates), 3),
            "env_steps_per_s": env_steps / elapsed,
            "updates_per_s": updates / elapsed,
            "windows_env_steps_per_s": [steps / seconds for seconds, steps, _ in self._windows],
        }


def call_s(function: Callable[[], object], seconds: float, device: str = "cpu") -> float:
    """Seconds per call: the median of five windows that take ``seconds`` together."""
    return interleaved_s({"": function}, seconds, device)[""]


def interleaved_s(
    functions: Mapping[str, Callable[[], object]], seconds: float, device: str = "cpu"
) -> dict[str, float]:
    """Seconds per call of each function: medians of five windows taken in turn.

    Args:
        functions: By name; called until warm first.
        seconds: Of all windows of one function together.
        device: Waited for at both ends of a window.
    """
    wait = synchronize(device)
    counts, found = {}, {name: [] for name in functions}  # type: ignore[var-annotated]
    for name, function in functions.items():
        # For a while: glibc, page tables and caches settle over many calls of a large gather.
        calls, began = 0, time.perf_counter()
        while calls < 3 or time.perf_counter() - began < WARM_SHARE * seconds:
            function()
            calls += 1
        wait()
        began = time.perf_counter()
        function()
        wait()
        once = max(time.perf_counter() - began, 1e-7)
        counts[name] = max(1, int(seconds / WINDOWS / once))
    for _ in range(WINDOWS):
        for name, function in functions.items():
            wait()
            began = time.perf_counter()
            for _ in range(counts[name]):
                function()
            wait()
            found[name].append((time.perf_counter() - began) / counts[name])
    return {name: statistics.median(times) for name, times in found.items()}


def synchronize(device: str) -> Callable[[], None]:
    """What waits for the device."""
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    return torch.cuda.synchronize


def keep_freed_memory() -> None:
    """What MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ do, from within (glibc)."""
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(-3, 32 * 1024**2)
    mallopt(-1, 2**31 - 1)


def resident_bytes() -> int:
    """Memory that this process holds (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

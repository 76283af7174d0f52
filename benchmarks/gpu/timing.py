"""Times and launches of single calls, by the bench's own harness and torch's profiler."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import torch

from fastdqn.bench.harness import Timing, measure
from fastdqn.bench.timer import DeviceTimer
from fastdqn.bench.workload import Workload

Times = dict[str, float]
"""``us``: median microseconds per unit over the windows; ``p10`` and ``p90`` of them."""

_KERNELS_NAMED = 25
_NAME_LENGTH = 70


def time_workload(
    workload: Workload, device: torch.device, *, seconds: float, smoke: bool
) -> Timing:
    """Check a workload, time it and close it.

    Args:
        workload: As a case of the bench makes it.
        device: Where it runs.
        seconds: For its windows; as much again goes into warming up and the rest.
        smoke: Two windows of one repeat.
    """
    threads = torch.get_num_threads()
    try:
        if workload.threads is not None:
            torch.set_num_threads(workload.threads)
        workload.check()
        return measure({"it": workload}, DeviceTimer(device), seconds=seconds, smoke=smoke)["it"]
    finally:
        torch.set_num_threads(threads)
        workload.close()


def times(timing: Timing) -> Times:
    """A timing, ready for JSON."""
    found = {"us": timing.median, "p10": timing.p10, "p90": timing.p90}
    return {name: round(value, 2) for name, value in found.items()}


def kernels_of(call: Callable[[], object]) -> dict[str, Any]:
    """What one call launches on the GPU; the profiler sees into captured graphs.

    Returns:
        ``launches``, kernels and copies; ``busy_us``, the sum of what they took; ``top``, by name,
        how many and microseconds.
    """
    call()
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        call()
        torch.cuda.synchronize()
    launches: collections.Counter[str] = collections.Counter()
    busy: collections.Counter[str] = collections.Counter()
    for event in profiler.events() or ():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            name = event.name[:_NAME_LENGTH]
            launches[name] += 1
            busy[name] += event.device_time  # type: ignore[assignment]
    return {
        "launches": sum(launches.values()),
        "busy_us": round(sum(busy.values()), 1),
        "top": [[n, launches[n], round(us, 1)] for n, us in busy.most_common(_KERNELS_NAMED)],
    }

"""The two clocks: CUDA events where the device works alone, the host's where both do."""

from __future__ import annotations

import time

import torch

from fastdqn.bench.workload import Workload


class DeviceTimer:
    """Seconds of so many repeats of a workload, with its own number of CPU threads.

    Args:
        device: Where the workloads run.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, workload: Workload, repeats: int) -> float:
        """Run and time; the device is idle before and after."""
        if workload.threads is not None and workload.threads != torch.get_num_threads():
            torch.set_num_threads(workload.threads)
        if self.device.type != "cuda":
            began = time.perf_counter()
            workload.run(repeats)
            return time.perf_counter() - began
        torch.cuda.synchronize(self.device)
        if workload.host_clock:
            began = time.perf_counter()
            workload.run(repeats)
            torch.cuda.synchronize(self.device)
            return time.perf_counter() - began
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        workload.run(repeats)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

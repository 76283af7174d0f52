"""Functions side by side on CUDA streams, one after another on a CPU.

At batch 32 a convolution of the Nature network fills fewer than 100 of an H100's 132
multiprocessors, so three forwards that do not depend on each other can share it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Fork:
    """Forks from the current stream and joins it again; also within a capture.

    Inside a capture the events become edges of the graph, and the branches must be joined before
    it ends: they are, here.

    No tensor needs ``record_stream``. What a branch reads is freed after the join, to the stream
    that made it. What a branch returns is freed to the branch's stream, whose next work starts with
    a wait for everything that this stream had been given by then, the readers included.

    Args:
        device: Where the functions run.
        branches: How many, the current stream's included.
    """

    def __init__(self, device: torch.device, branches: int) -> None:
        on_cuda = device.type == "cuda"
        self._streams = [torch.cuda.Stream(device) for _ in range(branches - 1)] if on_cuda else []

    def __call__(self, *functions: Callable[[], Any]) -> list[Any]:
        """Run them, the first on the current stream; their results in the same order."""
        if not self._streams:
            return [function() for function in functions]
        here = torch.cuda.current_stream()
        forked = here.record_event()
        results = []
        for stream, function in zip(self._streams, functions[1:], strict=True):
            stream.wait_event(forked)
            with torch.cuda.stream(stream):
                results.append(function())
        results.insert(0, functions[0]())
        for stream in self._streams:
            here.wait_event(stream.record_event())
        return results

"""What a process has once, put back: a run sets it up as it needs it, and leaves no trace.

Not among it is what cannot be undone (``keep_freed_memory`` of the host), which only the command
line asks for, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from fastdqn.system.default_generators import DefaultGenerators


@contextmanager
def torch_as_before(device: torch.device) -> Iterator[None]:
    """Put back threads, denormals, determinism, cuDNN's benchmark, generators, current device.

    Threads and denormals are this thread's own, so leave in the thread that entered.

    Args:
        device: Where the work is; CUDA becomes the current device.
    """
    threads, flushes = torch.get_num_threads(), flushes_denormals()
    benchmark, deterministic = torch.backends.cudnn.benchmark, _determinism()
    with ExitStack() as stack:
        if device.type == "cuda":  # streams, events and captures go to the current device
            stack.enter_context(torch.cuda.device(device))
        stack.enter_context(DefaultGenerators(device).put_back())
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_flush_denormal(flushes)
            torch.backends.cudnn.benchmark = benchmark
            if _determinism() != deterministic:  # setting it sets Inductor's own, too
                torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])


def _determinism() -> tuple[bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def flush_denormals() -> None:
    """Have this thread take denormal numbers for 0, for they are slow; not every CPU can."""
    # NumPy below 2.4 would warn of it, were these first asked for later. It keeps what it finds.
    for dtype in (np.float32, np.float64):
        np.finfo(dtype)
    torch.set_flush_denormal(True)


def flushes_denormals() -> bool:
    """Whether this thread takes denormal numbers for 0: torch has no getter."""
    return float(torch.tensor(1e-38) * 0.1) == 0.0

"""The one place that compiles and captures.

Everything else is written eager. ``eager`` runs it as it is; ``compile`` compiles the pure part of
the update (batch and parameters in, gradients out); ``graph`` compiles it and captures a whole
step in a CUDA graph. What varies between steps must then be a tensor at a fixed address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from fastdqn.errors import ConfigError

WARMUP_STEPS = 3  # cuBLAS workspaces, cuDNN's choice of algorithms and Triton come in the first two


def resolve_mode(mode: str, device: torch.device) -> str:
    """``auto`` is graph on CUDA and eager elsewhere: a CPU run repays no minute of compiling."""
    if mode == "auto":
        return "graph" if device.type == "cuda" else "eager"
    if mode == "graph" and device.type != "cuda":
        raise ConfigError(
            f"mode = 'graph' needs a CUDA device, not {device.type}; use 'compile' or 'eager'."
        )
    if mode not in ("eager", "compile", "graph"):
        raise ConfigError(f"mode = {mode!r} must be one of auto, eager, compile, graph.")
    return mode


def compile_pure(function: Callable[..., Any], mode: str, backend: str = "inductor") -> Any:
    """``function`` compiled whole, with the calls of autograd inside it, unless mode is eager."""
    if mode == "eager":
        return function
    compiled = torch.compile(function, fullgraph=True, dynamic=False, backend=backend)

    def call(*args: Any) -> Any:
        # Forward, loss and backward become one graph without an autograd boundary between them.
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            return compiled(*args)

    return call


class CapturedStep:
    """A step without arguments or host decisions, captured once and replayed.

    Args:
        step: The work; returns tensors, which each replay overwrites.
        state: Every tensor the step changes: warming up must not train, so they are put back.
        generators: Every random generator it draws from.
    """

    def __init__(
        self,
        step: Callable[[], tuple[Tensor, ...]],
        state: Iterable[Tensor],
        generators: Iterable[torch.Generator],
    ) -> None:
        generators = list(generators)
        state = list(state)
        saved = [tensor.clone() for tensor in state]
        offsets = [generator.get_state() for generator in generators]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARMUP_STEPS):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.outputs = step()
        for tensor, before in zip(state, saved, strict=True):
            tensor.copy_(before)
        for generator, before in zip(generators, offsets, strict=True):
            generator.set_state(before)

    def __call__(self) -> tuple[Tensor, ...]:
        """Run the step; the tensors returned are borrowed until the next call."""
        self.graph.replay()
        return self.outputs

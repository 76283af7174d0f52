"""The one place that compiles and captures.

Everything else is written eager. ``eager`` runs it as it is; ``compile`` compiles the pure part of
the update (batch and parameters in, gradients out); ``graph`` compiles it and captures a whole
step in a CUDA graph. What varies between steps must then be a tensor at a fixed address.
"""

from __future__ import annotations

import gc
import os
import shutil
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._triton import has_triton

from fastdqn.errors import ConfigError

_T = TypeVar("_T")

UPDATES_WORTH_COMPILING = 200_000  # on a CPU, where an update takes about a millisecond
WARMUP_STEPS = 3  # cuBLAS workspaces, cuDNN's choice of algorithms and Triton come in the first two


def resolve_mode(
    mode: str,
    device: torch.device,
    *,
    convolves: bool = False,
    updates: int | None = None,
    backend: str = "inductor",
) -> str:
    """What ``auto`` stands for, if that is the mode.

    On CUDA graph. On a CPU compile, if that repays: for networks without convolutions, which gain
    a fifth to a third, in runs so long that some ten seconds of compiling are little of it.

    Args:
        mode: ``auto``, ``eager``, ``compile`` or ``graph``.
        device: Where the updates run.
        convolves: Whether the network has convolutions.
        updates: How many are to be expected, if that is known.
        backend: Of torch.compile.

    Raises:
        ConfigError: Where the mode is not possible here.
    """
    if not isinstance(mode, str) or mode not in ("auto", "eager", "compile", "graph"):
        raise ConfigError(f"mode = {mode!r} must be one of auto, eager, compile, graph.")
    if mode == "graph" and device.type != "cuda":
        raise ConfigError(
            f"mode = 'graph' needs a CUDA device, not {device.type}; use 'compile' or 'eager'."
        )
    if mode == "auto" and device.type == "cpu":
        long = not convolves and updates is not None and updates >= UPDATES_WORTH_COMPILING
        return "compile" if long and has_cpp_compiler() else "eager"
    inductor_on_cpu = mode == "compile" and device.type == "cpu" and backend == "inductor"
    if inductor_on_cpu and not has_cpp_compiler():
        raise ConfigError(
            "mode = 'compile' needs a C++ compiler (c++, g++ or clang++), which is not here; "
            "install one, or use mode = 'eager'."
        )
    if mode == "eager" or device.type != "cuda":
        return "eager" if mode == "auto" else mode
    missing = _missing_for_triton()
    if missing and mode != "auto":
        raise ConfigError(
            f"mode = {mode!r} needs {missing}, which is not here; use mode = 'eager'."
        )
    if missing:
        warnings.warn(f"Without {missing} updates run eager, several times slower.", stacklevel=2)
        return "eager"
    return "graph" if mode == "auto" else mode


def check_backend(backend: Any) -> None:
    """Refuse, by a ConfigError, what torch.compile takes for no backend."""
    if not isinstance(backend, str) and (isinstance(backend, type) or not callable(backend)):
        raise ConfigError(
            f"compile_backend is {type(backend).__name__}; use 'inductor', or pass a function."
        )


def has_cpp_compiler() -> bool:
    """Whether Inductor can compile for a CPU."""
    return any(map(shutil.which, ("c++", "g++", "clang++")))


def _missing_for_triton() -> str | None:
    """What compiling for CUDA lacks; it would show only at the first update, after the filling."""
    if not has_triton():
        return "Triton"
    compilers = (os.environ.get("CC", "cc"), "gcc", "clang")
    return None if any(map(shutil.which, compilers)) else "a C compiler"


def compile_pure(
    function: Callable[..., Any],
    mode: str,
    backend: str = "inductor",
    *,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """``function`` compiled whole, with the calls of autograd inside it, unless mode is eager.

    It is compiled at the first call, and again where something has changed on which the compiled
    code depends: shapes, strides, dtypes, grad mode, threads, determinism.

    Args:
        function: Of tensors; what else it reads is constant, or compiled for anew.
        mode: ``eager`` returns ``function`` itself.
        backend: Of torch.compile.
        options: Of Inductor, by name.

    Raises:
        ConfigError: By the compiled function, where it cannot be compiled.
    """
    if mode == "eager":
        return function
    chosen = dict(options or {}) if backend == "inductor" else None
    compiled = torch.compile(
        function, fullgraph=True, dynamic=False, backend=backend, options=chosen or None
    )
    called = False

    def call(*args: Any) -> Any:
        nonlocal called
        # Changing Dynamo's settings takes as long as a small network's forward, so only where
        # something is to be compiled. Whether it is, Dynamo alone knows: without the settings it
        # refuses, before anything has run.
        if called:
            try:
                return compiled(*args)
            except Exception as error:
                if not _is_dynamos(error):
                    raise
        with torch._dynamo.config.patch(_DYNAMO), warnings.catch_warnings():
            # Advice on TF32, which would change the float32 results that are asked for.
            warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
            try:
                result = compiled(*args)
            except Exception as error:
                if not _is_dynamos(error):
                    raise
                raise ConfigError(
                    f"mode = {mode!r} cannot compile this ({_reason(error)}); use mode = 'eager', "
                    f"or change what the network does there."
                ) from error
        called = True
        return result

    return call


# Forward, loss and backward become one graph without an autograd boundary between them. The limits
# count over all learners of a process, and fullgraph makes them errors.
_DYNAMO = {
    "trace_autograd_ops": True,
    "recompile_limit": 256,
    "accumulated_recompile_limit": 1024,
}


def _is_dynamos(error: Exception) -> bool:
    """Whether Dynamo, or a backend under it, refused to compile; nothing has run then."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    return isinstance(error, (TorchDynamoException, FailOnRecompileLimitHit))


def _reason(error: BaseException) -> str:
    """One line of an error that has many, and others within."""
    from torch._dynamo.exc import FailOnRecompileLimitHit

    if isinstance(error, FailOnRecompileLimitHit):
        limit = _DYNAMO["recompile_limit"]
        return f"it has been compiled {limit} times, for other shapes and layouts each time"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.endswith(":")]
    return (telling or lines or [type(error).__name__])[0].rstrip(".")


def compile_fixed(
    function: Callable[..., tuple[Tensor, ...]], arguments: Sequence[Tensor]
) -> Callable[..., Sequence[Tensor]]:
    """``function`` compiled for arguments like these, and for nothing else.

    ``torch.compile`` asks before each call whether all that it has seen still holds, which takes
    longer than a small function. Here nothing is asked: the caller keeps to the shapes, types,
    strides and device of ``arguments``, and what else the function has read stays as it was.

    Args:
        function: Pure, of tensors alone. A decision of the host about their values raises.
        arguments: Examples; they are not kept.
    """
    from torch._inductor import compile as compile_graph
    from torch.fx.experimental.proxy_tensor import make_fx

    # Copies: one tensor given twice would be traced as one argument.
    examples: list[Any] = [tensor.clone() for tensor in arguments]
    with torch.no_grad():
        graph = make_fx(function)(*examples)
        compiled: Callable[..., Sequence[Tensor]] = compile_graph(graph, examples)
    return compiled


def weakly(function: Callable[..., _T], first: Any, *rest: Any) -> Callable[[], _T]:
    """``function(first, *rest)`` to be called without arguments, which does not keep ``first``."""
    here = weakref.ref(first)
    return lambda: function(here(), *rest)


class CapturedStep:
    """A step without arguments or host decisions, captured once and replayed.

    Args:
        step: The work; returns tensors, which each replay overwrites.
        state: Every tensor the step changes: warming up must not train, so they are put back
            after each run. What the next run overwrites whole may be left out.
        generators: Every random generator it draws from, beside the device's default one.
        device: Where all of it lives.
    """

    def __init__(
        self,
        step: Callable[[], tuple[Tensor, ...]],
        state: Sequence[Tensor],
        generators: Sequence[torch.Generator],
        device: torch.device,
    ) -> None:
        drawn_from = [*generators, torch.cuda.default_generators[device.index]]
        with torch.cuda.device(device):
            stream = _warmup_stream(device)
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARMUP_STEPS):
                    with unchanged(state, drawn_from):
                        step()
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            for generator in generators:
                self.graph.register_generator_state(generator)
            with (
                no_collection(),
                torch.cuda.graph(self.graph, capture_error_mode="thread_local"),
            ):
                self.outputs = step()

    def __call__(self) -> tuple[Tensor, ...]:
        """Run the step; the tensors returned are borrowed until the next call."""
        self.graph.replay()
        return self.outputs


@cache
def _warmup_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all: torch hands out 32 in turn, and cuBLAS keeps a workspace for each one used."""
    return torch.cuda.Stream(device)


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect garbage now, and not inside.

    An old graph or pinned block that goes while another graph is captured would ask the driver what
    it may not be asked then.
    """
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def unchanged(state: Iterable[Tensor], generators: Iterable[torch.Generator]) -> Iterator[None]:
    """Put tensors and generators back as they were, in place, whatever happens inside."""
    tensors = [(tensor, tensor.clone()) for tensor in state]
    streams = [(generator, generator.get_state()) for generator in generators]
    try:
        yield
    finally:
        for tensor, before in tensors:
            tensor.copy_(before)
        for generator, offset in streams:
            generator.set_state(offset)

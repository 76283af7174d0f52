"""An H100 that is not here: what torch, Inductor and Triton ask of a driver, answered.

All of it is patched into the process and stays: import nothing of the project before, and start
another process for anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._device import _device_constructors

from benchmarks.speed.launches import autograd, inductor
from benchmarks.speed.launches.watch import WATCH, Graph

CUDA = torch.device("cuda", 0)
_GIB = 2**30
_H100 = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 * _GIB,
    warp_size=32,
    regs_per_multiprocessor=65_536,
    max_threads_per_multi_processor=2_048,
    max_threads_per_block=1_024,
    shared_memory_per_block=49_152,
    shared_memory_per_block_optin=232_448,
    shared_memory_per_multiprocessor=233_472,
    L2_cache_size=50 * 2**20,
    clock_rate=1_980_000,
    memory_clock_rate=2_619_000,
    memory_bus_width=5_120,
)


class _Stream:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def wait_stream(self, stream: _Stream) -> None:
        pass

    def wait_event(self, event: _Event) -> None:
        pass

    def synchronize(self) -> None:
        WATCH.wait()


class _Event:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def record(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        WATCH.wait()


class _Generator(torch.Generator):
    """Of the device by name; draws nothing."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made = super().__new__(cls, "cpu")
        made.named = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.named


def install() -> None:
    """Let this process believe in the H100. Call it before anything of fastdqn is imported."""
    if torch.version.cuda is None:
        raise SystemExit("This needs a CUDA build of torch, e.g. the one on PyPI for Linux.")
    _patch_torch()
    _patch_constructors()
    inductor.install(_H100)


@contextmanager
def fake_device() -> Iterator[None]:
    """Tensors made inside are fakes, and every operator on them is watched."""
    with FakeTensorMode(allow_non_fake_inputs=True), WATCH:
        yield


def _patch_torch() -> None:
    cuda: Any = torch.cuda
    cuda.is_available = cuda.is_initialized = lambda: True
    cuda._lazy_init = lambda: None
    cuda.device_count, cuda.current_device = (lambda: 1), (lambda: 0)
    cuda._get_device_properties = lambda device: _H100
    cuda.is_bf16_supported = lambda including_emulation=True: True
    cuda.mem_get_info = lambda device=None: (78 * _GIB, 80 * _GIB)
    cuda.set_device = lambda device: None
    cuda._exchange_device = cuda._maybe_exchange_device = lambda index: 0
    cuda.get_rng_state = lambda device=None: torch.zeros(16, dtype=torch.uint8)
    cuda.set_rng_state = lambda state, device=None: None
    cuda.Stream, cuda.Event, cuda.CUDAGraph, cuda.graph = _Stream, _Event, Graph, WATCH.capture
    cuda.current_stream = lambda device=None: _Stream()
    cuda.stream = lambda stream: nullcontext()
    cuda.synchronize = lambda device=None: WATCH.wait()
    cuda.empty_cache = lambda: None
    cuda.default_generators = (_Generator(CUDA),)
    torch.Generator = _Generator  # type: ignore[misc]
    torch.autograd.grad = autograd.grad  # type: ignore[assignment]
    nn.Module.to = _to  # type: ignore[method-assign]
    # Without a driver, fakes would ask it for a context and convolutions choose another library.
    FakeTensorMode.avoid_device_init = property(lambda mode: True)  # type: ignore[assignment]
    # A copied network would bring a mode of its own.
    FakeTensorMode.__deepcopy__ = lambda mode, memo: mode  # type: ignore[attr-defined]
    torch._subclasses.fake_tensor.init_gpu_context = lambda device: None
    torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]
    torch._C._conv_determine_backend_memory_format = _memory_format
    torch._C._select_conv_backend = lambda *_, **__: torch._C._ConvBackend.Cudnn


def _patch_constructors() -> None:
    """Fakes know neither pinned memory nor generators of a device."""
    zeros = torch.zeros
    _device_constructors()  # keeps the real ones, for `with device:`

    def without_generator(draw: Any) -> Any:
        def drawn(*size: Any, generator: Any = None, **kwargs: Any) -> Tensor:
            WATCH.draws(generator)
            made: Tensor = draw(*size, **kwargs)
            return made

        return drawn

    def zeros_pinned(*size: Any, pin_memory: bool = False, **kwargs: Any) -> Tensor:
        made = zeros(*size, **kwargs)
        if pin_memory:
            WATCH.pinned.add(made.untyped_storage()._cdata)
            _KEPT.append(made)  # or another would get the address
        return made

    torch.rand, torch.randn = without_generator(torch.rand), without_generator(torch.randn)
    torch.zeros = zeros_pinned


_KEPT: list[Tensor] = []
_really_to = nn.Module.to


def _to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """Where all parameters are already, for parameters that are fakes cannot be moved."""
    if args == (CUDA,) and all(p.device == CUDA for p in module.parameters()):
        return module
    return _really_to(module, *args, **kwargs)


def _memory_format(x: Tensor, weight: Tensor, backend: Any) -> torch.memory_format:
    """As cuDNN's convolutions suggest it: channels_last where either argument is."""
    last = torch.channels_last
    if any(t.is_contiguous(memory_format=last) and not t.is_contiguous() for t in (x, weight)):
        return last
    return torch.contiguous_format

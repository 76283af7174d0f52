"""What the hardware gives: bandwidth, arithmetic, and on CUDA the latency of launches."""

from __future__ import annotations

import torch

from fastdqn.bench.checks import expect, expect_close
from fastdqn.bench.context import Context
from fastdqn.bench.workload import UnavailableError, Workload
from fastdqn.system.devices import has_bf16
from fastdqn.system.host import usable_cpus

_FRAMES = 64 * 84 * 84  # one vector step of 64 envs


def make(context: Context, *, kind: str, nodes: int = 0) -> Workload:
    """The workload of one ``ceil/`` case."""
    if kind == "copy":
        return _copy(context)
    if kind.startswith("gemm_"):
        return _gemm(context, kind.removeprefix("gemm_"))
    if context.device.type != "cuda":
        raise UnavailableError("needs a CUDA device")
    if kind == "graph_node":
        return _graph(context, nodes, host=False)
    if kind == "graph_launch_host":
        return _graph(context, 1, host=True)
    return _transfer(context, kind)


def _copy(context: Context) -> Workload:
    size = 4 * 10**9 if context.device.type == "cuda" else 256 * 10**6
    size = context.small(size, 10**6)
    source = torch.empty(size, dtype=torch.uint8, device=context.device)
    source.random_(0, 256)
    target = torch.zeros_like(source)

    def run(repeats: int) -> None:
        for _ in range(repeats):
            target.copy_(source)

    def check() -> None:
        run(1)
        expect(torch.equal(source, target), "the copy differs")

    return Workload(
        run=run,
        check=check,
        unit="copy",
        counts={"bytes": 2 * size},
        threads=usable_cpus(),
        details={"bytes": size},
    )


def _gemm(context: Context, precision: str) -> Workload:
    if precision == "bf16" and not has_bf16(context.device):
        raise UnavailableError("no bfloat16 arithmetic in this device")
    size = 8192 if context.device.type == "cuda" else 2048
    size = context.small(size, 128)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    generator = context.generator(0)
    a, b = (
        torch.randn(size, size, generator=generator, device=context.device).to(dtype)
        for _ in range(2)
    )
    out = torch.empty_like(a)

    def run(repeats: int) -> None:
        for _ in range(repeats):
            torch.mm(a, b, out=out)

    def check() -> None:
        run(1)
        exact = a[:8].double() @ b.double()
        expect_close(out[:8], exact, 2e-2 if precision == "bf16" else 1e-4, "the product")

    return Workload(
        run=run,
        check=check,
        unit="product",
        counts={"flop": 2 * size**3},
        threads=usable_cpus(),
        details={"precision": precision, "size": size},
    )


def _graph(context: Context, nodes: int, *, host: bool) -> Workload:
    value = torch.zeros(1, device=context.device)
    value.add_(1)  # loads the kernel
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(nodes):
            value.add_(1)

    def run(repeats: int) -> None:
        for _ in range(repeats):
            graph.replay()

    def check() -> None:
        value.zero_()
        run(3)
        expect(float(value) == 3 * nodes, "the graph did not run each of its kernels")

    return Workload(
        run=run,
        check=check,
        unit="launch",
        host_clock=host,
        details={"nodes": nodes},
    )


def _transfer(context: Context, kind: str) -> Workload:
    if kind.startswith("h2d"):
        source = torch.randint(0, 256, (_FRAMES,), dtype=torch.uint8)
        source = source.pin_memory() if kind.endswith("pinned") else source
        target = torch.empty_like(source, device=context.device)
    else:
        source = torch.randint(0, 18, (32,), device=context.device)
        target = torch.empty(32, dtype=torch.int64, pin_memory=True)
    event = torch.cuda.Event()

    def run(repeats: int) -> None:
        for _ in range(repeats):
            target.copy_(source, non_blocking=True)
            if kind.startswith("d2h"):
                event.record()
                event.synchronize()

    def check() -> None:
        run(1)
        context.synchronize()
        expect(torch.equal(target.cpu(), source.cpu()), "the copy differs")

    size = source.numel() * source.element_size()
    return Workload(run=run, check=check, unit="transfer", counts={"bytes": size}, host_clock=True)

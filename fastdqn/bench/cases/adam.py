"""The optimizer alone: what a step costs once the gradients are there."""

from __future__ import annotations

import torch

from fastdqn.bench.checks import expect_close
from fastdqn.bench.context import Context, network_work
from fastdqn.bench.floors import OPTIMIZER_BYTES_PER_PARAMETER
from fastdqn.bench.workload import Floor, Workload
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.learning.optimizers import Adam

_RATE, _EPSILON = 1e-4, 1e-8


def make(context: Context, *, kind: str, net: str) -> Workload:
    """The workload of one ``adam/`` case: a repeat is one step."""
    network = context.network(net)
    generator = context.generator(1)
    flat = FlatParameters(network) if kind == "flat" else None
    own = list(network.parameters())
    gradients = tuple(torch.randn(p.shape, generator=generator, device=context.device) for p in own)
    on_cuda = context.device.type == "cuda"
    if flat is not None:
        adam = Adam(flat.data, _RATE, _EPSILON)

        def step() -> None:
            adam.step(flat.pack(gradients))

    else:
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer = torch.optim.Adam(
            own,
            lr=torch.tensor(_RATE, device=context.device) if on_cuda else _RATE,
            eps=_EPSILON,
            capturable=on_cuda,
            **({"foreach": True} if kind == "foreach" else {"fused": True}),  # type: ignore[arg-type]
        )
        step = optimizer.step

    def run(repeats: int) -> None:
        for _ in range(repeats):
            step()

    def check() -> None:
        before = [parameter.detach().clone() for parameter in own]
        run(2)  # equal gradients: both moments, unbiased, are g and g^2, so each step is the same
        for old, parameter, gradient in zip(before, own, gradients, strict=True):
            step = _RATE * gradient / (gradient.abs() + _EPSILON)
            expect_close(parameter.detach() - old, -2 * step, 1e-2, "two steps of Adam")

    parameters_count = network_work(net).parameters
    floor = Floor(0, OPTIMIZER_BYTES_PER_PARAMETER * parameters_count)
    return Workload(
        run=run,
        check=check,
        unit="step",
        counts={"updates": 1},
        floor=floor,
        threads=context.threads(net),
        details={"parameters": parameters_count},
    )

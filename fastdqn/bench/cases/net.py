"""The networks alone, on random observations."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fastdqn.bench.case import IMPALA_WIDTHS
from fastdqn.bench.checks import expect, expect_close
from fastdqn.bench.context import Context, network_work
from fastdqn.bench.workload import UnavailableError, Workload
from fastdqn.networks.copies import lower
from fastdqn.networks.q_network import QNetwork
from fastdqn.system.devices import has_bf16


def make(context: Context, *, work: str, net: str, batch_size: int, precision: str) -> Workload:
    """The workload of one ``net/`` case: a repeat is one pass over a batch."""
    if precision == "bf16" and not has_bf16(context.device):
        raise UnavailableError("no bfloat16 arithmetic in this device")
    batch_size = context.small(batch_size, 4)
    backward = work == "fwdbwd"
    network = context.network(net)
    used = lower(network) if precision == "bf16" else network
    parameters, used_parameters = list(network.parameters()), list(used.parameters())
    observation = context.replay(net).sample(batch_size).observation
    kind = context.device.type

    def once() -> tuple[torch.Tensor, ...]:
        q = used(observation)
        return torch.autograd.grad(q.square().mean(), used_parameters) if backward else (q,)

    def run(repeats: int) -> None:
        with torch.set_grad_enabled(backward):
            for _ in range(repeats):
                once()

    def check() -> None:
        # float32 convolutions are TF32 on CUDA, of 10 bits where bfloat16 has 7.
        tolerance = 5e-2 if precision == "bf16" else 5e-3 if kind == "cuda" else 1e-4
        with torch.set_grad_enabled(backward):
            actual = once()
        plain = _plain_forward(network, observation)
        if not backward:
            expect_close(actual[0], plain, tolerance, "Q")
            return
        expected = torch.autograd.grad(plain.square().mean(), parameters)
        # Rounding decides which of two all but equal sums a pooling sends its gradient to: one such
        # place in a batch of 32 is 1e-3 of a gradient, of plain float32 against float64 as well.
        allowed = max(4 * tolerance, 1e-2) if net in IMPALA_WIDTHS else 4 * tolerance
        for index, (a, b) in enumerate(zip(actual, expected, strict=True)):
            expect_close(a.float(), b, allowed, f"gradient {index}")
        expect(len(actual) == len(parameters), "a gradient is missing")

    floor = network_work(net).forward(batch_size, backward=backward, precision=precision)
    return Workload(
        run=run,
        check=check,
        unit="pass",
        counts={"samples": batch_size, "flop": floor.flop},
        floor=floor,
        threads=context.threads(net),
        details={"precision": precision},
    )


def _plain_forward(network: QNetwork, observation: torch.Tensor) -> torch.Tensor:
    """The same function with torch's plain operations in float32, from the parameters' names."""
    p = dict(network.named_parameters())
    x = observation.float()
    if "torso.sections.0.conv.weight" in p:
        x = _plain_sections(p, x / 255)
        x = F.relu(F.linear(x.flatten(1), p["torso.hidden.weight"], p["torso.hidden.bias"]))
    elif "torso.conv1.weight" in p:
        x = x / 255
        for layer, stride in (("conv1", 4), ("conv2", 2), ("conv3", 1)):
            weight, bias = p[f"torso.{layer}.weight"], p[f"torso.{layer}.bias"]
            x = F.relu(F.conv2d(x, weight.contiguous(), bias, stride=stride))
        x = F.relu(F.linear(x.flatten(1), p["torso.hidden.weight"], p["torso.hidden.bias"]))
    else:
        for prefix in sorted({n.rpartition(".")[0] for n in p if n.startswith("torso.layers.")}):
            x = F.relu(F.linear(x, p[f"{prefix}.weight"], p[f"{prefix}.bias"]))
    if "head.q.weight" in p:
        return F.linear(x, p["head.q.weight"], p["head.q.bias"])
    half = p["head.value.weight"].shape[1]
    value = F.linear(x[:, :half], p["head.value.weight"], p["head.value.bias"])
    advantage = F.linear(x[:, half:], p["head.advantage.weight"], p["head.advantage.bias"])
    return value + advantage - advantage.mean(dim=1, keepdim=True)


def _plain_sections(p: dict[str, torch.nn.Parameter], x: torch.Tensor) -> torch.Tensor:
    """The convolutional part of IMPALA's network."""

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = p[f"torso.sections.{name}.weight"], p[f"torso.sections.{name}.bias"]
        return F.conv2d(x, weight.contiguous(), bias, padding=1)

    for section in range(3):
        x = F.max_pool2d(conv(f"{section}.conv", x), 3, stride=2, padding=1)
        for block in (f"{section}.blocks.0", f"{section}.blocks.1"):
            x = x + conv(f"{block}.conv2", F.relu(conv(f"{block}.conv1", F.relu(x))))
    return F.relu(x)

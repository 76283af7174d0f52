"""The least work that a network's update can be: FLOP by hand, bytes under perfect fusion.

A multiply-add is 2 FLOP. The gradient of the first layer's input is not needed. Bytes: frames of s
and s' read once, and per parameter 28 bytes: p, m, v, g read and p, m, v written in float32.

The ceilings are those of large arrays and matrices: work that stays in a cache can beat them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fastdqn.bench.workload import Floor

FRAME = (84, 84)
STACK = 4
FRAME_BYTES = math.prod(FRAME)
OPTIMIZER_BYTES_PER_PARAMETER = 28

Plan = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class NetworkWork:
    """Multiply-adds per sample, by layer, and what the network holds and reads."""

    layer_macs: tuple[int, ...]
    parameters: int
    observation_bytes: int

    @property
    def forward_flop(self) -> int:
        """Per sample."""
        return 2 * sum(self.layer_macs)

    @property
    def backward_flop(self) -> int:
        """Per sample: gradients of weights, and of inputs but the first layer's."""
        return 2 * self.forward_flop - 2 * self.layer_macs[0]

    def update(self, batch_size: int, *, double: bool, precision: str) -> Floor:
        """One update: two or three forwards, one backward, Adam."""
        return self.update_beside([self] * (2 if double else 1), batch_size, precision)

    def update_beside(
        self, others: Sequence[NetworkWork], batch_size: int, precision: str
    ) -> Floor:
        """One update of this network: the other forwards that it takes, its own, and Adam."""
        forwards = sum(work.forward_flop for work in (*others, self))
        flop = batch_size * (forwards + self.backward_flop)
        return Floor(flop, self._bytes(2 * batch_size, OPTIMIZER_BYTES_PER_PARAMETER), precision)

    def forward(self, batch_size: int, *, backward: bool, precision: str) -> Floor:
        """One forward, and one backward with it; weights are read, gradients written."""
        flop = self.forward_flop + (self.backward_flop if backward else 0)
        width = 2 if precision == "bf16" else 4
        per_parameter = 2 * width + 4 if backward else width
        return Floor(batch_size * flop, self._bytes(batch_size, per_parameter), precision)

    def _bytes(self, observations: int, per_parameter: int) -> int:
        return observations * self.observation_bytes + per_parameter * self.parameters


# Channels, kernel and stride of each convolution.
NATURE: Plan = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
DER: Plan = ((32, 5, 5), (64, 5, 5))


def nature_work(num_actions: int, *, hidden: int = 512, **options: Any) -> NetworkWork:
    """The CNN of Mnih 2015; options as for :func:`strided_work`."""
    return strided_work(NATURE, num_actions, hidden=hidden, **options)


def strided_work(
    plan: Plan,
    num_actions: int,
    *,
    hidden: int,
    padding: str = "valid",
    dueling: bool = False,
    numbers: int = 1,
    noisy: bool = False,
    fractions: int | None = None,
    cosines: int = 64,
) -> NetworkWork:
    """Convolutions on [4, 84, 84] and one hidden layer.

    Args:
        plan: The convolutions.
        num_actions: A.
        hidden: Units; dueling has two streams of so many.
        padding: ``valid`` or ``same``.
        dueling: Of V and A.
        numbers: Of the return's distribution, for each action.
        noisy: The hidden layer and the head have a second weight, multiplied like the first.
        fractions: Of implicit quantiles: so often run the layers behind the convolutions, each
            on features of ``cosines``, too. None: there are none.
        cosines: Of a fraction.
    """
    macs, weights, side, inputs = [], 0, FRAME[0], STACK
    for channels, kernel, stride in plan:
        side = -(-side // stride) if padding == "same" else (side - kernel) // stride + 1
        macs.append(side * side * channels * inputs * kernel**2)
        weights += channels * inputs * kernel**2 + channels
        inputs = channels
    features = side * side * inputs
    width = hidden * 2 if dueling else hidden
    outputs = numbers * (num_actions + 1 if dueling else num_actions)
    rows, twice = fractions or 1, 2 if noisy else 1
    macs += [rows * twice * features * width, rows * twice * hidden * outputs]
    weights += twice * (features * width + width + hidden * outputs + outputs)
    if fractions is not None:
        macs[0] += rows * cosines * features  # its inputs have no gradient either
        weights += cosines * features + features
    return NetworkWork(tuple(macs), weights, STACK * FRAME_BYTES)


def impala_work(num_actions: int, width: int, *, hidden: int = 512) -> NetworkWork:
    """The residual CNN of Espeholt 2018 on [4, 84, 84], its channels multiplied by ``width``."""
    convolutions = []
    side, inputs = FRAME[0], STACK
    for channels in (16 * width, 32 * width, 32 * width):
        convolutions.append((side * side, channels, inputs * 3 * 3))
        side, inputs = -(-side // 2), channels  # pooled
        convolutions += [(side * side, channels, channels * 3 * 3)] * 4  # two residual blocks
    features = side * side * inputs
    macs = [math.prod(layer) for layer in convolutions]
    weights = sum(out * ins + out for _, out, ins in convolutions)
    weights += features * hidden + hidden + hidden * num_actions + num_actions
    layers = (*macs, features * hidden, hidden * num_actions)
    return NetworkWork(layers, weights, STACK * FRAME_BYTES)


def mlp_work(inputs: int, hidden_sizes: Sequence[int], num_actions: int) -> NetworkWork:
    """Fully connected layers on float32 vectors."""
    sizes = [inputs, *hidden_sizes, num_actions]
    pairs = list(pairwise(sizes))
    return NetworkWork(tuple(a * b for a, b in pairs), sum(a * b + b for a, b in pairs), 4 * inputs)


def floor_seconds(floor: Floor, ceilings: dict[str, float]) -> float | None:
    """The larger of arithmetic and traffic at the ceilings measured; None: they were not.

    Args:
        floor: Of one unit.
        ceilings: ``bytes_per_s``, and FLOP/s under ``fp32`` and ``bf16``.
    """
    if "bytes_per_s" not in ceilings or (floor.flop and floor.precision not in ceilings):
        return None
    flop_s = floor.flop / ceilings[floor.precision] if floor.flop else 0.0
    return max(flop_s, floor.bytes / ceilings["bytes_per_s"])

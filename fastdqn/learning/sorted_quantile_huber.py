"""The quantile Huber loss on a CPU without every pair of a quantile and a target.

Around each theta the Huber loss of ``u = y - theta`` has four pieces, each linear or quadratic in
y. With the targets sorted, and sums of y and y^2 up to each of them, a piece costs the same however
many targets lie in it: (N + M) log M instead of N M. With 200 quantiles a batch of 32 has 1.3
million pairs, of which torch makes a dozen tensors. On CUDA, and compiled, those are one kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_WORTH_IT = 200_000  # pairs


def pays(quantiles: Tensor, target: Tensor) -> bool:
    """Whether it is faster than the pairs, here."""
    return (
        quantiles.device.type == "cpu"
        and quantiles.numel() * target.shape[1] >= _WORTH_IT
        and not torch.compiler.is_compiling()
    )


def sorted_quantile_huber_loss(
    quantiles: Tensor, target: Tensor, fractions: Tensor, delta: float
) -> Tensor:
    """As :func:`fastdqn.learning.distribution_losses.quantile_huber_loss`, [B]."""
    loss: Tensor = _SortedLoss.apply(quantiles, target.detach(), fractions, delta)
    return loss


class _SortedLoss(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, quantiles: Tensor, target: Tensor, fractions: Tensor, delta: float
    ) -> Tensor:
        # float64, around the middle: differences of sums of squares.
        y, theta, tau = target.sort(dim=1).values.double(), quantiles.double(), fractions.double()
        middle = y.mean(dim=1, keepdim=True)
        y, theta = y - middle, theta - middle
        zero = y.new_zeros(len(y), 1)
        sums = torch.cat((zero, y.cumsum(dim=1)), dim=1)
        squares = torch.cat((zero, y.square().cumsum(dim=1)), dim=1)
        total = y.shape[1]
        edges = [torch.searchsorted(y, theta + shift) for shift in (-delta, 0.0, delta)]
        counts = [edge.double() for edge in edges]  # an integer times a float is float32
        far_left, beyond = counts[0], total - counts[2]
        at = [sums.gather(1, edge) for edge in edges]
        square_at = [squares.gather(1, edge) for edge in edges]

        def near(low: int, high: int) -> tuple[Tensor, Tensor]:
            """Sums of u and of u^2 / 2 between two edges."""
            count, first = counts[high] - counts[low], at[high] - at[low]
            second = square_at[high] - square_at[low]
            linear = first - count * theta
            return linear, 0.5 * (second - theta * (first + linear))

        left, left_square = near(0, 1)
        right, right_square = near(1, 2)
        left_far = delta * (far_left * theta - at[0] - 0.5 * delta * far_left)
        right_far = delta * (sums[:, -1:] - at[2] - beyond * theta - 0.5 * delta * beyond)
        scale = 1 / (delta * total)
        loss = (1 - tau) * (left_far + left_square) + tau * (right_far + right_square)
        slope = (1 - tau) * (left - delta * far_left) + tau * (right + delta * beyond)
        ctx.save_for_backward((slope * -scale).to(quantiles.dtype))
        return (loss.sum(dim=1) * scale).to(quantiles.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        return gradient.unsqueeze(1) * slope, None, None, None

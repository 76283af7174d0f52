"""The optimizers, each one step on one flat buffer.

They hold what torch.optim's do and no more: on a small network the bookkeeping of ``torch.optim``
takes four times as long as the step itself. All moments exist from the start, at addresses that a
captured graph can rely on.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fastdqn.errors import ConfigError


class Optimizer(Protocol):
    """Changes the parameter in place; ``moments`` is all it remembers."""

    moments: dict[str, Tensor]

    def step(self, gradient: Tensor) -> None:
        """One step."""

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the step size, also of graphs already captured."""


class Adam:
    """Adam (Kingma 2015, Algorithm 1), by torch's fused kernel.

    Args:
        parameter: float32, flat; changed in place.
        learning_rate: Step size.
        epsilon: Added to the root of the second moment.
    """

    def __init__(self, parameter: Tensor, learning_rate: float, epsilon: float) -> None:
        self.parameter, self.epsilon = parameter, epsilon
        self.moments = {
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
            "step": torch.zeros((), device=parameter.device),
        }
        self.learning_rate = _rate(learning_rate, parameter.device)

    def step(self, gradient: Tensor) -> None:
        """One step; ``gradient`` as ``parameter``."""
        m = self.moments
        m["step"].add_(1)
        torch._fused_adam_(
            [self.parameter],
            [gradient],
            [m["exp_avg"]],
            [m["exp_avg_sq"]],
            [],
            [m["step"]],
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
        )

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the step size, also of graphs already captured."""
        self.learning_rate = _changed(self.learning_rate, learning_rate)


class RMSprop:
    """RMSprop: ``p -= lr g / sqrt(v - m^2 + eps)`` as in Mnih 2015, or the plain form.

    v and m are running averages of g^2 and g. torch.optim.RMSprop(centered=True) takes the root of
    ``v - m^2`` as it comes; rounding makes that negative under a constant gradient, such as one
    that clipping saturates, and the parameters NaN. Plain: ``p -= lr g / (sqrt(v) + eps)``
    (Tieleman and Hinton 2012), as torch.optim.RMSprop has it.

    Args:
        parameter: float32, flat; changed in place.
        learning_rate: Step size.
        alpha: Smoothing of both averages.
        epsilon: Inside the root if centred, else beside it.
        centred: Which form.
    """

    def __init__(
        self,
        parameter: Tensor,
        learning_rate: float,
        alpha: float,
        epsilon: float,
        centred: bool = True,
    ) -> None:
        self.parameter, self.alpha, self.epsilon = parameter, alpha, epsilon
        self.moments = {"square_avg": torch.zeros_like(parameter)}
        if centred:
            self.moments["grad_avg"] = torch.zeros_like(parameter)
        self.learning_rate = _rate(learning_rate, parameter.device)

    def step(self, gradient: Tensor) -> None:
        """One step; ``gradient`` as ``parameter``."""
        square, mean = self.moments["square_avg"], self.moments.get("grad_avg")
        square.lerp_(gradient.square(), 1 - self.alpha)
        if mean is None:
            root = square.sqrt().add_(self.epsilon)
        else:
            mean.lerp_(gradient, 1 - self.alpha)
            variance = torch.addcmul(square, mean, mean, value=-1).clamp_(min=0)
            root = variance.add_(self.epsilon).sqrt_()
        self.parameter.sub_(self.learning_rate * gradient / root)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the step size, also of graphs already captured."""
        self.learning_rate = _changed(self.learning_rate, learning_rate)


def make_optimizer(
    name: str,
    parameter: Tensor,
    learning_rate: float,
    *,
    epsilon: float,
    rmsprop_alpha: float,
    rmsprop_centred: bool,
) -> Optimizer:
    """The optimizer of that name.

    Raises:
        ConfigError: Where there is none.
    """
    if name == "adam":
        return Adam(parameter, learning_rate, epsilon)
    if name == "rmsprop":
        return RMSprop(parameter, learning_rate, rmsprop_alpha, epsilon, rmsprop_centred)
    raise ConfigError(f"optimizer = {name!r} must be one of adam, rmsprop.")


def _rate(learning_rate: float, device: torch.device) -> float | Tensor:
    """On CUDA a tensor, for captured graphs must see it change."""
    if device.type == "cuda":
        return torch.tensor(learning_rate, device=device)
    return learning_rate


def _changed(rate: float | Tensor, learning_rate: float) -> float | Tensor:
    return rate.fill_(learning_rate) if isinstance(rate, Tensor) else learning_rate

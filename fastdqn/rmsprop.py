"""RMSprop as in Mnih 2015: centred, with epsilon inside the root.

torch.optim.RMSprop takes the root of ``v - m^2`` as it comes. Rounding makes that negative under a
constant gradient, such as one that clipping saturates, and the parameters NaN.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class CentredRMSprop(torch.optim.Optimizer):
    """``p -= lr g / sqrt(v - m^2 + eps)``, v and m averages of g^2 and g.

    Args:
        parameter: The one parameter, a flat buffer.
        lr: Step size; a 0-d tensor on the device where captured graphs must see it change.
        alpha: Smoothing of both averages.
        eps: Inside the root.
    """

    def __init__(
        self, parameter: nn.Parameter, lr: float | Tensor, alpha: float, eps: float
    ) -> None:
        super().__init__([parameter], {"lr": lr, "alpha": alpha, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step on the gradient as it stands."""
        group = self.param_groups[0]
        (parameter,) = group["params"]
        gradient, state = parameter.grad, self.state[parameter]
        if not state:
            state["square_avg"] = torch.zeros_like(parameter)
            state["grad_avg"] = torch.zeros_like(parameter)
        square, mean = state["square_avg"], state["grad_avg"]
        square.lerp_(gradient.square(), 1 - group["alpha"])
        mean.lerp_(gradient, 1 - group["alpha"])
        variance = torch.addcmul(square, mean, mean, value=-1).clamp_(min=0)
        parameter.sub_(group["lr"] * gradient / variance.add_(group["eps"]).sqrt_())

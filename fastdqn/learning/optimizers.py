"""The optimizers, each one step on one flat buffer.

They hold what torch.optim's do and no more: on a small network the bookkeeping of ``torch.optim``
takes four times as long as the step itself. All moments exist from the start, at addresses that a
captured graph can rely on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastdqn.errors import ConfigError


class Optimizer:
    """Changes a parameter in place; ``moments`` is all that it remembers.

    Args:
        parameter: float32, flat.
        learning_rate: Step size.
    """

    moments: dict[str, Tensor]
    elementwise = False
    """Whether :meth:`step` is many elementwise operations, which compiled are one kernel."""
    lowers = False
    """Whether :meth:`step` also brings a bfloat16 copy of the parameters up to date."""

    def __init__(self, parameter: Tensor, learning_rate: float) -> None:
        self.parameter = parameter
        self.learning_rate: float | Tensor = learning_rate
        if parameter.is_cuda:  # captured graphs must see it change
            self.learning_rate = torch.tensor(learning_rate, device=parameter.device)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the step size, also of graphs already captured."""
        if isinstance(self.learning_rate, Tensor):
            self.learning_rate.fill_(learning_rate)
        else:
            self.learning_rate = learning_rate

    def step(self, gradient: Tensor) -> None:
        """One step; ``gradient`` as the parameter."""
        raise NotImplementedError

    def pure_step(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        moments: dict[str, list[Tensor]],
        learning_rate: Tensor,
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """The same step as a pure function, of parameters in any shapes.

        Args:
            parameters: As the gradients.
            gradients: One for each parameter.
            moments: For each name one tensor per parameter, or the one that all share.
            learning_rate: 0-d.

        Returns:
            The new parameters and moments.
        """
        raise NotImplementedError


class Adam(Optimizer):
    """Adam (Kingma 2015, Algorithm 1), by torch's fused kernel.

    Args:
        parameter: float32, flat; changed in place.
        learning_rate: Step size.
        epsilon: Added to the root of the second moment.
    """

    def __init__(self, parameter: Tensor, learning_rate: float, epsilon: float) -> None:
        super().__init__(parameter, learning_rate)
        self.epsilon = epsilon
        self.moments = {
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
            "step": torch.zeros((), device=parameter.device),
        }

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

    def pure_step(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        moments: dict[str, list[Tensor]],
        learning_rate: Tensor,
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """The same step as a pure function; see :class:`Optimizer`."""
        step = moments["step"][0] + 1
        means = [m.lerp(g, 0.1) for m, g in zip(moments["exp_avg"], gradients, strict=True)]
        squares = [
            v * 0.999 + 0.001 * g.square()
            for v, g in zip(moments["exp_avg_sq"], gradients, strict=True)
        ]
        rate = learning_rate / (1 - 0.9**step)
        correction = (1 - 0.999**step).sqrt()
        moved = [
            p - rate * m / (v.sqrt() / correction + self.epsilon)
            for p, m, v in zip(parameters, means, squares, strict=True)
        ]
        return moved, {"exp_avg": means, "exp_avg_sq": squares, "step": [step]}


class RMSprop(Optimizer):
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

    elementwise = True

    def __init__(
        self,
        parameter: Tensor,
        learning_rate: float,
        alpha: float,
        epsilon: float,
        centred: bool = True,
    ) -> None:
        super().__init__(parameter, learning_rate)
        self.alpha, self.epsilon = alpha, epsilon
        self.moments = {"square_avg": torch.zeros_like(parameter)}
        if centred:
            self.moments["grad_avg"] = torch.zeros_like(parameter)

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

    def pure_step(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        moments: dict[str, list[Tensor]],
        learning_rate: Tensor,
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """The same step as a pure function; see :class:`Optimizer`."""
        weight = 1 - self.alpha
        squares = [
            v.lerp(g.square(), weight)
            for v, g in zip(moments["square_avg"], gradients, strict=True)
        ]
        after = {"square_avg": squares}
        if "grad_avg" in moments:
            means = [m.lerp(g, weight) for m, g in zip(moments["grad_avg"], gradients, strict=True)]
            after["grad_avg"] = means
            roots = [
                ((v - m * m).clamp(min=0) + self.epsilon).sqrt()
                for v, m in zip(squares, means, strict=True)
            ]
        else:
            roots = [v.sqrt() + self.epsilon for v in squares]
        moved = [
            p - learning_rate * g / root
            for p, g, root in zip(parameters, gradients, roots, strict=True)
        ]
        return moved, after


def clip(gradient: Tensor, *, max_norm: float | None, max_value: float | None) -> Tensor:
    """A flat gradient, in place, scaled down to a 2-norm or with each entry clamped."""
    if max_norm is not None:
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((max_norm / (norm + 1e-6)).clamp_(max=1.0))
    if max_value is not None:
        gradient.clamp_(-max_value, max_value)
    return gradient


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
    if isinstance(name, str) and name == "adam":
        return Adam(parameter, learning_rate, epsilon)
    if isinstance(name, str) and name == "rmsprop":
        return RMSprop(parameter, learning_rate, rmsprop_alpha, epsilon, rmsprop_centred)
    raise ConfigError(
        f"optimizer = {name!r} must be one of adam, rmsprop; a Learner also takes a function."
    )

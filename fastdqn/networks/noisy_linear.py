"""Linear layers with learned noise (Fortunato 2018, arXiv 1706.10295)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastdqn.config.arguments import check_argument, check_sizes
from fastdqn.config.ranges import Range
from fastdqn.networks.draws import Draw, Randoms
from fastdqn.networks.onednn import Linear, linear


class NoisyLinear(Linear):
    """``W x + b + f(e_out) * (S (f(e_in) * x) + s)``, with ``f(e) = sign(e) sqrt(|e|)``.

    Factorised noise (section 3.1 (b)) in two products, which is
    ``(W + S * f(e_out) f(e_in)^T) x + b + s * f(e_out)`` without a matrix of noise, so that every
    row of a batch can have noise of its own. Without random numbers the layer is ``W x + b``.

    Means start uniform in +-1 / sqrt(in), deviations at sigma / sqrt(in) for weights and biases
    (section 3.2).

    Args:
        in_features: Numbers in a row.
        out_features: Numbers made of them.
        sigma: Of the deviations at the start.

    Attributes:
        noise_name: Its two tensors of noise are called this and ``.in`` or ``.out``; the network
            around it sets it.
    """

    noise_name = "noise"

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5) -> None:
        check_sizes(in_features=in_features, out_features=out_features)
        sigma = float(check_argument("sigma", sigma, float, Range(0.0)))
        super().__init__(in_features, out_features)
        self.sigma = sigma
        first = sigma / in_features**0.5
        self.weight_sigma = nn.Parameter(torch.full((out_features, in_features), first))
        self.bias_sigma = nn.Parameter(torch.full((out_features,), first))

    def draws(self, rows: int | None = None) -> dict[str, Draw]:
        """The noise of one forward: one draw for all rows, or one for each of so many."""
        shape = () if rows is None else (rows,)
        return {
            f"{self.noise_name}.in": Draw("normal", (*shape, self.in_features)),
            f"{self.noise_name}.out": Draw("normal", (*shape, self.out_features)),
        }

    def forward(self, input: Tensor, randoms: Randoms | None = None) -> Tensor:
        """[B, in] to [B, out].

        Args:
            input: The rows.
            randoms: With the two tensors of :meth:`draws`, [in] and [out] or [R, in] and [R, out],
                where each of the R serves B / R rows that follow one another. None: no noise.
        """
        mean = linear(input, self.weight, self.bias)
        if randoms is None:
            return mean
        inward = _scaled(randoms[f"{self.noise_name}.in"], input)
        outward = _scaled(randoms[f"{self.noise_name}.out"], input)
        return mean + outward * linear(input * inward, self.weight_sigma, self.bias_sigma)

    def extra_repr(self) -> str:
        """What makes two of them alike."""
        return f"{super().extra_repr()}, sigma={self.sigma}"


def _scaled(noise: Tensor, rows: Tensor) -> Tensor:
    """``f`` of the noise, in the precision of the rows and with one line for each of them."""
    scaled = (noise.sign() * noise.abs().sqrt()).to(rows.dtype)
    if noise.dim() == 1 or noise.shape[0] == rows.shape[0]:
        return scaled
    return scaled.unsqueeze(1).expand(-1, rows.shape[0] // noise.shape[0], -1).flatten(0, 1)

"""What a Q network looks at: how much Q changes where a picture is blurred."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdqn.acting.policy import Policy
from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import ABOVE_ZERO, Range
from fastdqn.errors import ConfigError
from fastdqn.learning.input_gradients import (
    device_of,
    float_form,
    network_of,
    q_of,
    tensor_of,
)
from fastdqn.networks.forward import evaluation_mode
from fastdqn.types import Array


@torch.no_grad()
def perturbation_saliency(
    network: Policy | nn.Module,
    frames: Array,
    *,
    stride: int = 5,
    mask_sigma: float = 5.0,
    blur_sigma: float = 3.0,
    batch_size: int = 256,
) -> Array:
    """How much Q changes where a picture is blurred (Greydanus 2018, arXiv 1711.00138, eq. 1-2).

    ``S(i, j) = 1/2 ||Q(s) - Q(phi(s, i, j))||^2`` with ``phi = s (1 - M) + blurred(s) M``, where M
    is a Gaussian of height 1 around pixel (i, j). Blurring takes away what a place shows without
    inventing anything: where the picture is smooth, the map is 0. All frames of a stack are
    blurred together. The paper takes the policy's logits; here Q over all actions stands for them.

    Args:
        network: As for ``fastdqn.input_gradient``; it runs in evaluation mode.
        frames: [B, ..., H, W], what the network sees, channels and stack before the pixels.
        stride: Pixels between the positions tried, at most; between them the map is bilinear.
        mask_sigma: Standard deviation of M in pixels; the paper's variance of 25.
        blur_sigma: Standard deviation of the Gaussian blur in pixels.
        batch_size: Perturbed observations per forward pass.

    Returns:
        [B, H, W], >= 0; numpy if the frames are, else a tensor on the device of the network.

    Raises:
        ConfigError: Where the frames are no pictures or a number is not above 0.
    """
    module = network_of(network)
    for name, count in {"stride": stride, "batch_size": batch_size}.items():
        check_argument(name, count, int, Range(1, 2**31))
    for name, sigma in {"mask_sigma": mask_sigma, "blur_sigma": blur_sigma}.items():
        check_argument(name, sigma, float, ABOVE_ZERO)
    raw = tensor_of("frames", frames).to(device_of(module, network))
    if raw.dim() < 3 or 0 in raw.shape:
        raise ConfigError(
            f"frames of shape {tuple(raw.shape)} are no pictures; use [B, ..., H, W]."
        )
    height, width = raw.shape[-2:]
    rows, columns = positions(height, stride), positions(width, stride)
    maps = []
    with evaluation_mode(module):
        floats, _ = float_form(module, raw)
        blurred = _blur(floats, blur_sigma)
        across = _bumps(rows, height, mask_sigma).to(floats)  # [I, H]
        along = _bumps(columns, width, mask_sigma).to(floats)  # [J, W]
        middle = (1,) * (raw.dim() - 3)
        for picture, smooth, q in zip(floats, blurred, q_of(module, floats), strict=True):
            change = []
            for places in torch.arange(len(rows) * len(columns)).split(batch_size):
                i, j = places // len(columns), places % len(columns)
                mask = across[i, :, None] * along[j, None, :]
                mask = mask.reshape(len(places), *middle, height, width)
                seen = torch.lerp(picture.expand(mask.shape[0], *picture.shape), smooth, mask)
                change.append(0.5 * (q - q_of(module, seen)).square().sum(dim=1))
            maps.append(torch.cat(change).view(len(rows), len(columns)))
        # The positions reach from edge to edge, evenly: what align_corners means.
        saliency = F.interpolate(
            torch.stack(maps)[:, None], size=(height, width), mode="bilinear", align_corners=True
        )[:, 0]
    return saliency.cpu().numpy() if isinstance(frames, np.ndarray) else saliency


def positions(size: int, stride: int) -> Tensor:
    """Evenly spaced pixel positions from 0 to ``size - 1``, at most ``stride`` apart; float64."""
    return torch.linspace(0, size - 1, -(-(size - 1) // stride) + 1, dtype=torch.float64)


def _bumps(centres: Tensor, size: int, sigma: float) -> Tensor:
    """Gaussians of height 1 around each centre, [len(centres), size]."""
    distance = torch.arange(size, dtype=torch.float64) - centres[:, None]
    return torch.exp(-0.5 * (distance / sigma) ** 2)


def _blur(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of the last two axes; at an edge the weights that remain sum to 1."""

    def weights(size: int) -> Tensor:
        bumps = _bumps(torch.arange(size), size, sigma)
        return (bumps / bumps.sum(dim=1, keepdim=True)).to(pictures)

    height, width = pictures.shape[-2:]
    return weights(height) @ pictures @ weights(width).T

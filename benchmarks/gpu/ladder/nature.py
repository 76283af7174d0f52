"""The Nature network's torso on space-to-depth input, forward and backward by hand.

By hand, because two steps of the ladder need what autograd does not give: the forward on one
stream and the backward after the join, as two compiled functions; and a forward over s and s' of
which only s goes backward. The parameters are the network's own, in their canonical shapes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu.ladder.space_to_depth import depth_to_space, space_to_depth
from fastdqn.errors import ConfigError
from fastdqn.networks.nature import NatureCNN
from fastdqn.networks.q_network import QNetwork

BLOCK = 4  # pixels on a side: the first convolution's stride
_FRAME = (84, 84)
_SCALE = 1 / 255

Kept = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Input and activations that the backward needs; the last are the features, [B, features]."""


def to_input(observation: Tensor, dtype: torch.dtype) -> Tensor:
    """Frames, uint8 [B, S, 84, 84], as 0..255 of ``dtype``, [B, 16 S, 21, 21], channels_last.

    What has that form already (:mod:`benchmarks.gpu.ladder.fused_gather` writes it) is returned as
    it is.

    Raises:
        ConfigError: Where the frames have another size.
    """
    if observation.dtype != torch.uint8:
        return observation
    if observation.shape[2:] != _FRAME:
        raise ConfigError(
            f"space-to-depth is written for frames of 84 x 84, not {tuple(observation.shape[2:])}."
        )
    return space_to_depth(observation, BLOCK, dtype)


def forward(torso: NatureCNN, x: Tensor) -> Kept:
    """The torso on :func:`to_input`'s result."""
    conv1, conv2, conv3 = torso.conv1, torso.conv2, torso.conv3
    assert conv1.bias is not None
    y1 = F.conv2d(x, space_to_depth(conv1.weight, BLOCK))
    y1 = F.relu(torch.add(conv1.bias.view(-1, 1, 1), y1, alpha=_SCALE))
    y1 = space_to_depth(y1, 2)
    y2 = F.relu(F.conv2d(y1, space_to_depth(conv2.weight, 2), conv2.bias))
    y3 = F.relu(F.conv2d(y2, conv3.weight, conv3.bias))
    return x, y1, y2, y3, F.relu(F.linear(y3.flatten(1), torso.hidden.weight, torso.hidden.bias))


def backward(torso: NatureCNN, kept: Kept, gradient: Tensor) -> list[Tensor]:
    """Gradients of the torso's parameters, in their order and shapes.

    Args:
        torso: As it was in :func:`forward`.
        kept: That forward's result.
        gradient: Of the features, [B, features].
    """
    x, y1, y2, y3, features = kept
    gradient = _through_relu(gradient, features)
    hidden = [gradient.t() @ y3.flatten(1), gradient.sum(0)]
    gradient = _through_relu((gradient @ torso.hidden.weight).view(y3.shape), y3)
    gradient, *third = _convolution(gradient, y2, torso.conv3.weight)
    gradient = _through_relu(gradient, y2)
    gradient, weight, bias = _convolution(gradient, y1, space_to_depth(torso.conv2.weight, 2))
    second = [depth_to_space(weight, 2), bias]
    gradient = depth_to_space(_through_relu(gradient, y1), 2)
    weight_1 = space_to_depth(torso.conv1.weight, BLOCK)
    _, weight, bias = _convolution(gradient, x, weight_1, needs_input=False)
    return [depth_to_space(weight * _SCALE, BLOCK), bias, *second, *third, *hidden]


def _through_relu(gradient: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(gradient, output, 0)


def _convolution(
    gradient: Tensor, x: Tensor, weight: Tensor, *, needs_input: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, weight and bias of a convolution with stride 1 and no padding."""
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, [len(weight)], [1, 1], [0, 0], [1, 1], False, [0, 0], 1,
        [needs_input, True, True],
    )  # fmt: skip


class SpaceToDepthCNN(nn.Module):
    """A Nature torso's own layers, computed on space-to-depth input.

    Args:
        torso: Whose parameters it shares.
    """

    def __init__(self, torso: NatureCNN) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = torso.conv1, torso.conv2, torso.conv3
        self.hidden, self.features = torso.hidden, torso.features

    def forward(self, observation: Tensor) -> Tensor:
        """[B, S, 84, 84] to [B, features]."""
        x = to_input(observation, self.conv1.weight.dtype)
        return forward(self, x)[-1]  # type: ignore[arg-type]


def nature_torso(network: nn.Module) -> NatureCNN:
    """The torso of a Q network; ConfigError where that is no Nature network."""
    if isinstance(network, QNetwork) and isinstance(network.torso, NatureCNN):
        return network.torso
    raise ConfigError("The ladder's space-to-depth is written for network = 'nature'.")


def with_space_to_depth(network: nn.Module) -> QNetwork:
    """The same network, parameters shared, on space-to-depth convolutions."""
    torso = nature_torso(network)
    assert isinstance(network, QNetwork)
    return QNetwork(SpaceToDepthCNN(torso), network.head).train(network.training)

"""Q networks: a torso that makes features, and a head that makes Q values of them.

A network's ``forward(observation)`` returns the head's output and ``q_values(output)`` maps that
to Q, [B, A]; for the scalar heads here the two are the same. Any ``nn.Module`` that maps an
observation to [B, A] can take their place.

Frames are uint8 0..255 for images and float32 for vectors. Under autocast the torso runs in the
lower precision; the head always runs in float32, for at |Q| around 50 the resolution of bfloat16
is 0.25, more than a typical TD error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdqn.errors import ConfigError
from fastdqn.networks.impala import ImpalaCNN
from fastdqn.networks.onednn_convolution import conv_relu, has_conv_relu
from fastdqn.networks.onednn_linear import Linear, linear


class MLP(nn.Module):
    """Fully connected ReLU layers on the flattened observation (stack included).

    Args:
        inputs: Numbers in the flattened observation.
        hidden_sizes: Of the layers.
        batch_norm: Batch normalisation (Ioffe 2015) between each layer and its ReLU.
    """

    def __init__(
        self, inputs: int, hidden_sizes: Sequence[int], *, batch_norm: bool = False
    ) -> None:
        super().__init__()
        sizes = [inputs, *hidden_sizes]
        self.layers = nn.ModuleList(Linear(inward, outward) for inward, outward in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes[1:] if batch_norm)
        self.features = sizes[-1]

    def forward(self, observation: Tensor) -> Tensor:
        """[B, ...] to [B, features]."""
        x = observation.flatten(1)
        if x.dtype == torch.uint8:
            x = x.float() / 255
        layers = list(self.layers)
        assert isinstance(layers[0], nn.Linear)
        x = x.to(layers[0].weight.dtype)
        if not self.norms:
            for layer in layers:
                x = F.relu(layer(x))
            return x
        for layer, norm in zip(layers, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        return x


class NatureCNN(nn.Module):
    """Three convolutions and one hidden layer (Mnih 2015), on [B, S, H, W]; bytes become 0..1."""

    def __init__(self, channels: int, height: int, width: int, hidden: int) -> None:
        super().__init__()
        if min(height, width) < 36:
            raise ConfigError(
                f"network = 'nature' needs frames of at least 36 x 36, not {height} x {width}; "
                f"use network = 'mlp'."
            )
        self.conv1 = nn.Conv2d(channels, 32, 8, stride=4)
        self.conv2 = nn.Conv2d(32, 64, 4, stride=2)
        self.conv3 = nn.Conv2d(64, 64, 3)
        with torch.no_grad():
            frame = torch.zeros(1, channels, height, width)
            out = self._convolve(frame).flatten(1).shape[1]
        self.hidden = Linear(out, hidden)
        self.features = hidden

    def forward(self, observation: Tensor) -> Tensor:
        """[B, S, H, W] (or [B, S, C, H, W]) to [B, features]."""
        if observation.dim() == 5:
            observation = observation.flatten(1, 2)
        kind = observation.device.type
        if has_conv_relu(kind, self.conv1.weight.dtype):
            return self._forward_onednn(observation)
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else self.conv1.weight.dtype
        # One pass makes the bytes floats (exactly, in bfloat16 too) and the layout channels_last,
        # in which convolutions of so few channels run up to three times as fast.
        x = observation.to(dtype=dtype, memory_format=torch.channels_last)
        scale = 1 / 255 if observation.dtype == torch.uint8 else 1.0
        return F.relu(self.hidden(self._convolve(x, scale).flatten(1)))

    def _forward_onednn(self, observation: Tensor) -> Tensor:
        """The same on a CPU, each convolution with its bias and ReLU in one pass."""
        weight, stride = self.conv1.weight, (4, 4)
        bytewise = observation.dtype == torch.uint8
        if bytewise and _has_words(observation):
            x, weight, stride = *_four_columns(observation, weight), (4, 1)
        else:
            x = observation.to(dtype=weight.dtype, memory_format=torch.channels_last)
        # Layers without biases commute with a positive factor, so 0..255 stays as it is up to the
        # features: the biases are scaled instead of the activations.
        layers = (self.conv1, self.conv2, self.conv3, self.hidden)
        biases = cast("list[Tensor]", [layer.bias for layer in layers])
        if bytewise:
            biases = [bias * 255 for bias in biases]
        x = conv_relu(x, weight, biases[0], stride)
        x = conv_relu(x, self.conv2.weight, biases[1], (2, 2))
        x = conv_relu(x, self.conv3.weight, biases[2], (1, 1))
        features = F.relu(linear(x.flatten(1), self.hidden.weight, biases[3]))
        return features.float() / 255 if bytewise else features

    def _convolve(self, x: Tensor, scale: float = 1.0) -> Tensor:
        # 0..255 to 0..1 behind the first layer's sums: a third of the numbers that the frames have,
        # and scaled weights would be rounded once more in bfloat16.
        bias = self.conv1.bias
        assert bias is not None
        x = F.conv2d(x, self.conv1.weight, stride=4)
        x = F.relu(torch.add(bias.view(-1, 1, 1), x, alpha=scale))
        return F.relu(self.conv3(F.relu(self.conv2(x))))


def _has_words(frames: Tensor) -> bool:
    """Whether the rows of bytes, [B, C, H, W], are whole 32-bit words."""
    # What gets compiled cannot ask for offsets; the replay's are whole frames.
    aligned = torch.compiler.is_compiling() or frames.storage_offset() % 4 == 0
    return aligned and frames.shape[3] % 4 == 0


def _four_columns(frames: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Frames and weights of a convolution with stride 4 as those of one with strides 4 and 1.

    Four pixels side by side become four channels, which are one 32-bit word to move; pixel by pixel
    the change to channels_last takes twice as long.

    Args:
        frames: uint8 [B, C, H, W], W a multiple of 4.
        weight: [D, C, K, L], L a multiple of 4.

    Returns:
        [B, 4 C, H, W / 4], of the weight's dtype, and [D, 4 C, K, L / 4]; channels_last.
    """
    batch, channels, height, width = frames.shape
    words = frames.contiguous().view(batch, channels, height * width).view(torch.int32)
    pixels = words.transpose(1, 2).reshape(-1).view(torch.uint8).to(weight.dtype)
    x = pixels.view(batch, height, width // 4, 4 * channels).permute(0, 3, 1, 2)
    outputs, _, rows, columns = weight.shape
    w = weight.view(outputs, channels, rows, columns // 4, 4).permute(0, 2, 3, 1, 4)
    return x, w.reshape(outputs, rows, columns // 4, 4 * channels).permute(0, 3, 1, 2)


class BatchNormCNN(nn.Module):
    """Convolutions of 16, 32 and 32 channels, 5 x 5 with stride 2, each with BatchNorm and ReLU.

    The network of PyTorch's DQN tutorial (Paszke 2017, for screens of 3 x 40 x 90).

    Args:
        channels: Of the observation, stack included.
        height: In pixels, at least 29.
        width: Likewise.
        hidden_sizes: Of ReLU layers between convolutions and head; the tutorial has none.
    """

    def __init__(
        self, channels: int, height: int, width: int, hidden_sizes: Sequence[int] = ()
    ) -> None:
        super().__init__()
        if min(height, width) < 29:
            raise ConfigError(
                f"network = 'batchnorm_cnn' needs frames of at least 29 x 29, not {height} x "
                f"{width}; use network = 'mlp'."
            )
        plan = pairwise((channels, 16, 32, 32))
        self.convs = nn.ModuleList(nn.Conv2d(c, out, 5, stride=2) for c, out in plan)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out) for out in (16, 32, 32))
        for _ in self.convs:
            height, width = (height - 5) // 2 + 1, (width - 5) // 2 + 1
        sizes = [32 * height * width, *hidden_sizes]
        self.hidden = nn.ModuleList(Linear(inward, outward) for inward, outward in pairwise(sizes))
        self.features = sizes[-1]

    def forward(self, observation: Tensor) -> Tensor:
        """[B, S, H, W] or [B, C, H, W] (or [B, S, C, H, W]) to [B, features]; bytes become 0..1."""
        if observation.dim() == 5:
            observation = observation.flatten(1, 2)
        first = self.convs[0]
        assert isinstance(first, nn.Conv2d)
        x = observation.to(dtype=first.weight.dtype, memory_format=torch.channels_last)
        if observation.dtype == torch.uint8:
            x = x / 255
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        x = x.flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return x


class LinearHead(nn.Module):
    """Q values as one linear layer."""

    def __init__(self, features: int, num_actions: int) -> None:
        super().__init__()
        self.q = nn.Linear(features, num_actions)

    def forward(self, features: Tensor) -> Tensor:
        """[B, features] to [B, A]."""
        return self.q(features)


class DuelingHead(nn.Module):
    """``Q = V + A - mean_a A`` (Wang 2016, eq. 9); each half of the features feeds one stream."""

    def __init__(self, features: int, num_actions: int) -> None:
        super().__init__()
        self.value = nn.Linear(features // 2, 1)
        self.advantage = nn.Linear(features - features // 2, num_actions)

    def forward(self, features: Tensor) -> Tensor:
        """[B, features] to [B, A]."""
        split = self.value.in_features
        value = self.value(features[:, :split])
        advantage = self.advantage(features[:, split:])
        return value + advantage - advantage.mean(dim=1, keepdim=True)


class QNetwork(nn.Module):
    """A torso (which may run in low precision) and a head (which never does)."""

    def __init__(self, torso: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.torso = torso
        self.head = head

    def forward(self, observation: Tensor) -> Tensor:
        """Observation [B, ...] to head output, float32."""
        features = self.torso(observation)
        kind = observation.device.type
        if features.dtype == torch.bfloat16:
            features = features.float()
        if not torch.is_autocast_enabled(kind):
            return self.head(features)
        with torch.autocast(kind, enabled=False):
            return self.head(features.float())

    def q_values(self, output: Tensor) -> Tensor:
        """Head output to Q, [B, A]."""
        return output


def to_q(network: nn.Module, output: Tensor) -> Tensor:
    """Q, [B, A], of what a network's forward returned; one without ``q_values`` returns Q."""
    q_values = getattr(network, "q_values", None)
    return output if q_values is None else q_values(output)


def forward_output(
    network: nn.Module,
    observation: Tensor,
    autocast: bool,
    draws: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The head's output, float32.

    Args:
        network: Any module.
        observation: [B, ...].
        autocast: Run it under autocast to bfloat16.
        draws: Random numbers, for a network that has ``random_shapes``; None: its mean.
    """
    # A context per forward: autocast caches lowered weights, and those made without grad must not
    # serve a forward that needs it.
    kind = observation.device.type
    with torch.autocast(kind, dtype=torch.bfloat16) if autocast else nullcontext():
        output = network(observation, randoms=draws) if draws else network(observation)
    return output.float()


def forward_q(network: nn.Module, observation: Tensor, autocast: bool) -> Tensor:
    """Q values, float32 [B, A]."""
    return to_q(network, forward_output(network, observation, autocast))


@contextmanager
def evaluation_mode(*networks: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards every submodule in the mode that it had."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


def make_network(
    observation_shape: Sequence[int],
    num_actions: int,
    *,
    kind: str = "auto",
    frame_stack: int | None = None,
    image: bool | None = None,
    hidden_sizes: Sequence[int] = (120, 84),
    dueling: bool = False,
    batch_norm: bool = False,
    impala_width: int = 1,
) -> QNetwork:
    """A Q network for observations [B, *O] or [B, S, *O].

    Args:
        observation_shape: O, of one frame.
        num_actions: A.
        kind: ``mlp``, ``nature``, ``impala``, ``batchnorm_cnn``, or ``auto``: nature for images.
        frame_stack: S.
        image: Whether frames are images; None: from two dimensions up they are.
        hidden_sizes: Of the mlp's layers; of the one layer after nature's and impala's
            convolutions; of batchnorm_cnn's, which needs none.
        dueling: A dueling head; the last hidden layer is then doubled, one half per stream.
        batch_norm: Batch normalisation in the mlp.
        impala_width: Multiplies impala's channels.

    Raises:
        ConfigError: Where the network does not fit the observation.
    """
    shape = tuple(observation_shape)
    if image is None:
        image = len(shape) >= 2
    if kind == "auto":
        kind = "nature" if image else "mlp"
    sizes = list(hidden_sizes)
    if batch_norm and kind != "mlp":
        raise ConfigError(
            f"batch_norm = True is for network = 'mlp', not {kind!r}; use network = "
            f"'batchnorm_cnn' for images."
        )
    if dueling and not sizes:
        raise ConfigError("dueling = True needs a hidden layer to split; set hidden_sizes.")
    if dueling:
        sizes[-1] *= 2
    torso: MLP | NatureCNN | ImpalaCNN | BatchNormCNN
    if kind == "mlp":
        torso = MLP(math.prod(shape) * (frame_stack or 1), sizes, batch_norm=batch_norm)
    elif kind == "batchnorm_cnn":
        torso = BatchNormCNN(*_image_size(shape, frame_stack, kind), sizes)
    else:
        size = _image_size(shape, frame_stack, kind)
        if len(sizes) != 1:
            raise ConfigError(
                f"hidden_sizes = {tuple(hidden_sizes)} must be one size for network = {kind!r}; "
                f"use 512."
            )
        if kind == "impala":
            torso = ImpalaCNN(*size, sizes[0], multiplier=impala_width)
        else:
            torso = NatureCNN(*size, sizes[0])
    head = DuelingHead if dueling else LinearHead
    return QNetwork(torso, head(torso.features, num_actions))


def _image_size(shape: tuple[int, ...], frame_stack: int | None, kind: str) -> tuple[int, int, int]:
    """Channels (stack included), height and width."""
    if len(shape) == 2 and frame_stack:
        return frame_stack, *shape  # type: ignore[return-value]
    if len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4):
        raise ConfigError(
            f"Frames of shape {shape} have their channels last; wrap the env so that they are "
            f"{(shape[2], *shape[:2])}, e.g. with gymnasium.wrappers.TransformObservation."
        )
    if len(shape) == 3:
        return shape[0] * (frame_stack or 1), shape[1], shape[2]
    raise ConfigError(
        f"network = {kind!r} needs images [C, H, W], or [H, W] with frame_stack set, not frames of "
        f"shape {shape}; use network = 'mlp'."
    )

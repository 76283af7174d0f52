"""The convolutional network of the Nature paper (Mnih 2015)."""

from __future__ import annotations

from torch import nn

from fastdqn.networks.strided_cnn import StridedCNN


class NatureCNN(StridedCNN):
    """Three convolutions and one hidden layer, of 512 units in the paper (Mnih 2015).

    Args:
        channels: Of the observation, stack included.
        height: In pixels.
        width: Likewise.
        hidden: Units of the hidden layer.
        beside: Features of something else that the hidden layer takes behind those of the body.
        padding: ``valid``: none. ``same``: zeros around what each convolution sees.
        linear: Makes the hidden layer.

    Raises:
        ConfigError: Where the frames are too small, or a size is no whole number from 1.
    """

    PLAN = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    NAME, MIN_SIZE = "nature", 36

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    conv3: nn.Conv2d

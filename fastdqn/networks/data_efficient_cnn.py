"""The convolutional network of data-efficient Rainbow (van Hasselt 2019, arXiv 1906.05243)."""

from __future__ import annotations

from fastdqn.networks.strided_cnn import StridedCNN


class DataEfficientCNN(StridedCNN):
    """Two convolutions of 5 x 5 with stride 5 and one hidden layer, of 256 units in the paper.

    On 84 x 84 they make 576 features, where the Nature network makes 3,136: a sixth of its work.
    Where strides do not divide a size, what is left over at the right and below is not seen: of 84
    pixels the last 9, of 36 the last 11. ``padding="same"`` shows them.

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

    PLAN = ((32, 5, 5), (64, 5, 5))
    NAME, MIN_SIZE = "der", 25

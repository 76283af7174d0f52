"""Q networks: torsos that make features, heads that make Q values of them.

May import config, system and below.
Start reading at ``q_network``, then ``torso``, which says what parts a torso has; ``spec`` is the
description that a checkpoint keeps, ``torsos`` lists what it can name, ``values`` says what the
numbers of a head stand for, ``draws`` which random numbers a network takes, and ``forward`` is how
others call one. What oneDNN does on a CPU stands apart, in ``onednn``.

The names in ``__all__`` are public, and loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastdqn._lazy import attach

_HOME = {
    "make_network": "networks.make",
    "QNetwork": "networks.q_network",
    "Torso": "networks.torso",
    "MLP": "networks.mlp",
    "NatureCNN": "networks.nature",
    "SmallCNN": "networks.small_cnn",
    "DataEfficientCNN": "networks.data_efficient_cnn",
    "ImpalaCNN": "networks.impala",
    "SmallResNet": "networks.small_resnet",
    "BatchNormCNN": "networks.batchnorm_cnn",
    "LinearHead": "networks.heads",
    "DuelingHead": "networks.heads",
    "ScalarValues": "networks.values",
    "CategoricalValues": "networks.values",
    "QuantileValues": "networks.values",
    "NoisyLinear": "networks.noisy_linear",
    "CosineEmbedding": "networks.cosine_embedding",
}

__all__ = [
    "MLP",
    "BatchNormCNN",
    "CategoricalValues",
    "CosineEmbedding",
    "DataEfficientCNN",
    "DuelingHead",
    "ImpalaCNN",
    "LinearHead",
    "NatureCNN",
    "NoisyLinear",
    "QNetwork",
    "QuantileValues",
    "ScalarValues",
    "SmallCNN",
    "SmallResNet",
    "Torso",
    "make_network",
]

if TYPE_CHECKING:
    from fastdqn.networks.batchnorm_cnn import BatchNormCNN
    from fastdqn.networks.cosine_embedding import CosineEmbedding
    from fastdqn.networks.data_efficient_cnn import DataEfficientCNN
    from fastdqn.networks.heads import DuelingHead, LinearHead
    from fastdqn.networks.impala import ImpalaCNN
    from fastdqn.networks.make import make_network
    from fastdqn.networks.mlp import MLP
    from fastdqn.networks.nature import NatureCNN
    from fastdqn.networks.noisy_linear import NoisyLinear
    from fastdqn.networks.q_network import QNetwork
    from fastdqn.networks.small_cnn import SmallCNN
    from fastdqn.networks.small_resnet import SmallResNet
    from fastdqn.networks.torso import Torso
    from fastdqn.networks.values import CategoricalValues, QuantileValues, ScalarValues
else:
    __getattr__, __dir__ = attach(__name__, _HOME)

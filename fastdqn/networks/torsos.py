"""Every torso by the name that ``network`` has in a configuration: a new one is one line here."""

from __future__ import annotations

from fastdqn.networks.batchnorm_cnn import BatchNormCNN
from fastdqn.networks.data_efficient_cnn import DataEfficientCNN
from fastdqn.networks.impala import ImpalaCNN
from fastdqn.networks.mlp import MLP
from fastdqn.networks.nature import NatureCNN
from fastdqn.networks.small_cnn import SmallCNN
from fastdqn.networks.small_resnet import SmallResNet
from fastdqn.networks.torso import Torso

TORSOS: dict[str, type[Torso]] = {
    "mlp": MLP,
    "nature": NatureCNN,
    "small_cnn": SmallCNN,
    "der": DataEfficientCNN,
    "impala": ImpalaCNN,
    "small_resnet": SmallResNet,
    "batchnorm_cnn": BatchNormCNN,
}

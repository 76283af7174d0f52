"""The network that a configuration describes, and whether another one is the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fastdqn.config.config import Config
from fastdqn.errors import ConfigError
from fastdqn.networks.make import make_network
from fastdqn.networks.q_network import QNetwork
from fastdqn.spaces import Spaces


def config_network(config: Config, spaces: Spaces) -> QNetwork:
    """Made anew, on torch's current device, with weights from its default generator.

    Raises:
        ConfigError: Where it does not fit the observations.
    """
    return make_network(
        spaces.frame_shape,
        spaces.num_actions,
        kind=config.network,
        frame_stack=spaces.frame_stack,
        image=spaces.image,
        hidden_sizes=config.hidden_sizes,
        dueling=config.dueling,
        batch_norm=config.batch_norm,
        impala_width=config.impala_width,
    )


def is_config_network(network: nn.Module, config: Config, spaces: Spaces) -> bool:
    """Whether the configuration alone makes the same layers, whoever made these."""
    if type(network) is not QNetwork:
        return False
    try:
        with torch.device("meta"):  # shapes, no memory
            made = config_network(config, spaces)
    except ConfigError:
        return False
    return _structure(network) == _structure(made)


def _structure(network: nn.Module) -> Any:
    layers = [(name, type(m), m.extra_repr()) for name, m in network.named_modules()]
    return layers, {name: (t.shape, t.dtype) for name, t in network.state_dict().items()}

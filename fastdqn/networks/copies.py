"""Other modules of the same network: in bfloat16, or in evaluation mode."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fastdqn.networks.normalizer import Normalizer
from fastdqn.networks.q_network import QNetwork


def lower(network: QNetwork) -> QNetwork:
    """A copy with its torso in bfloat16, for one that is not trained further."""
    lowered = copy.deepcopy(network)
    lowered.torso.to(torch.bfloat16)
    return lowered


def shared_statistics(network: nn.Module) -> dict[int, Any]:
    """For ``copy.deepcopy``: a copy that is to see observations as the network does.

    The running statistics of its normalizer, by identity: the copy gets the same tensors. Unlike
    those of BatchNorm they are no function of the parameters.
    """
    normalizers = (m for m in network.modules() if isinstance(m, Normalizer))
    return {id(t): t for normalizer in normalizers for t in normalizer.buffers()}


def share_in_evaluation_mode(network: nn.Module) -> nn.Module:
    """The same parameters and buffers in another module, in evaluation mode."""
    shared: dict[int, Tensor] = {id(t): t for t in [*network.parameters(), *network.buffers()]}
    return copy.deepcopy(network, shared).eval()

"""A network whose body runs on bfloat16 copies of the weights.

The masters stay float32 and are what the optimizer moves; after each step one copy brings the
bfloat16 ones up to date. Autocast would lower every weight again in every forward: on a GPU that
is as many small kernels as the network itself has.
"""

from __future__ import annotations

import copy

import torch

from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.networks.copies import lowered_parts
from fastdqn.networks.q_network import QNetwork


class Bfloat16Twin:
    """A second network on the same head and buffers, and on copies of the body's parameters.

    Args:
        network: The masters.
        flat: Their flat buffer.
    """

    def __init__(self, network: QNetwork, flat: FlatParameters) -> None:
        self._masters = flat
        self.data = flat.data.to(torch.bfloat16)
        shared = {id(t): t for t in [*network.head.parameters(), *network.buffers()]}
        self.network = copy.deepcopy(network, shared)
        views = flat.named_views(self.data)
        for part, module in lowered_parts(self.network).items():
            for name, parameter in module.named_parameters(prefix=part):
                parameter.data = views[name]

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the masters."""
        self.data.copy_(self._masters.data)

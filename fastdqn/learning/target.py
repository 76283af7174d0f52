"""The target network: a copy that follows the online network, or no copy at all."""

from __future__ import annotations

import torch
from torch import nn

from fastdqn.learning.bf16 import Bfloat16Twin
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.networks.copies import copied, share_in_evaluation_mode, shared_statistics
from fastdqn.networks.q_network import QNetwork


class TargetNetwork:
    """What values the next state, and when it moves (Mnih 2015; Polyak averages: Lillicrap 2016).

    Args:
        online: The masters, on their device and in ``flat``.
        flat: Their flat buffer.
        acting: What computes the online network's Q without a gradient.
        period_updates: Move every so many updates; None: no copy, the online network values.
        tau: How far: ``target += tau (online - target)``.
        lowered: Compute with a twin in bfloat16.
    """

    def __init__(
        self,
        online: nn.Module,
        flat: FlatParameters,
        acting: nn.Module,
        *,
        period_updates: int | None,
        tau: float,
        lowered: bool,
    ) -> None:
        self.period_updates, self.tau = period_updates, tau
        self.twin: Bfloat16Twin | None = None
        self._online, self._online_flat = online, flat
        if period_updates is None:
            self.network = share_in_evaluation_mode(online)
            self.computing, self.flat = acting, flat
            return
        self.network = copied(online, shared_statistics(online)).eval().requires_grad_(False)
        self.computing, self.flat = self.network, FlatParameters(self.network)
        if lowered and isinstance(self.network, QNetwork):
            self.twin = Bfloat16Twin(self.network, self.flat)
            self.computing = self.twin.network

    @torch.no_grad()
    def sync(self, tau: float = 1.0) -> None:
        """``target += tau (online - target)``; buffers (running statistics) are copied."""
        if tau == 1.0:
            self.flat.data.copy_(self._online_flat.data)
        else:
            self.flat.data.lerp_(self._online_flat.data, tau)
        buffers = zip(self.network.buffers(), self._online.buffers(), strict=True)
        for target, online in buffers:
            target.copy_(online)
        if self.twin is not None:
            self.twin.refresh()

    @property
    def moves_with_every_update(self) -> bool:
        """Then it belongs to what is captured or compiled."""
        return self.period_updates == 1

    def updates_until_due(self, updates: int) -> int | None:
        """How many updates may go before it moves between two of them; None: any number."""
        if self.period_updates is None or self.period_updates == 1:
            return None
        return self.period_updates - updates % self.period_updates

    def is_due(self, updates: int) -> bool:
        """Whether it moves after so many updates, on the host's count."""
        period = self.period_updates
        return period is not None and period > 1 and updates % period == 0

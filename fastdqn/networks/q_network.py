"""A Q network: a torso that makes features, and a head that makes Q values of them.

A network's ``forward(observation)`` returns the head's output and ``q_values(output)`` maps that
to Q, [B, A]; for the scalar heads here the two are the same. Any ``nn.Module`` that maps an
observation to [B, A] can take their place.

Frames are uint8 0..255 for images and float32 for vectors. Under autocast the torso runs in the
lower precision; the head always runs in float32, for at |Q| around 50 the resolution of bfloat16
is 0.25, more than a typical TD error.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QNetwork(nn.Module):
    """A torso (which may run in low precision) and a head (which never does).

    Args:
        torso: Observations to features, [B, H]; any module does, :class:`Torso` has parts.
        head: Features to its output.
        encoder: Frames to what the torso takes, in float32; None: those are the same.
    """

    def __init__(self, torso: nn.Module, head: nn.Module, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.torso = torso
        self.head = head

    def forward(self, observation: Tensor) -> Tensor:
        """Observation [B, ...] to head output, float32."""
        if self.encoder is not None:
            observation = self.encoder(observation)
        features = self.torso(observation)
        kind = features.device.type
        if features.dtype == torch.bfloat16:
            features = features.float()
        if not torch.is_autocast_enabled(kind):
            return self.head(features)
        with torch.autocast(kind, enabled=False):
            return self.head(features.float())

    def q_values(self, output: Tensor) -> Tensor:
        """Head output to Q, [B, A]."""
        return output

"""A Q network: a torso that makes features, and a head that makes values of them.

A network's ``forward(observation)`` returns the head's output and ``q_values(output)`` maps that
to Q, [B, A]; for scalar heads the two are the same. Any ``nn.Module`` that maps an observation to
[B, A] can take their place.

Frames are uint8 0..255 for images and float32 for vectors. Under autocast the torso runs in the
lower precision; the head always runs in float32, for at |Q| around 50 the resolution of bfloat16
is 0.25, more than a typical TD error.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastdqn.errors import ConfigError
from fastdqn.networks.cosine_embedding import CosineEmbedding
from fastdqn.networks.draws import Draw, Randoms
from fastdqn.networks.noisy_linear import NoisyLinear
from fastdqn.networks.torso import Torso
from fastdqn.networks.values import ScalarValues, Values


class QNetwork(nn.Module):
    """A torso (which may run in low precision) and a head (which never does).

    Args:
        torso: Observations to features, [B, H]; any module does, :class:`Torso` has parts.
        head: Features to its output.
        encoder: Frames to what the torso takes, in float32; None: those are the same.
        values: What the numbers of the head stand for.
        embedding: Of quantile fractions, for a torso that has parts: its body's features are
            multiplied by those of each fraction before its hidden layers, and the head makes one
            quantile of the return for each (Dabney 2018b, arXiv 1806.06923, figure 1).

    Raises:
        ConfigError: Where a part is of another type.
    """

    LOWERED = ("torso", "embedding")
    """The parts that may run in low precision."""

    def __init__(
        self,
        torso: nn.Module,
        head: nn.Module,
        encoder: nn.Module | None = None,
        *,
        values: Values = ScalarValues(),  # noqa: B008, frozen
        embedding: CosineEmbedding | None = None,
    ) -> None:
        super().__init__()
        for name, part in {"torso": torso, "head": head, "encoder": encoder}.items():
            if not isinstance(part, nn.Module) and (name != "encoder" or part is not None):
                what = part.__name__ if isinstance(part, type) else type(part).__name__
                raise ConfigError(f"{name} is {what}; pass an instance of a torch.nn.Module.")
        if not isinstance(values, Values):
            raise ConfigError(
                f"values is {type(values).__name__}; pass fastdqn.networks.ScalarValues, or "
                f"those of a distribution."
            )
        if embedding is not None and not (
            isinstance(embedding, CosineEmbedding) and isinstance(torso, Torso)
        ):
            raise ConfigError(
                f"embedding is {type(embedding).__name__} for a torso that is "
                f"{type(torso).__name__}; pass a fastdqn.networks.CosineEmbedding beside a "
                f"fastdqn.networks.Torso, or leave it out."
            )
        self.encoder = encoder
        self.torso = torso
        if embedding is not None:
            self.embedding = embedding
        self.head = head
        self.values = values
        self.implicit = embedding is not None
        torso_noise, head_noise = _name_noise(self, "torso"), _name_noise(self, "head")
        self._noisy_torso, self._noisy_head = bool(torso_noise), bool(head_noise)
        self._noise = torso_noise | head_noise  # every update asks

    def random_shapes(self, batch_size: int, samples: int | None = None) -> dict[str, Draw]:
        """The random numbers of a forward in an update: noise for all rows, fractions for each.

        Args:
            batch_size: B.
            samples: Fractions of each row; None: as many as it acts by.
        """
        shapes: dict[str, Draw] = {}
        if self.implicit:
            shapes["tau"] = Draw("uniform", (batch_size, samples or self.embedding.samples))
        return shapes | self._noise

    def acting_shapes(self, num_envs: int) -> dict[str, Draw]:
        """The random numbers of a forward that acts in training: each env has its own.

        Args:
            num_envs: N.
        """
        shapes: dict[str, Draw] = {}
        if self.implicit:
            size = (num_envs, self.embedding.samples)
            shapes["tau"] = Draw("uniform", size, self.embedding.cvar)
        for layer in self.modules():
            if isinstance(layer, NoisyLinear):
                shapes |= layer.draws(num_envs)
        return shapes

    def forward(self, observation: Tensor, randoms: Randoms | None = None) -> Tensor:
        """Observation [B, ...] to head output, float32.

        Args:
            observation: As stored.
            randoms: Those of ``random_shapes`` or ``acting_shapes``. None: mean weights, and the
                fractions that evaluation acts by.
        """
        if self.encoder is not None:
            observation = self.encoder(observation)
        if self.implicit:
            return self._implicit_output(observation, randoms)
        if self._noisy_torso and randoms is not None:
            features = self.torso(observation, randoms)
        else:
            features = self.torso(observation)
        return self._in_float32(features, randoms)

    def _in_float32(self, features: Tensor, randoms: Randoms | None) -> Tensor:
        """Features to the head's output, whatever precision they and the caller have."""
        kind = features.device.type
        if features.dtype == torch.bfloat16:
            features = features.float()
        if not torch.is_autocast_enabled(kind):
            return self._to_output(features, randoms)
        with torch.autocast(kind, enabled=False):
            return self._to_output(features.float(), randoms)

    def _to_output(self, features: Tensor, randoms: Randoms | None) -> Tensor:
        if self._noisy_head and randoms is not None:
            return self.head(features, randoms)
        return self.head(features)

    def _implicit_output(self, observation: Tensor, randoms: Randoms | None) -> Tensor:
        """[B, ...] to [B, A, N]; between, the fractions of a row are rows one after another."""
        torso = self.torso
        assert isinstance(torso, Torso)
        body = torso.body(observation)
        batch = body.shape[0]  # len() would be a constant to an exporter
        tau = None if randoms is None else randoms.get("tau")
        if tau is None:
            tau = self.embedding.to_act_by(batch, body.device)
        rows = batch, tau.shape[1]  # -1 could be anything where there are no observations
        embedded = self.embedding(tau).unflatten(0, rows)
        features = torso.to_hidden((body.unsqueeze(1) * embedded).flatten(0, 1), randoms)
        return self._in_float32(features, randoms).unflatten(0, rows).transpose(1, 2)

    def q_values(self, output: Tensor) -> Tensor:
        """Head output to Q, [B, A].

        Args:
            output: Of a forward, [B, A] or [B, A, N].
        """
        return self.values.q_values(output)

    def extra_repr(self) -> str:
        """What makes two of them alike."""
        return str(self.values)


def _name_noise(network: nn.Module, part: str) -> dict[str, Draw]:
    """Give the noise of a part's layers their names; all of it, one draw for all rows."""
    found: dict[str, Draw] = {}
    for name, layer in network.get_submodule(part).named_modules(prefix=part):
        if isinstance(layer, NoisyLinear):
            layer.noise_name = name
            found |= layer.draws()
    return found

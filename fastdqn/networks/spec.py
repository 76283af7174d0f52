"""The description of a Q network: plain data that makes the same layers wherever it is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import nn

from fastdqn.errors import ConfigError, cut_short
from fastdqn.networks.heads import DuelingHead, LinearHead
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.torsos import TORSOS

_MOST = 2**31  # of any size, and more than any network has: it is read from files, too
_MOST_DIMENSIONS, _MOST_LAYERS = 8, 1_000


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What a :class:`QNetwork` is made of. Equal ones make equal layers.

    Attributes:
        frame_shape: O, of one frame.
        num_actions: A.
        frame_stack: S; None: observations are frames.
        torso: Its name in :data:`fastdqn.networks.torsos.TORSOS`.
        hidden_sizes: Of the mlp's layers; of the one layer after nature's and impala's
            convolutions; of batchnorm_cnn's, which needs none.
        dueling: A dueling head; the last hidden layer is then doubled, one half per stream.
        batch_norm: Batch normalisation in the mlp.
        impala_width: Multiplies impala's channels.
    """

    frame_shape: tuple[int, ...]
    num_actions: int
    frame_stack: int | None
    torso: str  # never auto, see resolve_torso
    hidden_sizes: tuple[int, ...]
    dueling: bool
    batch_norm: bool
    impala_width: int

    def build(self) -> QNetwork:
        """The network, on torch's current device, with weights from its default generator.

        Raises:
            ConfigError: Where it does not fit the observations.
        """
        if self.torso not in TORSOS:
            raise ConfigError(
                f"network = {self.torso!r} must be one of {', '.join(TORSOS)}, or auto."
            )
        if self.batch_norm and self.torso != "mlp":
            raise ConfigError(
                f"batch_norm = True is for network = 'mlp', not {self.torso!r}; use network = "
                f"'batchnorm_cnn' for images."
            )
        if self.dueling and not self.hidden_sizes:
            raise ConfigError("dueling = True needs a hidden layer to split; set hidden_sizes.")
        torso = TORSOS[self.torso].from_spec(self)
        head = DuelingHead if self.dueling else LinearHead
        return QNetwork(torso, head(torso.features, self.num_actions))

    @property
    def torso_sizes(self) -> tuple[int, ...]:
        """``hidden_sizes`` as the torso has them."""
        *sizes, last = self.hidden_sizes or (0,)
        return (*sizes, 2 * last) if self.dueling else self.hidden_sizes

    @property
    def hidden_size(self) -> int:
        """Of a torso's only hidden layer; ConfigError where there are more or none."""
        if len(self.hidden_sizes) != 1:
            raise ConfigError(
                f"hidden_sizes = {self.hidden_sizes} must be one size for network = "
                f"{self.torso!r}; use 512."
            )
        return self.torso_sizes[0]

    @property
    def image_size(self) -> tuple[int, int, int]:
        """Channels (stack included), height and width; ConfigError where frames are no images."""
        shape, stack = self.frame_shape, self.frame_stack
        if len(shape) == 2 and stack:
            return stack, *shape  # type: ignore[return-value]
        if len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4):
            raise ConfigError(
                f"Frames of shape {shape} have their channels last; wrap the env so that they are "
                f"{(shape[2], *shape[:2])}, e.g. with gymnasium.wrappers.TransformObservation."
            )
        if len(shape) == 3:
            return shape[0] * (stack or 1), shape[1], shape[2]
        raise ConfigError(
            f"network = {self.torso!r} needs images [C, H, W], or [H, W] with frame_stack set, not "
            f"frames of shape {shape}; use network = 'mlp'."
        )

    def describes(self, network: nn.Module) -> bool:
        """Whether it makes the same layers as a network has, whoever made those."""
        if type(network) is not QNetwork:
            return False
        try:
            with torch.device("meta"):  # shapes, no memory
                made = self.build()
        except ConfigError:
            return False
        return _structure(network) == _structure(made)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, data: Any) -> NetworkSpec:
        """What :meth:`to_dict` made, read back; it may be a forger's.

        Raises:
            ConfigError: Where it is something else.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(data, dict):
            raise ConfigError(f"network = {cut_short(data)} must be an object of {names}.")
        for name in sorted(data.keys() ^ set(names)):
            wrong = "lacks" if name in names else "has a field that no network has,"
            raise ConfigError(f"network {wrong} {cut_short(name)}; it needs {', '.join(names)}.")
        right = {
            "frame_shape": _are_sizes(data["frame_shape"], _MOST_DIMENSIONS),
            "num_actions": _is_size(data["num_actions"]),
            "frame_stack": data["frame_stack"] is None or _is_size(data["frame_stack"]),
            "torso": isinstance(data["torso"], str) and data["torso"] in TORSOS,
            "hidden_sizes": _are_sizes(data["hidden_sizes"], _MOST_LAYERS),
            "dueling": type(data["dueling"]) is bool,
            "batch_norm": type(data["batch_norm"]) is bool,
            "impala_width": _is_size(data["impala_width"]),
        }
        for name, good in right.items():
            if not good:
                raise ConfigError(f"network.{name} = {cut_short(data[name])} is no {name}.")
        tuples = {name: tuple(data[name]) for name in ("frame_shape", "hidden_sizes")}
        return cls(**{**data, **tuples})


def resolve_torso(kind: str, image: bool) -> str:
    """The torso that ``auto`` stands for: nature for images, else mlp; others stay."""
    if kind != "auto":
        return kind
    return "nature" if image else "mlp"


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MOST


def _are_sizes(value: Any, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(map(_is_size, value))


def _structure(network: nn.Module) -> Any:
    layers = [(name, type(m), m.extra_repr()) for name, m in network.named_modules()]
    return layers, {name: (t.shape, t.dtype) for name, t in network.state_dict().items()}

"""The description of a Q network: plain data that makes the same layers wherever it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import nn

from fastdqn.config.arguments import check_like_fields
from fastdqn.config.groups import NetworkFields
from fastdqn.errors import ConfigError, cut_short
from fastdqn.frame_format import FrameFormat
from fastdqn.networks.cosine_embedding import CosineEmbedding
from fastdqn.networks.encoder import FrameEncoder, needs_encoder
from fastdqn.networks.first_weights import draw_first_weights
from fastdqn.networks.heads import DuelingHead, LinearHead
from fastdqn.networks.image_and_vector import VECTOR_FEATURES, ImageAndVector
from fastdqn.networks.nature import NatureCNN
from fastdqn.networks.noisy_linear import NoisyLinear
from fastdqn.networks.normalized_linear import NormalizedLinear, NormalizedNoisyLinear
from fastdqn.networks.onednn import Linear
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.strided_cnn import StridedCNN
from fastdqn.networks.torso import MakeLayer
from fastdqn.networks.torsos import TORSOS
from fastdqn.networks.values import CategoricalValues, QuantileValues, ScalarValues, Values

_MOST = 2**31  # of any size, and more than any network has: it is read from files, too
_MOST_DIMENSIONS, _MOST_LAYERS = 8, 1_000
# Of a spec and of a configuration, the same by name, type and range.
_LIKE_FIELDS = (
    "head", "atoms", "value_min", "value_max", "quantiles", "iqn_cosines", "iqn_policy_samples",
    "iqn_cvar", "noisy", "noisy_sigma", "padding", "init", "layer_norm",
)  # fmt: skip

HEADS = ("scalar", "c51", "qr", "iqn")


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What a :class:`QNetwork` is made of. Equal ones make equal layers.

    Attributes:
        frame_shape: O, of one frame.
        num_actions: A.
        frame_stack: S; None: observations are frames.
        torso: Its name in :data:`fastdqn.networks.torsos.TORSOS`.
        hidden_sizes: Of the mlp's layers; of the one layer after the convolutions of nature,
            der, small_cnn, impala and small_resnet; of batchnorm_cnn's, which needs none.
        dueling: A dueling head; the last hidden layer is then doubled, one half per stream.
        batch_norm: Batch normalisation in the mlp.
        impala_width: Multiplies impala's channels.
        frame_dtype: Of frames as they are stored: ``uint8`` or ``float32``.
        frame_format: What the numbers of a frame mean; None: images or vectors, of which the torso
            divides bytes by 255.
        normalize: Shift and scale numbers by running statistics.
        head: What the head's numbers stand for, by its name in a configuration: :data:`HEADS`.
        atoms: Of head c51.
        value_min: Of its first atom.
        value_max: Of its last.
        quantiles: Of head qr.
        iqn_cosines: Of head iqn: features of a fraction.
        iqn_policy_samples: Of head iqn: fractions to act by.
        iqn_cvar: Of head iqn: the lowest share of the returns to act by.
        noisy: Noise in the hidden layer after the body and in the head.
        noisy_sigma: Its deviation at the start, times the root of a layer's inputs.
        padding: Of nature's and der's convolutions: ``valid`` or ``same``.
        init: How weights are drawn, by its name in :data:`fastdqn.networks.first_weights.INITS`.
        layer_norm: Layer normalisation before the ReLU of each hidden layer.
    """

    frame_shape: tuple[int, ...]
    num_actions: int
    frame_stack: int | None
    torso: str  # never auto, see resolve_torso
    hidden_sizes: tuple[int, ...]
    dueling: bool
    batch_norm: bool
    impala_width: int
    # With defaults, for older checkpoints do without.
    frame_dtype: str = "uint8"
    frame_format: FrameFormat | None = None
    normalize: bool = False
    head: str = "scalar"
    atoms: int = 51
    value_min: float = -10.0
    value_max: float = 10.0
    quantiles: int = 200
    iqn_cosines: int = 64
    iqn_policy_samples: int = 32
    iqn_cvar: float = 1.0
    noisy: bool = False
    noisy_sigma: float = 0.5
    padding: str = "valid"
    init: str = "torch"
    layer_norm: bool = False

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
        if self.batch_norm and self.layer_norm:
            raise ConfigError("layer_norm = True and batch_norm exclude each other; leave one out.")
        if self.dueling and not self.hidden_sizes:
            raise ConfigError("dueling = True needs a hidden layer to split; set hidden_sizes.")
        kind = TORSOS[self.torso]
        if self.padding != "valid" and not issubclass(kind, StridedCNN):
            raise ConfigError(
                f"padding = {self.padding!r} is for network = 'nature' and 'der', not "
                f"{self.torso!r}; leave it out."
            )
        if self.impala_width != 1 and self.torso != "impala":
            raise ConfigError(
                f"impala_width = {self.impala_width} is for network = 'impala', not "
                f"{self.torso!r}; leave it out."
            )
        torso = ImageAndVector.around(kind, self) if self.beside else kind.from_spec(self)
        values = self.values
        head = DuelingHead if self.dueling else LinearHead
        # Scalar heads are too small for what Linear gains.
        linear = nn.Linear if values.numbers is None and not self.noisy else self.linear
        made = head(torso.features, self.num_actions, values.numbers, linear)
        embedding = None
        if self.head == "iqn":
            embedding = CosineEmbedding(
                torso.body_features, self.iqn_cosines, self.iqn_policy_samples, self.iqn_cvar
            )
        network = QNetwork(torso, made, self._encoder(), values=values, embedding=embedding)
        draw_first_weights(network, self.init)
        return network

    @property
    def values(self) -> Values:
        """What the head's numbers stand for; ConfigError where there is no such head."""
        if self.head == "c51":
            return CategoricalValues(self.value_min, self.value_max, self.atoms)
        if self.head in ("qr", "iqn"):
            return QuantileValues(self.quantiles if self.head == "qr" else None)
        if self.head != "scalar":
            raise ConfigError(f"head = {self.head!r} must be one of {', '.join(HEADS)}.")
        return ScalarValues()

    @property
    def linear(self) -> MakeLayer:
        """Makes a layer behind the body, with noise or without."""
        return partial(NoisyLinear, sigma=self.noisy_sigma) if self.noisy else Linear

    @property
    def hidden_linear(self) -> MakeLayer:
        """Makes a hidden layer behind the body: with noise or without, normalised or not."""
        if not self.layer_norm:
            return self.linear
        if self.noisy:
            return partial(NormalizedNoisyLinear, sigma=self.noisy_sigma)
        return NormalizedLinear

    def _encoder(self) -> FrameEncoder | None:
        format = self.frame_format
        if format is None or not needs_encoder(self.frame_dtype, format, self.normalize):
            if self.normalize:
                raise ConfigError("normalize_observations needs to know what frames mean.")
            return None
        encoder = FrameEncoder(
            self.frame_shape,
            self.frame_dtype,
            format,
            normalize=self.normalize,
            flat=self.torso == "mlp",
        )
        if self.normalize and encoder.normalizer is None:
            raise ConfigError(
                "normalize_observations = True finds no numbers in observations that are images or "
                "categories; leave it out."
            )
        return encoder

    @property
    def packed_image(self) -> tuple[int, int, int] | None:
        """[C, H, W] of the image in a packed frame."""
        return None if self.frame_format is None else self.frame_format.packed_image

    @property
    def beside(self) -> int:
        """Features of a vector beside the image; 0: there is none, or the torso takes both."""
        return VECTOR_FEATURES if self.packed_image and self.torso != "mlp" else 0

    @property
    def vector_inputs(self) -> int:
        """Numbers in the vector as the torso gets it, one-hot, stack included."""
        format, stack = self.frame_format, self.frame_stack or 1
        if format is None:
            return math.prod(self.frame_shape) * stack
        numbers = format.numbers(self.frame_shape, self.frame_dtype) - len(format.one_hot)
        return (sum(format.one_hot) + numbers) * stack

    @property
    def flat_inputs(self) -> int:
        """Numbers in an observation as one vector."""
        pixels = 0 if self.packed_image is None else math.prod(self.packed_image)
        return pixels * (self.frame_stack or 1) + self.vector_inputs

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
        shape, stack = self.packed_image or self.frame_shape, self.frame_stack
        if len(shape) == 2 and stack:
            return stack, *shape  # type: ignore[return-value]
        unread = self.frame_format is None  # so that nobody has moved the channels
        if unread and len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4):
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
        format = None if self.frame_format is None else self.frame_format.to_dict()
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        return {**values, "frame_format": format}

    @classmethod
    def from_dict(cls, data: Any) -> NetworkSpec:
        """What :meth:`to_dict` made, read back; it may be a forger's.

        Raises:
            ConfigError: Where it is something else.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(data, dict):
            raise ConfigError(f"network = {cut_short(data)} must be an object of {names}.")
        younger = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
        data = {**younger, **data}
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
            "frame_dtype": data["frame_dtype"] in ("uint8", "float32"),
            "normalize": type(data["normalize"]) is bool,
            **{name: _is_like_field(name, data[name]) for name in _LIKE_FIELDS},
        }
        for name, good in right.items():
            if not good:
                raise ConfigError(f"network.{name} = {cut_short(data[name])} is no {name}.")
        try:
            CategoricalValues(data["value_min"], data["value_max"], data["atoms"])
        except ConfigError as error:
            raise ConfigError(f"network.{error}") from None
        tuples = {name: tuple(data[name]) for name in ("frame_shape", "hidden_sizes")}
        format = data["frame_format"]
        if format is not None:
            format = FrameFormat.from_dict(format)
            _check_packed(data, format)
        return cls(**{**data, **tuples, "frame_format": format})


def resolve_torso(kind: str, image: Sequence[int] | None) -> str:
    """The torso that ``auto`` stands for; others stay.

    Args:
        kind: The name.
        image: [..., H, W] of an image in the observation: nature, or small_cnn where that is too
            large for it. None: there is none, so mlp.
    """
    if kind != "auto":
        return kind
    if image is None:
        return "mlp"
    return "nature" if min(image[-2:]) >= NatureCNN.MIN_SIZE else "small_cnn"


def _check_packed(data: dict[str, Any], format: FrameFormat) -> None:
    """Refuse a format that a frame of that shape has no room for."""
    if math.prod(data["frame_shape"]) > _MOST:
        raise ConfigError(f"network.frame_shape = {cut_short(data['frame_shape'])} is too large.")
    left = format.numbers(tuple(data["frame_shape"]), data["frame_dtype"]) - len(format.one_hot)
    if left < 0 or (format.image and (format.one_hot or format.packed_image)):
        raise ConfigError(
            f"network.frame_format = {cut_short(format)} does not fit frames of shape "
            f"{tuple(data['frame_shape'])}."
        )


def _is_like_field(name: str, value: Any) -> bool:
    try:
        check_like_fields(NetworkFields, **{name: value})
    except ConfigError:
        return False
    return True


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MOST


def _are_sizes(value: Any, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(map(_is_size, value))


def _structure(network: nn.Module) -> Any:
    layers = [(name, type(m), m.extra_repr()) for name, m in network.named_modules()]
    return layers, {name: (t.shape, t.dtype) for name, t in network.state_dict().items()}

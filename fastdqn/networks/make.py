"""A Q network in one call, with the defaults that are good enough to start from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastdqn.config.arguments import check_argument, check_like_fields
from fastdqn.config.checks import shown
from fastdqn.config.groups import NetworkFields
from fastdqn.config.ranges import Range
from fastdqn.errors import ConfigError, nearest
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.spec import NetworkSpec, resolve_torso

_COUNTS = Range(1, 2**31)
_HIDDEN_SIZES: dict[str, tuple[int, ...]] = {"mlp": (120, 84), "batchnorm_cnn": ()}
_OF_HEAD = {
    "c51": ("atoms", "value_min", "value_max"),
    "qr": ("quantiles",),
    "iqn": ("iqn_cosines", "iqn_policy_samples", "iqn_cvar"),
}
_DETAILS = [*(n for names in _OF_HEAD.values() for n in names), "noisy_sigma", "padding", "init",
            "layer_norm"]  # fmt: skip


def make_network(
    observation_shape: Sequence[int],
    num_actions: int,
    *,
    kind: str = "auto",
    frame_stack: int | None = None,
    image: bool | None = None,
    hidden_sizes: Sequence[int] | None = None,
    dueling: bool = False,
    batch_norm: bool = False,
    impala_width: int = 1,
    head: str = "scalar",
    noisy: bool = False,
    **more: Any,
) -> QNetwork:
    """A Q network for observations [B, *O] or [B, S, *O].

    Args:
        observation_shape: O, of one frame.
        num_actions: A.
        kind: ``mlp``, ``nature``, ``der``, ``small_cnn``, ``impala``, ``small_resnet``,
            ``batchnorm_cnn``, or ``auto``: nature for images, small_cnn where they are smaller than
            36 x 36, else mlp.
        frame_stack: S.
        image: Whether frames are images; None: from two dimensions up they are.
        hidden_sizes: Of the mlp's layers; of the one layer after the convolutions of nature,
            der, small_cnn, impala and small_resnet; of batchnorm_cnn's, which needs none. None:
            (120, 84) of the mlp, none of batchnorm_cnn, and (512,) of the others.
        dueling: A dueling head; the last hidden layer is then doubled, one half per stream.
        batch_norm: Batch normalisation in the mlp.
        impala_width: Multiplies impala's channels.
        head: ``scalar``, ``c51``, ``qr`` or ``iqn``.
        noisy: Learned noise in the hidden layer after the body and in the head.
        more: What the head, the noise and the weights are like in detail, by the names and with
            the defaults of the configuration: ``atoms``, ``value_min``, ``value_max``,
            ``quantiles``, ``iqn_cosines``, ``iqn_policy_samples``, ``iqn_cvar``, ``noisy_sigma``,
            ``padding``, ``init``, ``layer_norm``.

    Raises:
        ConfigError: Where an argument is of another type or out of range, or the network does not
            fit the observation.
    """
    shape = _sizes("observation_shape", observation_shape)
    num_actions = check_argument("num_actions", num_actions, int, _COUNTS)
    frame_stack = check_argument("frame_stack", frame_stack, int | None, _COUNTS)
    impala_width = check_argument("impala_width", impala_width, int, _COUNTS)
    check_argument("kind", kind, str)
    dueling, batch_norm, noisy = (
        check_argument(name, value, bool)
        for name, value in {"dueling": dueling, "batch_norm": batch_norm, "noisy": noisy}.items()
    )
    for name in more:
        if name not in _DETAILS:
            raise ConfigError(f"{name} is no argument of make_network{nearest(name, _DETAILS)}.")
    check_like_fields(NetworkFields, head=head)
    more = check_like_fields(NetworkFields, **more)
    idle = {name for names in _OF_HEAD.values() for name in names} - set(_OF_HEAD.get(head, ()))
    for name in sorted(idle & more.keys()):
        raise ConfigError(f"{name} = {more[name]!r} has no effect with head = {head!r}; drop it.")
    if "noisy_sigma" in more and not noisy:
        raise ConfigError(
            f"noisy_sigma = {more['noisy_sigma']!r} has no noise to scale; set noisy = True."
        )
    image = check_argument("image", image, bool | None)
    if image is None:
        image = len(shape) >= 2
    torso = resolve_torso(kind, shape if image else None)
    if hidden_sizes is None:
        hidden_sizes = _HIDDEN_SIZES.get(torso, (512,))
    sizes = _sizes("hidden_sizes", hidden_sizes)
    if more.get("layer_norm") and not sizes:
        raise ConfigError("layer_norm = True has no hidden layer to normalise; set hidden_sizes.")
    spec = NetworkSpec(
        frame_shape=shape,
        num_actions=num_actions,
        frame_stack=frame_stack,
        torso=torso,
        hidden_sizes=sizes,
        dueling=dueling,
        batch_norm=batch_norm,
        impala_width=impala_width,
        head=head,
        noisy=noisy,
        **more,
    )
    return spec.build()


def _sizes(name: str, sizes: Any) -> tuple[int, ...]:
    """A sequence of counts, such as a shape, as a tuple."""
    if isinstance(sizes, str | bytes) or not isinstance(sizes, Sequence | np.ndarray):
        raise ConfigError(f"{name} = {shown(sizes)} is no sequence; use one, such as (4,).")
    return tuple(check_argument(name, size, int, _COUNTS) for size in sizes)

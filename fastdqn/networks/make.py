"""A Q network in one call, with the defaults that are good enough to start from."""

from __future__ import annotations

from collections.abc import Sequence

from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.spec import NetworkSpec, resolve_torso


def make_network(
    observation_shape: Sequence[int],
    num_actions: int,
    *,
    kind: str = "auto",
    frame_stack: int | None = None,
    image: bool | None = None,
    hidden_sizes: Sequence[int] = (120, 84),
    dueling: bool = False,
    batch_norm: bool = False,
    impala_width: int = 1,
) -> QNetwork:
    """A Q network for observations [B, *O] or [B, S, *O].

    Args:
        observation_shape: O, of one frame.
        num_actions: A.
        kind: ``mlp``, ``nature``, ``small_cnn``, ``impala``, ``batchnorm_cnn``, or ``auto``: nature
            for images, small_cnn where they are smaller than 36 x 36, else mlp.
        frame_stack: S.
        image: Whether frames are images; None: from two dimensions up they are.
        hidden_sizes: Of the mlp's layers; of the one layer after nature's and impala's
            convolutions; of batchnorm_cnn's, which needs none.
        dueling: A dueling head; the last hidden layer is then doubled, one half per stream.
        batch_norm: Batch normalisation in the mlp.
        impala_width: Multiplies impala's channels.

    Raises:
        ConfigError: Where the network does not fit the observation.
    """
    if image is None:
        image = len(observation_shape) >= 2
    spec = NetworkSpec(
        frame_shape=tuple(observation_shape),
        num_actions=num_actions,
        frame_stack=frame_stack,
        torso=resolve_torso(kind, observation_shape if image else None),
        hidden_sizes=tuple(hidden_sizes),
        dueling=dueling,
        batch_norm=batch_norm,
        impala_width=impala_width,
    )
    return spec.build()

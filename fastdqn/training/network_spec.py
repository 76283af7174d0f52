"""The network that a configuration describes."""

from __future__ import annotations

from fastdqn.config.config import Config
from fastdqn.networks.spec import NetworkSpec, resolve_torso
from fastdqn.spaces import Spaces


def network_spec(config: Config, spaces: Spaces) -> NetworkSpec:
    """Its description, for envs of these spaces; whether it fits them shows when it is built."""
    image = spaces.frame_shape if spaces.image else spaces.format.packed_image
    return NetworkSpec(
        frame_shape=spaces.frame_shape,
        num_actions=spaces.num_actions,
        frame_stack=spaces.frame_stack,
        torso=resolve_torso(config.network, image),
        hidden_sizes=config.hidden_sizes,
        dueling=config.dueling,
        batch_norm=config.batch_norm,
        impala_width=config.impala_width,
        frame_dtype=spaces.frame_dtype or "float32",
        frame_format=spaces.format,
        normalize=config.normalize_observations,
        head=config.head,
        atoms=config.atoms,
        value_min=config.value_min,
        value_max=config.value_max,
        quantiles=config.quantiles,
        iqn_cosines=config.iqn_cosines,
        iqn_policy_samples=config.iqn_policy_samples,
        iqn_cvar=config.iqn_cvar,
        noisy=config.noisy,
        noisy_sigma=config.noisy_sigma,
        padding=config.padding,
        init=config.init,
        layer_norm=config.layer_norm,
    )

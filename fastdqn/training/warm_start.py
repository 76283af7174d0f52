"""Weights of an earlier run for a new one. What can be checked without torch needs none."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdqn.checkpoints.names import find_checkpoint, split_suffix
from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.runs.directory import resumes_from
from fastdqn.sharing.hub_run import local_run
from fastdqn.spaces import Spaces

if TYPE_CHECKING:
    from torch import nn

    from fastdqn.networks.spec import NetworkSpec
    from fastdqn.training.load import SavedNetwork

_HEAD = ("head.", "embedding.")  # an embedding of fractions belongs to the head that wants it
# Settings that decide what a head makes, and nothing before it.
_OF_HEAD = {"head", "atoms", "value_min", "value_max", "quantiles", "iqn_cosines"}
_MOST_NAMED = 8


@dataclass(frozen=True)
class Initial:
    """Where weights came from."""

    checkpoint: Path
    left_out: tuple[str, ...]  # names of parameters and buffers that start anew

    def __str__(self) -> str:
        rest = f" but {_listed(self.left_out)}, which start anew" if self.left_out else ""
        return f"the weights of {self.checkpoint}{rest}"

    def described(self) -> dict[str, Any]:
        """For run.json."""
        return {"checkpoint": str(self.checkpoint), "left_out": list(self.left_out)}


def find_initial(config: Config) -> bool:
    """Whether ``config.initial`` is to be loaded: a run that goes on has weights of its own.

    Raises:
        ConfigError: Where its suffix is none.
        CheckpointError: Where it names no checkpoint.
    """
    if config.initial is None or resumes_from(config) is not None:
        return False
    path, choice = split_suffix(config.initial, "initial")
    try:
        find_checkpoint(local_run(path), choice)
    except CheckpointError as error:
        raise CheckpointError(f"initial = {config.initial!r}: {error}") from None
    return True


def load_initial(config: Config, network: nn.Module, spaces: Spaces, own_network: bool) -> Initial:
    """Copy the weights that ``config.initial`` names into a network.

    Args:
        config: Of the new run.
        network: On any device; changed in place.
        spaces: Of the new run's envs.
        own_network: Whether the network is another than the configuration describes.

    Returns:
        Where they came from; a warning says what was left out.

    Raises:
        ConfigError: Where the weights do not fit.
        CheckpointError: Where there are none, or they are damaged.
    """
    from fastdqn.training.load import read_network
    from fastdqn.training.network_spec import network_spec

    assert config.initial is not None
    path, choice = split_suffix(config.initial, "initial")
    saved = read_network(local_run(path), choice)
    there = saved.spaces
    if not spaces.looks_like(there):
        raise ConfigError(
            f"initial = {config.initial!r} has seen observations of shape "
            f"{' '.join(str(x) for x in (there.observation_shape, there.frame_dtype) if x)}, where "
            f"the envs of this run show {spaces.observation_shape} {spaces.frame_dtype}; use envs "
            f"that look alike, or leave initial out."
        )
    own = {name: (tuple(t.shape), t.dtype) for name, t in network.state_dict().items()}
    here = None if own_network else _settings(network_spec(config, spaces))
    left_out = _left_out(
        config, saved, own, here, spaces.num_actions, other_values=saved.has_other_values(network)
    )
    _copy(network, [name for name in own if name not in left_out], saved)
    initial = Initial(saved.path, left_out)
    if left_out:
        warnings.warn(f"initial = {config.initial!r}: {initial}.", stacklevel=2)
    return initial


def _left_out(
    config: Config,
    saved: SavedNetwork,
    own: Mapping[str, Any],
    here: Mapping[str, Any] | None,
    num_actions: int,
    *,
    other_values: bool,
) -> tuple[str, ...]:
    """Names of ``own`` that keep their fresh values; ConfigError where the rest does not fit.

    Args:
        config: Of the new run.
        saved: The weights.
        own: Shape and dtype of each parameter and buffer of the new network.
        here: Settings that describe the new network, if any do.
        num_actions: Of the new network.
        other_values: Whether the heads' numbers stand for different things.
    """
    initial = f"initial = {config.initial!r}"
    given = {name: (tensor.shape, tensor.dtype) for name, tensor in saved.tensors.items()}
    there = None if saved.network is None else _settings(saved.network)
    names = own.keys() | given.keys()
    differing = [] if here is None or there is None else [k for k in here if here[k] != there[k]]
    unlike = sorted(
        name
        for name in names
        if own.get(name) != given.get(name) or (other_values and name.startswith(_HEAD))
    )
    unlike_torso = [name for name in unlike if not name.startswith(_HEAD)]
    torso = [name for name in own if not name.startswith(_HEAD)]
    # A dueling head doubles the layer before it, one half per stream: that layer is the head's.
    streams = unlike_torso if {*differing} - _OF_HEAD == {"dueling"} else []
    if unlike_torso != streams:
        what = _difference(there, here, differing) or _difference(given, own, unlike_torso)
        raise ConfigError(f"{initial} has {what}; use the same layers, or leave initial out.")
    if streams and len(streams) == len(torso):
        raise ConfigError(
            f"{initial} has {_difference(there, here, differing)}, which leaves no layer that both "
            f"have; use the same, or leave initial out."
        )
    if config.initial_torso_only:
        if len(torso) == len(own):
            raise ConfigError(
                "initial_torso_only = True needs a network whose last part is called head, as "
                "those of fastdqn are; leave it out to take all of the weights."
            )
        return tuple(name for name in own if name not in torso or name in streams)
    if unlike:
        actions = saved.spaces.num_actions
        what = _difference(there, here, differing) or (
            f"a head for {actions} actions, where this run has {num_actions}"
            if actions != num_actions
            else _difference(given, own, unlike)
        )
        raise ConfigError(
            f"{initial} has {what}; set initial_torso_only = True to take all but the head."
        )
    return ()


def _settings(spec: NetworkSpec) -> dict[str, Any]:
    """What decides which layers a network has, envs aside; by the names of the configuration."""
    return {
        "network": spec.torso,
        "hidden_sizes": spec.hidden_sizes,
        "impala_width": spec.impala_width,
        "batch_norm": spec.batch_norm,
        "layer_norm": spec.layer_norm,
        "dueling": spec.dueling,
        "head": spec.head,
        "atoms": spec.atoms,
        "value_min": spec.value_min,
        "value_max": spec.value_max,
        "quantiles": spec.quantiles,
        "iqn_cosines": spec.iqn_cosines,
        "noisy": spec.noisy,
        "padding": spec.padding,
    }


def _difference(there: Any, here: Any, names: list[str]) -> str:
    """The first of some differences between two dictionaries, in words; empty without one."""
    if not names:
        return ""
    what = [_shown(side.get(names[0])) for side in (there, here)]
    return f"{names[0]} = {what[0]}, where this run has {what[1]}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):  # shape and dtype
        return f"{list(value[0])} {str(value[1]).removeprefix('torch.')}"
    return "no such thing" if value is None else repr(value)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _copy(network: nn.Module, names: Sequence[str], saved: SavedNetwork) -> None:
    import torch

    from fastdqn.checkpoints.state_tree import materialize
    from fastdqn.checkpoints.store import refusing

    with refusing(saved.path):
        weights = materialize({name: saved.tensors[name] for name in names})
        for name, tensor in weights.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise CheckpointError(f"{name!r} in {saved.path} is not finite; take another.")
        network.load_state_dict(weights, strict=False)

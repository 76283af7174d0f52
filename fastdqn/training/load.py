"""A trained policy from its checkpoint: the network described there, with the parameters saved."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastdqn.acting.policy import Policy
from fastdqn.checkpoints.names import parse_choice
from fastdqn.checkpoints.state_tree import SavedTensor, materialize
from fastdqn.checkpoints.store import find_checkpoint, open_checkpoint, open_newest, refusing
from fastdqn.config.config import Config
from fastdqn.envs.reader import ObservationReader
from fastdqn.errors import CheckpointError, ConfigError, FastDQNError, cut_short
from fastdqn.frame_format import FrameFormat
from fastdqn.networks.checks import check_module, load_network
from fastdqn.networks.copies import lower
from fastdqn.networks.encoder import FrameEncoder
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.spec import NetworkSpec
from fastdqn.networks.trial import try_network
from fastdqn.networks.values import Values
from fastdqn.sharing.hub_run import local_run
from fastdqn.spaces import Spaces
from fastdqn.system.devices import resolve_device
from fastdqn.training.network_spec import network_spec

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class SavedNetwork:
    """What a checkpoint says of the network that it holds; the tensors are still in their files."""

    path: Path
    spec: dict[str, Any]  # as fastdqn.training.build.policy_spec made it
    config: Config
    network: NetworkSpec | None  # None: one of the caller's own
    tensors: dict[str, SavedTensor]  # parameters, float32, and buffers by name

    @property
    def spaces(self) -> Spaces:
        """Of the envs it was trained on."""
        return Spaces.of_spec(self.spec)

    def has_other_values(self, network: nn.Module) -> bool:
        """Whether the numbers of two heads, maybe of one shape, stand for different things."""
        values = getattr(network, "values", None)
        if self.network is None or not isinstance(values, Values):  # nothing is known of them
            return False
        return values != self.network.values


def load(
    path: PathLike,
    *,
    device: str = "auto",
    network: nn.Module | None = None,
    checkpoint: int | str | None = None,
) -> Policy:
    """The policy of a run directory's newest checkpoint, or of another. Never unpickles.

    Of a run directory whose newest checkpoint is damaged, the newest that is whole is taken, with a
    warning that names the damaged file.

    Args:
        path: Run directory or checkpoint directory; or ``hf:USER/NAME``, maybe with ``@REVISION``:
            a run on the Hugging Face Hub, which is downloaded and checked as any file is.
        device: ``auto``, ``cpu`` or ``cuda``.
        network: Where the run trained a network of its own; its parameters are overwritten.
        checkpoint: Of a run directory: ``best``, the one whose evaluation had the highest mean
            return; ``latest``; or the env steps of one.

    Raises:
        CheckpointError: Where there is no checkpoint, or it cannot be downloaded, is damaged or
            does not fit.
        ConfigError: Where ``checkpoint`` is no such choice, or the network does not take the
            observations.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"path = {path!r} is no path; pass that of a run or checkpoint.")
    resolved = resolve_device(device)
    if network is not None:
        network = check_module(network)
    saved = read_network(local_run(path), checkpoint)
    with refusing(saved.path):
        return _policy(saved, resolved, network)


def read_network(path: Path, choice: int | str | None = None) -> SavedNetwork:
    """What a checkpoint holds of its network, checked.

    Args:
        path: Run directory or checkpoint directory.
        choice: As the ``checkpoint`` of :func:`load`.

    Raises:
        CheckpointError: As :func:`load`.
        ConfigError: Where the choice is none.
    """
    parts = ("run", "learner")
    choice = parse_choice(choice)
    found = find_checkpoint(path, choice)
    if found == path or choice is not None:
        state = open_checkpoint(found, parts=parts)
    else:
        found, state = open_newest(path / "checkpoints", parts=parts)
    with refusing(found):
        spec = state["run"]["spec"]
        tensors = state["learner"]["network"]
        check_spec(found, spec)
        try:
            config = Config.from_json(json.dumps(state["run"]["config"]))
        except ConfigError as error:
            raise CheckpointError(f"{found} does not describe a policy ({error}).") from None
        if not isinstance(tensors, dict) or not all(
            isinstance(tensor, SavedTensor) for tensor in tensors.values()
        ):
            raise TypeError("a network that is not made of tensors")
        return SavedNetwork(found, spec, config, _network_spec(spec, config), tensors)


def _network_spec(spec: dict[str, Any], config: Config) -> NetworkSpec | None:
    if spec["own_network"]:
        return None
    if "network" in spec:
        return NetworkSpec.from_dict(spec["network"])
    return network_spec(config, Spaces.of_spec(spec))  # an older checkpoint


def _policy(saved: SavedNetwork, device: torch.device, network: nn.Module | None) -> Policy:
    spec, config, spaces = saved.spec, saved.config, saved.spaces
    if network is None:
        if saved.network is None:
            raise CheckpointError(
                f"{saved.path} was trained with a network of its own; pass it as load(..., "
                f"network=)."
            )
        if len(saved.network.hidden_sizes) > len(saved.tensors):
            raise CheckpointError(f"{saved.path} describes more layers than it has parameters for.")
        try:
            with torch.device("meta"):  # no memory until the shapes are known to be the file's
                network = saved.network.build()
        except ConfigError as error:
            raise CheckpointError(f"{saved.path} does not describe a policy ({error}).") from None
        _check_network(network, saved.tensors)
        network = network.to_empty(device=device).eval()
        materialize(saved.tensors, into=network.state_dict())
        if isinstance(network.encoder, FrameEncoder):
            network.encoder.fill_constants()
    else:
        network = network.to(device).eval()
        if spaces.frame_dtype is not None:
            dtype = torch.uint8 if spaces.frame_dtype == "uint8" else torch.float32
            try_network(network, spaces.observation_shape, dtype, spaces.num_actions, trained=False)
        _check_network(network, saved.tensors)
        if saved.network is not None and saved.has_other_values(network):
            raise CheckpointError(
                f"{saved.path} has {saved.network.values}, where the network has "
                f"{getattr(network, 'values', None)}; leave network out."
            )
        load_network(network, materialize(saved.tensors))
    low: bool = spec["bf16"]  # as it acted in training
    lowered = None
    if low and isinstance(network, QNetwork):
        lowered = lower(network).requires_grad_(False)
    return Policy(
        network,
        device=device,
        autocast=low and lowered is None,
        seed=config.seed,
        lowered=lowered,
        spaces=spaces,
        reader=reader_of(spec),
    )


def _check_network(network: nn.Module, saved: dict[str, SavedTensor]) -> None:
    own = network.state_dict()
    for name in sorted(own.keys() ^ saved.keys()):
        where = "missing from the checkpoint" if name in own else "unknown to this network"
        raise CheckpointError(
            f"{cut_short(name)} is {where}; use the network settings (or the network) it was saved "
            f"with."
        )
    for name, tensor in own.items():
        if tuple(tensor.shape) != saved[name].shape or tensor.dtype != saved[name].dtype:
            raise CheckpointError(
                f"{name!r} is {list(saved[name].shape)} {saved[name].dtype} in the checkpoint and "
                f"{list(tensor.shape)} {tensor.dtype} here; use the network settings it was saved "
                f"with."
            )


def check_spec(path: Path, spec: dict[str, Any]) -> None:
    """Refuse what no ``policy_spec`` of a run is, by a CheckpointError or KeyError."""

    def count(value: Any, low: int = 1) -> bool:
        return type(value) is int and low <= value <= 2**31

    right = {
        "frame_shape": isinstance(spec["frame_shape"], list)
        and len(spec["frame_shape"]) <= 8
        and all(count(size) for size in spec["frame_shape"]),
        "num_actions": count(spec["num_actions"]),
        "frame_stack": spec["frame_stack"] is None or count(spec["frame_stack"]),
        "stack_padding": spec["stack_padding"] in ("zero", "repeat"),
        "action_start": type(spec["action_start"]) is int and abs(spec["action_start"]) < 2**62,
        **{name: type(spec[name]) is bool for name in ("image", "bf16", "own_network")},
        # Younger than the others: older checkpoints do without.
        "frame_dtype": spec.get("frame_dtype") in (None, "uint8", "float32"),
        "own_envs": type(spec.get("own_envs", False)) is bool,
        "own_objective": type(spec.get("own_objective", False)) is bool,
        "frozen": type(spec.get("frozen", False)) is bool,
    }
    for name, good in right.items():
        if not good:
            raise CheckpointError(
                f"{path} does not describe a policy ({name} = {cut_short(spec[name])})."
            )
    try:
        if spec.get("frame_format") is not None:
            FrameFormat.from_dict(spec["frame_format"])
        if spec.get("observation") is not None:
            reader_of(spec)
    except FastDQNError as error:
        raise CheckpointError(f"{path} does not describe a policy ({error}).") from None
    if "network" in spec:
        _check_network_spec(path, spec)


def reader_of(spec: Mapping[str, Any]) -> ObservationReader | None:
    """What makes frames of the observations that a policy was trained on, if anything did.

    Raises:
        FastDQNError: Where it makes other frames than the spec has.
    """
    if spec.get("observation") is None:
        return None
    reader = ObservationReader.from_dict(spec["observation"], spec["frame_stack"])
    spaces = Spaces.of_spec(spec)
    made = math.prod(reader.frame_shape), reader.frame_dtype, reader.format
    if made != (math.prod(spaces.frame_shape), spaces.frame_dtype, spaces.format):
        raise ConfigError("its observations do not make its frames")
    return reader


def _check_network_spec(path: Path, spec: dict[str, Any]) -> None:
    """Refuse a description of a network that is none, or one for other envs than the spec's."""
    if spec["own_network"]:
        if spec["network"] is not None:
            raise CheckpointError(f"{path} describes a network that was the caller's own.")
        return
    try:
        network = NetworkSpec.from_dict(spec["network"])
    except ConfigError as error:
        raise CheckpointError(f"{path} does not describe a policy ({error}).") from None
    spaces = Spaces.of_spec(spec)
    format = network.frame_format
    if format is not None and format != spaces.format:
        raise CheckpointError(f"{path} does not describe a policy (two formats of its frames).")
    for name in ("frame_shape", "num_actions", "frame_stack"):
        if getattr(network, name) != getattr(spaces, name):
            raise CheckpointError(
                f"{path} does not describe a policy (network.{name} = {getattr(network, name)}, "
                f"where {name} = {getattr(spaces, name)})."
            )

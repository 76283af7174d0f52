"""A trained policy from its checkpoint: the network described there, with the parameters saved."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastdqn.checkpoint import find_checkpoint, open_checkpoint, open_newest, refusing
from fastdqn.config import Config
from fastdqn.devices import resolve_device
from fastdqn.errors import CheckpointError, ConfigError, cut_short
from fastdqn.learner import load_network
from fastdqn.low_precision import lower
from fastdqn.networks import QNetwork, make_network
from fastdqn.policy import Policy
from fastdqn.saved_tensors import SavedTensor, materialize

PathLike = str | os.PathLike[str]


def load(path: PathLike, *, device: str = "auto", network: nn.Module | None = None) -> Policy:
    """The policy of a run directory's newest checkpoint, or of one checkpoint. Never unpickles.

    Of a run directory whose newest checkpoint is damaged, the newest that is whole is taken, with a
    warning that names the damaged file.

    Args:
        path: Run directory or checkpoint directory.
        device: ``auto``, ``cpu`` or ``cuda``.
        network: Where the run trained a network of its own; its parameters are overwritten.

    Raises:
        CheckpointError: Where there is no checkpoint or it is damaged or does not fit.
    """
    resolved = resolve_device(device)
    parts = ("run", "learner")
    path = Path(path)
    found = find_checkpoint(path)
    if found == path:
        state = open_checkpoint(path, parts=parts)
    else:
        found, state = open_newest(path / "checkpoints", parts=parts)
    try:
        with refusing(found):
            return _policy(found, state, resolved, network)
    except ConfigError as error:
        raise CheckpointError(f"{found} does not describe a policy ({error}).") from None


def _policy(
    path: Path, state: dict[str, Any], device: torch.device, network: nn.Module | None
) -> Policy:
    spec = state["run"]["spec"]
    saved = state["learner"]["network"]
    _check_spec(path, spec)
    config = Config.from_json(json.dumps(state["run"]["config"]))
    if network is None:
        if spec["own_network"]:
            raise CheckpointError(
                f"{path} was trained with a network of its own; pass it as load(..., network=)."
            )
        if len(config.hidden_sizes) > len(saved):
            raise CheckpointError(f"{path} describes more layers than it has parameters for.")
        with torch.device("meta"):  # no memory until the shapes are known to be those of the file
            network = make_network(
                spec["frame_shape"],
                spec["num_actions"],
                kind=config.network,
                frame_stack=spec["frame_stack"],
                image=spec["image"],
                hidden_sizes=config.hidden_sizes,
                dueling=config.dueling,
                batch_norm=config.batch_norm,
                impala_width=config.impala_width,
            )
        _check_network(network, saved)
        network = network.to_empty(device=device).eval()
        materialize(saved, into=network.state_dict())
    else:
        network = network.to(device).eval()
        _check_network(network, saved)
        load_network(network, materialize(saved))
    low: bool = spec["bf16"]  # as it acted in training
    lowered = lower(network) if low and isinstance(network, QNetwork) else None
    return Policy(
        network,
        frame_stack=spec["frame_stack"],
        stack_padding=spec["stack_padding"],
        action_start=spec["action_start"],
        device=device,
        autocast=low and lowered is None,
        seed=config.seed,
        lowered=lowered,
    )


def _check_network(network: nn.Module, saved: Any) -> None:
    if not isinstance(saved, dict) or not all(isinstance(s, SavedTensor) for s in saved.values()):
        raise TypeError("a network that is not made of tensors")
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


def _check_spec(path: Path, spec: dict[str, Any]) -> None:
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
    }
    for name, good in right.items():
        if not good:
            raise CheckpointError(
                f"{path} does not describe a policy ({name} = {cut_short(spec[name])})."
            )

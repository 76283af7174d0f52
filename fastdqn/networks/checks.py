"""Whether a caller's network can be trained, and the parameters that were saved."""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from fastdqn.errors import CheckpointError, ConfigError

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def check_module(network: Any) -> nn.Module:
    """The module to train: what was passed, or what is inside a compiled module.

    Raises:
        ConfigError: Where it is a class, a function or anything else but a module.
    """
    kind = type(network).__name__
    if isinstance(network, type):
        name = network.__name__
        raise ConfigError(f"network = {name} is a class; pass an instance of it: {name}(...).")
    if not isinstance(network, nn.Module):
        what = (
            "a function" if kind in ("function", "method", "builtin_function_or_method") else kind
        )
        raise ConfigError(
            f"The network is no torch.nn.Module but {what}; pass a module that maps observations "
            f"to Q, [B, A]."
        )
    if isinstance(network, _PARALLEL):
        raise ConfigError(
            f"The network is wrapped in {kind}, but one process trains on one device; pass the "
            f"module inside: network.module."
        )
    if any(parent.__name__ == "ScriptModule" for parent in type(network).__mro__):
        raise ConfigError(
            f"The network ({kind}) is a script, which cannot be copied and trained; pass the "
            f"module that it was made of."
        )
    if kind == "OptimizedModule":  # of torch.compile; its class would take a second to import
        warnings.warn(
            "The network was compiled: the module inside is trained (mode = 'compile' compiles "
            "whole updates).",
            stacklevel=2,
        )
        network = network._orig_mod
    for name, parameter in network.named_parameters():
        if parameter.is_meta:
            raise ConfigError(
                f"The network's parameter {name!r} is on the meta device and has no numbers; make "
                f"the network on the CPU, or call network.to_empty(device='cpu') and initialise it."
            )
    return cast(nn.Module, network)


def check_parameters(network: nn.Module) -> None:
    """Refuse a network without parameters, or with others than float32, by a ConfigError."""
    named = dict(network.named_parameters())
    if not named:
        raise ConfigError(
            "The network has no parameters to train; pass one that has (layers count in an "
            "nn.ModuleList, not in a Python list)."
        )
    for name, parameter in named.items():
        if isinstance(parameter, UninitializedParameter):
            raise ConfigError(
                f"The network's parameter {name!r} has no shape yet, as in nn.LazyLinear; call the "
                f"network on one batch of observations first."
            )
        _check_parameter(name, parameter)


def check_trainable(network: nn.Module) -> None:
    """Refuse, by a ConfigError, a network of which nothing is to be trained."""
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(
            "Every parameter of the network is frozen; set requires_grad = True on those to train."
        )


def _check_parameter(name: str, parameter: Tensor) -> None:
    dtype = str(parameter.dtype)
    if not (parameter.is_floating_point() or parameter.is_complex()):
        raise ConfigError(
            f"The network's parameter {name!r} is {dtype}, which has no gradient; make it a buffer "
            f"with register_buffer."
        )
    if parameter.is_complex():
        raise ConfigError(
            f"The network's parameter {name!r} is {dtype}; make it a float32 one of its real and "
            f"imaginary parts with torch.view_as_real."
        )
    if parameter.dtype != torch.float32:
        raise ConfigError(
            f"The network's parameter {name!r} is {dtype}; make it float32 with network.float() "
            f"(precision = 'bf16' lowers it while it trains)."
        )


def load_network(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Copy parameters and buffers in place; CheckpointError where name or shape differ."""
    own = network.state_dict()
    for name in sorted(own.keys() ^ state.keys()):
        where = "missing from the checkpoint" if name in own else "unknown to this network"
        raise CheckpointError(
            f"{name!r} is {where}; use the network settings (or the network) it was saved with."
        )
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise CheckpointError(
                f"{name!r} is {list(state[name].shape)} in the checkpoint and "
                f"{list(tensor.shape)} here; use the network settings it was saved with."
            )
    network.load_state_dict(state)

"""Other modules of the same network: as it is, in bfloat16, or in evaluation mode."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fastdqn.errors import ConfigError
from fastdqn.networks.normalizer import Normalizer
from fastdqn.networks.q_network import QNetwork

_Module = TypeVar("_Module", bound=nn.Module)


def copied(network: _Module, shared: dict[int, Any] | None = None) -> _Module:
    """A copy in every part.

    Args:
        network: Any module.
        shared: By identity, what the copy has in common with it.

    Raises:
        ConfigError: Where it holds what cannot be copied.
    """
    try:
        return copy.deepcopy(network, shared)
    except Exception as error:
        why = (str(error).strip() or "no reason given").splitlines()[0].split(".  ")[0].rstrip(".")
        raise ConfigError(
            f"The network ({type(network).__name__}) cannot be copied ({type(error).__name__}: "
            f"{why}), and the target network is a copy; keep locks, files and computed tensors out "
            f"of its attributes, and use torch.nn.utils.parametrizations.weight_norm in the place "
            f"of torch.nn.utils.weight_norm."
        ) from error


def lower(network: QNetwork) -> QNetwork:
    """A copy with its body in bfloat16, for one that is not trained further."""
    lowered = copied(network)
    for part in lowered_parts(lowered).values():
        part.to(torch.bfloat16)
    return lowered


def lowered_parts(network: QNetwork) -> dict[str, nn.Module]:
    """By name, the parts that may run in bfloat16: all but encoder and head."""
    return {name: getattr(network, name) for name in network.LOWERED if hasattr(network, name)}


def shared_statistics(network: nn.Module) -> dict[int, Any]:
    """For ``copy.deepcopy``: a copy that is to see observations as the network does.

    The running statistics of its normalizer, by identity: the copy gets the same tensors. Unlike
    those of BatchNorm they are no function of the parameters.
    """
    normalizers = (m for m in network.modules() if isinstance(m, Normalizer))
    return {id(t): t for normalizer in normalizers for t in normalizer.buffers()}


def share_in_evaluation_mode(network: nn.Module) -> nn.Module:
    """The same parameters and buffers in another module, in evaluation mode."""
    shared: dict[int, Tensor] = {id(t): t for t in [*network.parameters(), *network.buffers()]}
    return copied(network, shared).eval()

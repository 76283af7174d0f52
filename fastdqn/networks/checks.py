"""Whether a network takes the observations that it will see, and the parameters that were saved."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.networks.forward import evaluation_mode, to_q


def check_network(
    network: nn.Module, observation_shape: Sequence[int], dtype: torch.dtype, num_actions: int
) -> None:
    """Show a network of the caller's one observation of zeros.

    Modes, buffers and torch's default generator stay as they are.

    Args:
        network: On any device.
        observation_shape: [S, *O] or O.
        dtype: uint8 or float32.
        num_actions: A.

    Raises:
        ConfigError: Where it raises, or returns something else than Q, [1, A].
    """
    tensors = chain(network.parameters(), network.buffers())
    device = next((t.device for t in tensors), torch.device("cpu"))
    shape = (1, *observation_shape)
    shown = f"an observation of shape {shape} {str(dtype).removeprefix('torch.')}"
    gpus = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(gpus), evaluation_mode(network), torch.no_grad():
            q = to_q(network, network(torch.zeros(shape, dtype=dtype, device=device)))
    except Exception as error:
        why = (str(error).strip() or "no reason given").splitlines()[0]
        raise ConfigError(
            f"The network ({type(network).__name__}) does not take {shown} "
            f"({type(error).__name__}: {why}); pass one that maps those to Q, [1, {num_actions}]."
        ) from error
    found = list(q.shape) if isinstance(q, Tensor) else type(q).__name__
    if found != [1, num_actions]:
        raise ConfigError(
            f"The network ({type(network).__name__}) makes {found} of {shown}, where the envs have "
            f"{num_actions} actions; pass one that makes Q, [1, {num_actions}]."
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

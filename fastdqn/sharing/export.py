"""A policy's network as a file that other programs run: written, run, compared, kept if it agrees.

The file takes observations as the replay stores them, ``uint8`` or ``float32`` [B, S, *O] or
[B, *O], and gives ``q_values``, float32 [B, A]. The greedy action is
``q_values.argmax(1) + action_start``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastdqn._version import __version__
from fastdqn.acting.policy import Policy
from fastdqn.errors import ConfigError
from fastdqn.sharing.agreement import Agreement, compare
from fastdqn.sharing.exported_network import OUTPUT, NetworkInput, exported_network
from fastdqn.sharing.network_file import WRITERS
from fastdqn.system.file_systems import replace


@dataclass(frozen=True)
class Exported:
    """What an export came to."""

    inputs: tuple[NetworkInput, ...]
    num_actions: int
    agreement: Agreement  # where it does not hold there is no file

    def __str__(self) -> str:
        """What goes in and what comes out."""
        given = ", ".join(map(str, self.inputs))
        return f"{given} -> {OUTPUT} float32 [B, {self.num_actions}]"


def export_policy(
    policy: Policy,
    path: Path,
    *,
    format: str,
    metadata: Mapping[str, str],
    observations: Tensor | int = 1_000,
) -> Exported:
    """Write a policy's network to a file; what does not agree with it leaves none.

    Args:
        policy: On the CPU, of known spaces.
        path: The file; an existing one is overwritten.
        format: ``onnx`` or ``torch-export``.
        metadata: For the file, beside what :func:`policy_metadata` says.
        observations: To compare on, [N, ...] as stored; a number: so many random ones.

    Raises:
        ConfigError: Where the policy does not know its spaces.
        OSError: Where the disk refuses.
    """
    if policy.spaces is None:
        raise ConfigError("policy has no spaces; load it from a run with fastdqn.load.")
    network = exported_network(policy.network, policy.spaces).eval()
    if isinstance(observations, Tensor):
        arrays = network.split(observations)
    else:
        generator = torch.Generator().manual_seed(0)
        arrays = tuple(each.random(observations, generator) for each in network.inputs)
    said = {**policy_metadata(policy, network.inputs), **metadata}
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as directory:
        written = Path(directory) / path.name
        run = WRITERS[format](network, said, written)
        agreement = compare(network, run, arrays)
        if agreement.holds:
            replace(written, path)
    return Exported(network.inputs, policy.spaces.num_actions, agreement)


def policy_metadata(policy: Policy, inputs: Sequence[NetworkInput]) -> dict[str, str]:
    """What a file says of the policy; values are texts, or JSON."""
    spaces = policy.spaces
    assert spaces is not None
    reader = None if policy.reader is None else policy.reader.to_dict()
    facts: dict[str, Any] = {
        "inputs": [each.to_dict() for each in inputs],
        "frame_stack": spaces.frame_stack,
        "observation": reader,
        "num_actions": spaces.num_actions,
        "action_start": spaces.action_start,
    }
    return {
        "fastdqn_version": __version__,
        "stack_padding": spaces.stack_padding,
        "frame_format": str(spaces.format),
        **{name: json.dumps(value) for name, value in facts.items()},
    }

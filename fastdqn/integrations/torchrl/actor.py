"""Our networks as TorchRL's actors: observations to an action and its value."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.data import Composite
from torchrl.modules import DistributionalQValueActor, QValueActor

from fastdqn.config.arguments import check_argument
from fastdqn.errors import ConfigError, FastDQNError
from fastdqn.integrations.torchrl.actions import read_action_spec
from fastdqn.networks.checks import check_module
from fastdqn.networks.forward import to_q
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.values import CategoricalValues

ACTION_SPACES = ("categorical", "one-hot", "one_hot")


def check_observation_network(network: Any) -> nn.Module:
    """The module; ConfigError where it maps no observations, or is one of TensorDicts."""
    network = check_module(network)
    if isinstance(network, TensorDictModuleBase):
        raise ConfigError(
            f"network is {type(network).__name__}, a module of TensorDicts; pass the network that "
            f"it was made of."
        )
    return network


class QValues(TensorDictModuleBase):
    """A network of ours, or any of observations to Q, as a module of TensorDicts.

    It takes batches of any number of dimensions, also none.

    Args:
        network: Observations [B, ...] to its head's output.
        observation_key: What it reads.
        distributional: Write log-probabilities, [..., atoms, A], instead of Q, [..., A].
    """

    def __init__(
        self, network: nn.Module, observation_key: Any, *, distributional: bool = False
    ) -> None:
        super().__init__()
        self.network, self.distributional = network, distributional
        self.in_keys, self.out_keys = [observation_key], ["action_value"]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Read the observation and write ``action_value``."""
        observation, batch = tensordict.get(self.in_keys[0], None), tensordict.batch_size
        if observation is None:
            raise FastDQNError(
                f"The tensordict has no {self.in_keys[0]!r}; rename it, or name observation_key."
            )
        event = observation.shape[len(batch) :]
        output = self._values(observation.reshape(-1, *event))
        tensordict.set("action_value", output.reshape(*batch, *output.shape[1:]))
        return tensordict

    def _values(self, observation: Tensor) -> Tensor:
        if observation.dtype == torch.float64:
            observation = observation.float()
        output = self.network(observation)
        if self.distributional:
            return output.log_softmax(-1).transpose(-2, -1)
        return to_q(self.network, output)


def q_value_actor(
    network: nn.Module,
    spec: Any = None,
    *,
    observation_key: Any = "observation",
    action_space: str | None = None,
    distributional: bool = False,
    **options: Any,
) -> QValueActor:
    """An actor that shares the network's parameters.

    It writes ``action``, ``action_value`` and ``chosen_action_value``, and goes into TorchRL's
    collectors, ``EGreedyModule`` and ``DQNLoss``. Networks with noise or quantile fractions act
    without chance.

    Args:
        network: Of :func:`fastdqn.make_network`, or any that maps observations
            [B, ...] to Q, [B, A].
        spec: Of the action; needed by TorchRL's losses.
        observation_key: What the network reads.
        action_space: ``categorical`` or ``one-hot``, in the place of ``spec``.
        distributional: For ``DistributionalDQNLoss``: ``action_value`` holds the log-probabilities
            of a C51 head, [..., atoms, A]; there is no ``chosen_action_value``.
        options: As for TorchRL's class, such as ``action_mask_key``.

    Raises:
        FastDQNError: Where neither spec nor action_space is given, the head is none of atoms, or
            an argument does not go with the network.
    """
    network = check_observation_network(network)
    check_argument("distributional", distributional, bool)
    if (spec is None) == (action_space is None):
        found = "missing" if spec is None else "given"
        raise ConfigError(f"spec and action_space are both {found}; give one of them.")
    if spec is not None:
        read_action_spec(spec.get("action") if isinstance(spec, Composite) else spec, "spec")
    elif action_space not in ACTION_SPACES:
        raise ConfigError(
            f"action_space = {action_space!r} must be one of {', '.join(ACTION_SPACES)}."
        )
    module = QValues(network, observation_key, distributional=distributional)
    if not distributional:
        return QValueActor(module, spec=spec, action_space=action_space, **options)
    values = network.values if isinstance(network, QNetwork) else None
    if not isinstance(values, CategoricalValues):
        raise ConfigError(
            "distributional = True wants a head of atoms; make the network with head = 'c51'."
        )
    parameter = next(network.parameters())
    return DistributionalQValueActor(
        module,
        support=values.support(parameter.device),
        spec=spec,
        action_space=action_space,
        make_log_softmax=False,
        **options,
    )

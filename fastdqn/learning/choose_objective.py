"""The objective that goes with a network's head."""

from __future__ import annotations

from torch import nn

from fastdqn.config.arguments import SIZES, check_argument, check_sizes
from fastdqn.errors import ConfigError
from fastdqn.learning.categorical_q_learning import CategoricalQLearning
from fastdqn.learning.munchausen import Munchausen, check_munchausen
from fastdqn.learning.objectives import Objective
from fastdqn.learning.q_learning import QLearning
from fastdqn.learning.quantile_q_learning import QuantileQLearning
from fastdqn.networks.checks import check_module
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.values import CategoricalValues, QuantileValues, Values


def check_goes_with(network: nn.Module, objective: Objective) -> None:
    """Refuse, by a ConfigError, one of ours on a head of ours of another kind.

    Shapes may agree where meanings do not: 51 quantiles are no 51 atoms.
    """
    if not isinstance(network, QNetwork):
        return
    wanted: Values | None = None
    if isinstance(objective, CategoricalQLearning):
        wanted = objective.values
    elif isinstance(objective, QuantileQLearning):
        fits = isinstance(network.values, QuantileValues)
        if fits and objective.implicit == network.implicit:
            return
        wanted = QuantileValues(None) if objective.implicit else QuantileValues()
    if wanted is not None and network.values != wanted:
        raise ConfigError(
            f"The objective ({type(objective).__name__}) is for {wanted}"
            f"{', implicit' if getattr(objective, 'implicit', False) else ''}, and the network's "
            f"head makes {network.values}; leave the objective out to get the one that goes with "
            f"the head."
        )


def objective_for(
    network: nn.Module,
    *,
    double: bool = True,
    loss: str = "huber",
    huber_delta: float = 1.0,
    munchausen: Munchausen | None = None,
    samples: int = 64,
    target_samples: int = 64,
    policy_samples: int | None = None,
) -> Objective:
    """Q-learning on what a network's head makes; on Q itself for a network of somebody else's.

    Args:
        network: Whose head.
        double: As for :class:`fastdqn.learning.QLearning`.
        loss: Likewise; of distributions there is one only, and ``huber`` stands for it.
        huber_delta: Likewise, and kappa of quantiles.
        munchausen: Likewise.
        samples: As for :class:`fastdqn.learning.QuantileQLearning`.
        target_samples: Likewise.
        policy_samples: Likewise; None: as many as the network acts by.

    Raises:
        ConfigError: Where they do not go together, or a number is out of range.
    """
    network = check_module(network)
    check_munchausen(munchausen)
    check_sizes(samples=samples, target_samples=target_samples)
    check_argument("policy_samples", policy_samples, int | None, SIZES)
    values = network.values if isinstance(network, QNetwork) else None
    if isinstance(values, CategoricalValues | QuantileValues) and loss != "huber":
        raise ConfigError(
            f"loss = {loss!r} is for Q itself, not for the distributions of this network's head; "
            f"leave it out."
        )
    if isinstance(values, CategoricalValues):
        if munchausen is not None:
            raise ConfigError(
                "munchausen is not defined for head = 'c51'; use head = 'qr', or leave it out."
            )
        return CategoricalQLearning(values, double=double)
    if isinstance(values, QuantileValues):
        assert isinstance(network, QNetwork)
        if policy_samples is None:  # fixed quantiles need no number
            policy_samples = network.embedding.samples if network.implicit else 1
        return QuantileQLearning(
            double=double,
            huber_delta=huber_delta,
            munchausen=munchausen,
            implicit=network.implicit,
            samples=samples,
            target_samples=target_samples,
            policy_samples=policy_samples,
        )
    return QLearning(double=double, loss=loss, huber_delta=huber_delta, munchausen=munchausen)

"""Q-learning on quantiles of the return: QR-DQN, IQN, and Munchausen's forms of both."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastdqn.config.arguments import check_argument, check_like_fields
from fastdqn.config.groups import LearningFields, NetworkFields
from fastdqn.errors import ConfigError
from fastdqn.learning.distribution_losses import quantile_huber_loss
from fastdqn.learning.munchausen import Munchausen, check_munchausen, soft_value
from fastdqn.learning.objectives import (
    ONLINE_S,
    ONLINE_S2,
    TARGET_S,
    TARGET_S2,
    Forward,
    Outputs,
    Randoms,
    Transitions,
)
from fastdqn.learning.q_learning import bonus
from fastdqn.learning.shapes import of_action
from fastdqn.networks.values import midpoints

CHOICE = Forward("target", "s2", 1)
"""The target network on s2 with fractions of its own, to choose a' by."""


class QuantileQLearning:
    """The quantile Huber loss of every pair of a quantile and one of the target's.

    QR-DQN (Dabney 2018a, arXiv 1710.10044, Algorithm 1), and on a network of implicit quantiles IQN
    (Dabney 2018b, arXiv 1806.06923, Algorithm 1). Its priority is the loss, as in Dopamine's
    QR-DQN.

    Args:
        double: The online network chooses a' by its mean, the target network values it. Without,
            the target network chooses, by fractions of its own where it is implicit.
        huber_delta: kappa of the papers.
        munchausen: Munchausen Q-learning (Vieillard 2020, section 3), which chooses no a'.
        implicit: Whether the network is one of implicit quantiles, of which each forward wants
            fractions: the next three.
        samples: N, of the prediction.
        target_samples: N', of the target.
        policy_samples: K, of what chooses an action or is a policy.

    Raises:
        ConfigError: Where a number is of another type or out of range.
    """

    def __init__(
        self,
        *,
        double: bool = True,
        huber_delta: float = 1.0,
        munchausen: Munchausen | None = None,
        implicit: bool = False,
        samples: int = 64,
        target_samples: int = 64,
        policy_samples: int = 32,
    ) -> None:
        check_like_fields(LearningFields, double=double, huber_delta=huber_delta)
        check_munchausen(munchausen)
        implicit = check_argument("implicit", implicit, bool)
        check_like_fields(
            NetworkFields,
            iqn_samples=samples,
            iqn_target_samples=target_samples,
            iqn_policy_samples=policy_samples,
        )
        self.double, self.huber_delta = bool(double) and munchausen is None, float(huber_delta)
        self.munchausen, self.implicit = munchausen, implicit
        # Fixed quantiles choose and value at once.
        self._choice = ONLINE_S2 if self.double else CHOICE if implicit else TARGET_S2
        others = [] if self._choice == TARGET_S2 else [self._choice]
        if munchausen is not None and munchausen.policy == "target":
            others.append(TARGET_S)
        self.forwards = (TARGET_S2, *others, ONLINE_S)
        self.samples: Mapping[Forward, int] = {}
        if implicit:
            chosen_by = dict.fromkeys(others, int(policy_samples))
            self.samples = {TARGET_S2: int(target_samples), **chosen_by, ONLINE_S: int(samples)}

    def __call__(
        self, outputs: Outputs, batch: Transitions, randoms: Randoms
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, ``E Z(s, a) - E target``, and the loss again as priority, each [B]."""
        target = self._target(outputs, batch)
        quantiles = of_action(outputs[ONLINE_S], batch.action)
        drawn = randoms.get(ONLINE_S, {})
        if self.implicit and "tau" not in drawn:
            raise ConfigError(
                "implicit = True is for quantiles at fractions that are drawn, and the network's "
                "random_shapes names no 'tau'; leave it out."
            )
        fractions = drawn["tau"] if "tau" in drawn else self._fixed(quantiles)
        loss = quantile_huber_loss(quantiles, target, fractions, self.huber_delta)
        td = quantiles.mean(dim=1) - target.mean(dim=1)
        return loss, td, loss.detach()

    @torch.no_grad()
    def _target(self, outputs: Outputs, batch: Transitions) -> Tensor:
        """``r + discount Z(s', .)``, [B, N'], of the best action or of a soft policy."""
        following, choice = outputs[TARGET_S2], outputs.q(self._choice)
        reward = batch.reward
        if self.munchausen is None:
            value = of_action(following, choice.argmax(dim=1))
        else:
            value = soft_value(choice, following, self.munchausen.temperature)
            reward = reward + bonus(self.munchausen, outputs, batch)
        return reward.unsqueeze(1) + batch.discount.unsqueeze(1) * value

    @staticmethod
    def _fixed(quantiles: Tensor) -> Tensor:
        return midpoints(quantiles.shape[1], quantiles.device)

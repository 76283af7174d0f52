"""Q-learning on a distribution over fixed values: C51 (Bellemare 2017), Rainbow's loss."""

from __future__ import annotations

from torch import Tensor

from fastdqn.config.arguments import check_like_fields
from fastdqn.config.groups import LearningFields
from fastdqn.errors import ConfigError
from fastdqn.learning.distribution_losses import categorical_target, cross_entropy_loss
from fastdqn.learning.objectives import (
    ONLINE_S,
    ONLINE_S2,
    TARGET_S2,
    Outputs,
    Randoms,
    Transitions,
)
from fastdqn.learning.shapes import of_action
from fastdqn.networks.values import CategoricalValues


class CategoricalQLearning:
    """The cross-entropy of the projected target's distribution and the predicted one.

    Bellemare 2017 (arXiv 1707.06887), Algorithm 1; its priority is the loss (Hessel 2018, arXiv
    1710.02298, "The Integrated Agent"), which is cross-entropy where that text has the divergence:
    the same gradient, but a priority above 0 for what is uncertain by itself.

    Args:
        values: The atoms, as the network has them.
        double: The online network chooses a' by its expectation, the target network's distribution
            values it.

    Raises:
        ConfigError: Where ``double`` is no truth value.
    """

    def __init__(self, values: CategoricalValues, *, double: bool = True) -> None:
        check_like_fields(LearningFields, double=double)
        if not isinstance(values, CategoricalValues):
            raise ConfigError(
                f"values is {type(values).__name__}; pass a fastdqn.networks.CategoricalValues, as "
                f"the network has them."
            )
        self.values, self.double = values, bool(double)
        self.forwards = (TARGET_S2, *([ONLINE_S2] if double else []), ONLINE_S)

    def __call__(
        self, outputs: Outputs, batch: Transitions, randoms: Randoms
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, ``E Z(s, a) - E target``, and the loss again as priority, each [B].

        Raises:
            ConfigError: Where the network's head is of another kind, or has other atoms.
        """
        best = outputs.q(ONLINE_S2 if self.double else TARGET_S2).argmax(dim=1)
        following = of_action(outputs[TARGET_S2], best).softmax(dim=1)
        target = categorical_target(
            following, batch.reward, batch.discount, self.values.value_min, self.values.value_max
        )
        logits = of_action(outputs[ONLINE_S], batch.action)
        if logits.shape[1] != self.values.atoms:
            raise ConfigError(
                f"The network has {logits.shape[1]} atoms and the objective's values have "
                f"{self.values.atoms}; use the same."
            )
        loss = cross_entropy_loss(logits, target)
        expected = (target * self.values.support(target.device)).sum(dim=1)
        q = outputs.q(ONLINE_S).detach()
        td = q.gather(1, batch.action.unsqueeze(1)).squeeze(1) - expected
        return loss, td, loss.detach()

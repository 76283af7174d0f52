"""Q-learning on the mean of the return: DQN, double DQN, Munchausen DQN."""

from __future__ import annotations

from torch import Tensor

from fastdqn.config.arguments import check_choice, check_like_fields
from fastdqn.config.groups import LearningFields
from fastdqn.learning.losses import double_q_target, huber_loss, mse_loss, q_target, td_error
from fastdqn.learning.munchausen import Munchausen, check_munchausen, munchausen_bonus, soft_value
from fastdqn.learning.objectives import (
    ONLINE_S,
    ONLINE_S2,
    TARGET_S,
    TARGET_S2,
    Outputs,
    Randoms,
    Transitions,
)

LOSSES = ("huber", "mse")


class QLearning:
    """The TD error of Q-learning (Mnih 2015) or double Q-learning (van Hasselt 2016).

    Its priority is ``|td|``, that of proportional prioritized replay (Schaul 2016, section 3.3).

    Args:
        double: Double Q-learning: the online network chooses a', the target network values it.
        loss: ``huber`` or ``mse``, of the TD error.
        huber_delta: Where the Huber loss turns linear.
        munchausen: Munchausen Q-learning (Vieillard 2020, eq. 1), which chooses no a'. Of n-step
            returns the first action alone has a bonus.

    Raises:
        ConfigError: Where the loss is another, or a number out of range.
    """

    def __init__(
        self,
        *,
        double: bool = True,
        loss: str = "huber",
        huber_delta: float = 1.0,
        munchausen: Munchausen | None = None,
    ) -> None:
        check_choice("loss", loss, LOSSES)
        check_like_fields(LearningFields, double=double, huber_delta=huber_delta)
        check_munchausen(munchausen)
        self.double, self.loss, self.huber_delta = bool(double), loss, float(huber_delta)
        self.munchausen = munchausen
        if munchausen is not None:
            self.double = False
            target_s = [TARGET_S] if munchausen.policy == "target" else []
            self.forwards = (TARGET_S2, *target_s, ONLINE_S)
        else:
            self.forwards = (TARGET_S2, *([ONLINE_S2] if double else []), ONLINE_S)

    def __call__(
        self, outputs: Outputs, batch: Transitions, randoms: Randoms
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, ``Q(s, a) - target``, and its size, each [B]."""
        following = outputs.q(TARGET_S2)
        if self.munchausen is not None:
            value = soft_value(following, following, self.munchausen.temperature)
            target = batch.reward + bonus(self.munchausen, outputs, batch) + batch.discount * value
        elif self.double:
            choice = outputs.q(ONLINE_S2)
            target = double_q_target(choice, following, batch.reward, batch.discount)
        else:
            target = q_target(following, batch.reward, batch.discount)
        td = td_error(outputs.q(ONLINE_S), batch.action, target)
        loss = huber_loss(td, self.huber_delta) if self.loss == "huber" else mse_loss(td)
        return loss, td, td.detach().abs()


def bonus(munchausen: Munchausen, outputs: Outputs, batch: Transitions) -> Tensor:
    """What Munchausen Q-learning adds to the rewards of a batch, [B]."""
    q = outputs.q(TARGET_S if munchausen.policy == "target" else ONLINE_S)
    m = munchausen
    return munchausen_bonus(q, batch.action, m.alpha, m.temperature, m.clip)

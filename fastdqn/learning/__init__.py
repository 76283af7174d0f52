"""Learning: from a batch to new parameters. Losses, the update and its fused form, optimizers.

May import acting, networks, replay and below; knows neither envs nor ``Config``.
Start reading at ``learner``, then ``update``; what is minimised says ``objectives``, and
``q_learning``, ``categorical_q_learning`` and ``quantile_q_learning`` are ours.

The names in ``__all__`` are public, and loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastdqn._lazy import attach

_HOME = {
    "Learner": "learning.learner",
    "UpdateResult": "learning.learner",
    "Objective": "learning.objectives",
    "Forward": "learning.objectives",
    "Outputs": "learning.objectives",
    "Transitions": "learning.objectives",
    "QLearning": "learning.q_learning",
    "CategoricalQLearning": "learning.categorical_q_learning",
    "QuantileQLearning": "learning.quantile_q_learning",
    "Munchausen": "learning.munchausen",
    "objective_for": "learning.choose_objective",
    "q_target": "learning.losses",
    "double_q_target": "learning.losses",
    "td_error": "learning.losses",
    "huber_loss": "learning.losses",
    "mse_loss": "learning.losses",
    "categorical_target": "learning.distribution_losses",
    "cross_entropy_loss": "learning.distribution_losses",
    "quantile_huber_loss": "learning.distribution_losses",
    "munchausen_bonus": "learning.munchausen",
    "soft_value": "learning.munchausen",
    "input_gradient": "learning.input_gradients",
    "perturbation_saliency": "learning.perturbation",
}

__all__ = [
    "CategoricalQLearning",
    "Forward",
    "Learner",
    "Munchausen",
    "Objective",
    "Outputs",
    "QLearning",
    "QuantileQLearning",
    "Transitions",
    "UpdateResult",
    "categorical_target",
    "cross_entropy_loss",
    "double_q_target",
    "huber_loss",
    "input_gradient",
    "mse_loss",
    "munchausen_bonus",
    "objective_for",
    "perturbation_saliency",
    "q_target",
    "quantile_huber_loss",
    "soft_value",
    "td_error",
]

if TYPE_CHECKING:
    from fastdqn.learning.categorical_q_learning import CategoricalQLearning
    from fastdqn.learning.choose_objective import objective_for
    from fastdqn.learning.distribution_losses import (
        categorical_target,
        cross_entropy_loss,
        quantile_huber_loss,
    )
    from fastdqn.learning.input_gradients import input_gradient
    from fastdqn.learning.learner import Learner, UpdateResult
    from fastdqn.learning.losses import double_q_target, huber_loss, mse_loss, q_target, td_error
    from fastdqn.learning.munchausen import Munchausen, munchausen_bonus, soft_value
    from fastdqn.learning.objectives import Forward, Objective, Outputs, Transitions
    from fastdqn.learning.perturbation import perturbation_saliency
    from fastdqn.learning.q_learning import QLearning
    from fastdqn.learning.quantile_q_learning import QuantileQLearning
else:
    __getattr__, __dir__ = attach(__name__, _HOME)

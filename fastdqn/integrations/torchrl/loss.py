"""Our objectives as a loss module of TorchRL."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from tensordict import TensorDict, TensorDictBase, TensorDictParams
from torch import Tensor, nn
from torchrl.objectives import LossModule

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.errors import ConfigError, FastDQNError
from fastdqn.integrations.torchrl.actions import to_numbers
from fastdqn.integrations.torchrl.actor import check_observation_network
from fastdqn.learning.choose_objective import check_goes_with, objective_for
from fastdqn.learning.draws import UpdateDraws
from fastdqn.learning.munchausen import Munchausen
from fastdqn.learning.objectives import (
    Forward,
    Objective,
    Transitions,
    check_forwards,
    check_terms,
    run_forwards,
    trains,
)
from fastdqn.networks.checks import check_parameters, check_trainable
from fastdqn.networks.copies import copied, share_in_evaluation_mode
from fastdqn.networks.forward import forward_output, to_q

REDUCTIONS = ("mean", "sum", "none")


class DQNLossModule(LossModule):
    """The loss of an update of ours: double DQN, C51, QR-DQN, IQN or Munchausen.

    It reads what TorchRL's ``DQNLoss`` reads (``observation``, ``action`` as numbers or one-hot,
    ``next`` with ``observation``, ``reward``, ``terminated`` or ``done``), and for n-step returns
    ``gamma`` or ``steps_to_next_obs``; :class:`FrameReplayBuffer` and TorchRL's buffers have that.
    ``SoftUpdate`` and ``HardUpdate`` move its target parameters.

    Under ``td_error`` it writes the objective's priority, [B, 1]: ``|td|`` of Q-learning (Schaul
    2016), where ``DQNLoss`` writes its square. The mean is ``mean(priority_weight * loss)`` as in
    Schaul 2016, where ``DQNLoss`` divides by the sum of the weights.

    Args:
        network: Observations to its head's output; of :func:`fastdqn.make_network`,
            or any that makes Q, [B, A].
        objective: What to minimise; None: what goes with the network's head, by the next four.
        double: Double Q-learning.
        loss: ``huber`` or ``mse``, of the TD error.
        huber_delta: Where the Huber loss turns linear.
        munchausen: Munchausen Q-learning.
        gamma: Discount per step, 0 to 1; not looked at where a batch has ``gamma``.
        delay_value: Bootstrap from target parameters; False: from the network itself.
        reduction: ``mean``, ``sum`` or ``none``.
        seed: Of the random numbers of updates (noise, quantile fractions).

    Raises:
        ConfigError: Where an argument is out of range or does not go with the network.
    """

    @dataclass
    class _AcceptedKeys:
        """The keys that ``set_keys`` changes."""

        observation: Any = "observation"
        action: Any = "action"
        reward: Any = "reward"
        done: Any = "done"
        terminated: Any = "terminated"
        priority: Any = "td_error"
        priority_weight: Any = "priority_weight"
        gamma: Any = "gamma"
        steps_to_next_obs: Any = "steps_to_next_obs"

    default_keys = _AcceptedKeys
    value_network: nn.Module
    value_network_params: TensorDictParams
    target_value_network_params: TensorDictParams
    out_keys = ["loss"]  # noqa: RUF012, TorchRL's own

    def __init__(
        self,
        network: nn.Module,
        objective: Objective | None = None,
        *,
        double: bool = True,
        loss: str = "huber",
        huber_delta: float = 1.0,
        munchausen: Munchausen | None = None,
        gamma: float = 0.99,
        delay_value: bool = True,
        reduction: str = "mean",
        seed: int = 0,
    ) -> None:
        super().__init__()
        network = check_observation_network(network)
        check_parameters(network)
        check_trainable(network)
        if reduction not in REDUCTIONS:
            raise ConfigError(f"reduction = {reduction!r} must be one of {', '.join(REDUCTIONS)}.")
        self.gamma = check_argument("gamma", gamma, float, Range(0.0, 1.0))
        self.delay_value = check_argument("delay_value", delay_value, bool)
        self.seed, self.reduction = (
            check_argument("seed", seed, int, Range(0, 2**63 - 1)),
            reduction,
        )
        self._tried = objective is None  # ours needs no trial
        self.objective: Objective = (
            objective_for(
                network, double=double, loss=loss, huber_delta=huber_delta, munchausen=munchausen
            )
            if objective is None
            else objective
        )
        check_forwards(self.objective)
        check_goes_with(network, self.objective)
        self.convert_to_functional(network, "value_network", create_target_params=delay_value)
        # Beside it, out of sight of nn.Module: what computes without a gradient. Modules that hold
        # the parameters are called as they are, for to swap them costs as much as a small network.
        self.__dict__["_evaluating"] = share_in_evaluation_mode(network)
        self.__dict__["_target"] = copied(network).eval()
        self._place()
        self._draws = UpdateDraws(network, self.objective)
        self._generator: torch.Generator | None = None

    def make_value_estimator(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: there is no estimator."""
        raise ConfigError(
            "make_value_estimator does not go with this loss, which has no estimator; pass gamma "
            "to DQNLossModule."
        )

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        """Nothing: there is no estimator."""

    @property
    def in_keys(self) -> list[Any]:
        """What it reads of every batch."""
        keys = self.tensor_keys
        own = [keys.observation, keys.action]
        return [*own, *(("next", key) for key in (keys.observation, keys.reward, keys.terminated))]

    @in_keys.setter
    def in_keys(self, value: Any) -> None:
        raise ConfigError("in_keys follow from the keys; call set_keys.")

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """The loss of a batch.

        Args:
            tensordict: [B]; gets ``td_error``, [B, 1].

        Returns:
            ``loss``: 0-d, or [B] without reduction.

        Raises:
            FastDQNError: Where the batch has another number of dimensions, or lacks a key.
        """
        if not isinstance(tensordict, TensorDictBase):
            raise FastDQNError(f"tensordict is {type(tensordict).__name__}; pass a TensorDict.")
        if tensordict.batch_dims != 1:
            raise FastDQNError(
                f"tensordict has batch_size {list(tensordict.batch_size)}; pass one dimension, "
                f"[B], as tensordict.reshape(-1) makes."
            )
        batch = self._transitions(tensordict)
        count = batch.action.shape[0]
        randoms = self._draws.by_forward(self._drawn(count, batch.action.device), count)

        def run(forward: Forward) -> Tensor:
            observation = batch.next_observation if forward[1] == "s2" else batch.observation
            return forward_output(self._network(forward), observation, False, randoms.get(forward))

        outputs = run_forwards(self.objective, run, partial(to_q, self.value_network))
        terms = self.objective(outputs, batch, randoms)
        if not self._tried:
            check_terms(self.objective, terms, count)
            self._tried = True
        loss, _, priority = terms
        tensordict.set(self.tensor_keys.priority, priority.detach().unsqueeze(-1))
        weight = tensordict.get(self.tensor_keys.priority_weight, None)
        if weight is not None:
            loss = loss * _single(self.tensor_keys.priority_weight, weight, count)
        if self.reduction != "none":
            loss = loss.mean() if self.reduction == "mean" else loss.sum()
        return TensorDict({"loss": loss}, batch_size=loss.shape)

    def _network(self, forward: Forward) -> nn.Module:
        """The network that a forward asks for."""
        if trains(forward):
            return self.value_network
        target = forward[0] == "target" and self.delay_value
        return self.__dict__["_target" if target else "_evaluating"]

    @torch.no_grad()
    def _place(self) -> None:
        """Let the modules have the parameters that the loss has now."""
        evaluating, target = self.__dict__["_evaluating"], self.__dict__["_target"]
        for module in (self.value_network, evaluating):
            self.value_network_params.to_module(module)
        if not self.delay_value:
            return
        # Buffers are running statistics, which no updater moves: those of the network itself.
        for name, parameter in target.named_parameters():
            parameter.data = self._modules["target_value_network_params"].get(
                tuple(name.split("."))
            )
            parameter.requires_grad_(False)
        for name, module in target.named_modules():
            own = evaluating.get_submodule(name)
            for buffer in module._buffers:
                module._buffers[buffer] = own._buffers[buffer]

    def _apply(self, function: Any, recurse: bool = True) -> Self:
        super()._apply(function)
        if "_target" in self.__dict__:
            self._place()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy, or of what was pickled: neither keeps which parameters are one."""
        super().__setstate__(state)
        self._place()

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module."""
        found = super().load_state_dict(*args, **kwargs)
        self._place()
        return found

    def _drawn(self, count: int, device: torch.device) -> list[Tensor]:
        if not self._draws:
            return []
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self.seed)
        return self._draws.draw(count, self._generator)

    def _transitions(self, tensordict: TensorDictBase) -> Transitions:
        keys, following = self.tensor_keys, tensordict.get("next", None)
        if not isinstance(following, TensorDictBase):
            following = None
        missing = [
            key
            for key, there in (
                ("next", following is not None),
                (keys.observation, tensordict.get(keys.observation, None) is not None),
                (keys.action, tensordict.get(keys.action, None) is not None),
                *(
                    (("next", key), following is not None and following.get(key, None) is not None)
                    for key in (keys.observation, keys.reward)
                ),
            )
            if not there
        ]
        ended = None if following is None else following.get(keys.terminated, None)
        if ended is None and following is not None:
            ended = following.get(keys.done, None)
        if ended is None:
            missing.append(("next", keys.terminated))
        if missing or following is None or ended is None:
            raise FastDQNError(
                f"The batch has no {missing[0]!r}; rename it, or name its key with set_keys."
            )
        action, _ = to_numbers(tensordict.get(keys.action), tensordict.batch_size)
        count = tensordict.numel()
        reward = _single(keys.reward, following.get(keys.reward), count).float()
        going_on = 1.0 - _single(keys.terminated, ended, count).float()
        return Transitions(
            _frames(tensordict.get(keys.observation)),
            action,
            reward,
            self._discount(tensordict, reward) * going_on,
            _frames(following.get(keys.observation)),
        )

    def _discount(self, tensordict: TensorDictBase, reward: Tensor) -> Tensor:
        """gamma^m of each sample, [B]."""
        given = tensordict.get(self.tensor_keys.gamma, None)
        if given is not None:
            return _single(self.tensor_keys.gamma, given, len(reward)).float()
        steps = tensordict.get(self.tensor_keys.steps_to_next_obs, None)
        if steps is None:
            return torch.full_like(reward, self.gamma)
        steps = _single(self.tensor_keys.steps_to_next_obs, steps, len(reward))
        return self.gamma ** steps.to(reward.dtype)


def _single(name: Any, value: Tensor, count: int) -> Tensor:
    """[B] of [B] or [B, 1]."""
    if value.numel() != count:
        raise FastDQNError(
            f"{name!r} has shape {list(value.shape)} in a batch of {count}; use one number for "
            f"each, [{count}, 1]."
        )
    return value.reshape(-1)


def _frames(observation: Tensor) -> Tensor:
    return observation if observation.dtype == torch.uint8 else observation.float()

"""The learner: networks, optimizer, one update, the target network.

An update is two functions: ``_gradients`` (pure: parameters and batch in, gradients out; this is
what gets compiled) and ``_apply`` (clip, optimizer, statistics; in place). Between them several
GPUs would exchange their gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastdqn.compilation import CapturedStep, compile_pure, resolve_mode
from fastdqn.devices import resolve_device, resolve_precision
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.flat import FlatParameters
from fastdqn.losses import double_q_target, huber_loss, mse_loss, q_target, td_error
from fastdqn.policy import Policy
from fastdqn.replay import ReplayBuffer
from fastdqn.rmsprop import CentredRMSprop
from fastdqn.types import Batch

# What every update adds to `Learner.statistics`, in this order; the last counts finite losses.
STATISTICS = ("loss", "td_error_abs", "q_mean", "finite")


class UpdateResult(NamedTuple):
    """Tensors on the device, borrowed until the next update."""

    loss: Tensor  # 0-d: mean of weight * loss
    td_error: Tensor  # [B]: Q(s, a) - target
    priority: Tensor  # [B]: |td_error|


class Learner:
    """Trains a network on batches, or straight from a replay.

    Args:
        network: Maps observations [B, ...] to its head's output; ``network.q_values(output)``
            gives Q, [B, A] (a network without that method outputs Q itself). It is moved to the
            device and its parameters into one flat buffer.
        double: Double Q-learning (van Hasselt 2016).
        loss: ``huber`` or ``mse``, of the TD error.
        huber_delta: Where the Huber loss turns linear.
        optimizer: ``adam`` (Kingma 2015) or ``rmsprop`` (centred).
        learning_rate: Step size; :meth:`set_learning_rate` changes it.
        optimizer_epsilon: Term in the optimizer's denominator.
        rmsprop_alpha: Smoothing of RMSprop's averages.
        max_grad_norm: Scale the whole gradient down to this 2-norm.
        max_grad_value: Clamp each entry of the gradient to [-x, x].
        target_period_updates: Move the target network every so many updates; None: bootstrap
            from the online network.
        target_tau: How far the target moves: ``target += tau (online - target)``.
        precision: ``fp32``, ``bf16`` (autocast; parameters, head, targets and loss stay float32)
            or ``auto``: bf16 for convolutions where the device has it.
        mode: ``eager``, ``compile``, ``graph`` or ``auto``.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: Of the policy's generator.
        compile_backend: Of torch.compile; tests take one that needs no C++ compiler.

    Raises:
        ConfigError: Where an argument is not possible on this device.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        double: bool = True,
        loss: str = "huber",
        huber_delta: float = 1.0,
        optimizer: str = "adam",
        learning_rate: float = 1e-4,
        optimizer_epsilon: float = 1e-8,
        rmsprop_alpha: float = 0.95,
        max_grad_norm: float | None = None,
        max_grad_value: float | None = None,
        target_period_updates: int | None = 2000,
        target_tau: float = 1.0,
        precision: str = "auto",
        mode: str = "auto",
        device: torch.device | str = "cpu",
        seed: int = 0,
        compile_backend: str = "inductor",
    ) -> None:
        self.device = resolve_device(device)
        self.mode = resolve_mode(mode, self.device)
        self.precision = resolve_precision(precision, network, self.device)
        self.updates = 0
        self.seed = seed
        self.max_grad_norm, self.max_grad_value = max_grad_norm, max_grad_value
        self.target_period_updates, self.target_tau = target_period_updates, target_tau

        self.network = network.to(self.device).train()
        self.flat = FlatParameters(self.network)
        # The same parameters and buffers in evaluation mode: to act and to choose a' with.
        shared = {id(t): t for t in [*self.network.parameters(), *self.network.buffers()]}
        self.acting_network = copy.deepcopy(self.network, shared).eval()
        self.target_network = self.acting_network
        self._target_flat = self.flat
        if target_period_updates is not None:
            self.target_network = copy.deepcopy(self.network).eval().requires_grad_(False)
            self._target_flat = FlatParameters(self.target_network)

        self._parameter = nn.Parameter(self.flat.data)
        self._gradient = torch.zeros_like(self.flat.data)
        self._parameter.grad = self._gradient
        self._optimizer = _make_optimizer(
            optimizer, self._parameter, learning_rate, optimizer_epsilon, rmsprop_alpha
        )
        # Makes the moments exist at addresses that a capture can rely on; a gradient of zero
        # moves no parameter.
        self._optimizer.step()
        for moment in self._moments.values():
            moment.zero_()

        self.statistics = torch.zeros(len(STATISTICS), device=self.device)
        self._beta = torch.ones((), device=self.device)
        self._captured: dict[tuple[int, int], tuple[ReplayBuffer, CapturedStep]] = {}
        losses: dict[str, Callable[[Tensor], Tensor]] = {
            "huber": partial(huber_loss, delta=huber_delta),
            "mse": mse_loss,
        }
        if loss not in losses:
            raise ConfigError(f"loss = {loss!r} must be one of huber, mse.")
        self._gradients = compile_pure(
            _make_gradients(
                self.network,
                self.acting_network,
                self.target_network,
                loss=losses[loss],
                double=double,
                bf16=self.precision == "bf16",
                device_type=self.device.type,
            ),
            self.mode,
            compile_backend,
        )

    def update(self, batch: Batch) -> UpdateResult:
        """One optimizer step on a batch that lies on the learner's device."""
        result = self._update(batch)
        self._count()
        return result

    def update_from(
        self,
        replay: ReplayBuffer,
        times: int = 1,
        *,
        batch_size: int,
        beta: float | Tensor = 1.0,
    ) -> UpdateResult | None:
        """``times`` whole steps: sample, update, write the priorities back.

        Args:
            replay: On the same device, with enough rows to draw from.
            times: Number of updates; 0 does nothing and returns None.
            batch_size: B; a graph is captured for each value seen.
            beta: Exponent of the importance weights.
        """
        if times <= 0:
            return None
        if isinstance(beta, Tensor):
            self._beta.copy_(beta)
        else:
            self._beta.fill_(beta)
        step = partial(self._step, replay, batch_size)
        if self.mode == "graph":
            step = self._capture(replay, batch_size, step)  # type: ignore[assignment]
        for _ in range(times):
            result = step()
            self._count()
        return UpdateResult(*result)

    def _step(self, replay: ReplayBuffer, batch_size: int) -> UpdateResult:
        batch = replay.sample(batch_size, beta=self._beta)
        result = self._update(batch)
        if replay.prioritized:
            replay.update_priorities(batch.index, result.priority)
        return result

    def _update(self, batch: Batch) -> UpdateResult:
        gradients, summary, td, priority = self._gradients(*batch[:6])
        with torch.no_grad():
            self._apply(gradients, summary)
        return UpdateResult(summary[0], td, priority)

    def _apply(self, gradients: tuple[Tensor, ...], summary: Tensor) -> None:
        self.flat.gather(gradients, out=self._gradient)
        if self.max_grad_norm is not None:
            norm = torch.linalg.vector_norm(self._gradient)
            self._gradient.mul_((self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        if self.max_grad_value is not None:
            self._gradient.clamp_(-self.max_grad_value, self.max_grad_value)
        self._optimizer.step()
        self.statistics.add_(summary)

    def _count(self) -> None:
        """Count the update on the host, and move the target when it is due."""
        self.updates += 1
        period = self.target_period_updates
        if period is not None and self.updates % period == 0:
            self.sync_target(self.target_tau)

    @torch.no_grad()
    def sync_target(self, tau: float = 1.0) -> None:
        """``target += tau (online - target)``; buffers (running statistics) are copied."""
        if tau == 1.0:
            self._target_flat.data.copy_(self.flat.data)
        else:
            self._target_flat.data.lerp_(self.flat.data, tau)
        buffers = zip(self.target_network.buffers(), self.network.buffers(), strict=True)
        for target, online in buffers:
            target.copy_(online)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the step size, also of graphs already captured."""
        group = self._optimizer.param_groups[0]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate

    def read_statistics(self) -> dict[str, float]:
        """Sums since the last call, by name, and start anew. Waits for the device."""
        values = self.statistics.tolist()
        self.statistics.zero_()
        return dict(zip(STATISTICS, values, strict=True))

    def policy(self, **kwargs: Any) -> Policy:
        """The network as it acts now and later: it shares the learner's parameters.

        Args:
            kwargs: As for :class:`fastdqn.policy.Policy`, e.g. ``frame_stack``.
        """
        kwargs = {"device": self.device, "seed": self.seed, "bf16": self.bf16, **kwargs}
        return Policy(self.acting_network, **kwargs)

    @property
    def bf16(self) -> bool:
        """Whether network bodies run in bfloat16."""
        return self.precision == "bf16"

    @property
    def _moments(self) -> dict[str, Tensor]:
        return self._optimizer.state[self._parameter]

    def _capture(
        self, replay: ReplayBuffer, batch_size: int, step: Callable[[], UpdateResult]
    ) -> CapturedStep:
        key = (id(replay), batch_size)
        if key not in self._captured:
            captured = CapturedStep(step, self._changed_by_a_step(replay), [replay.generator])
            self._captured[key] = (replay, captured)  # the reference keeps the id unique
        return self._captured[key][1]

    def _changed_by_a_step(self, replay: ReplayBuffer) -> list[Tensor]:
        """Every tensor that :meth:`_step` writes to, generators aside."""
        return [
            self.flat.data,
            *self._moments.values(),
            *self.network.buffers(),
            self.statistics,
            replay.max_priority,
            replay.nonfinite_priority,
            *replay.tree.tensors(),
        ]

    def state_dict(self) -> dict[str, Any]:
        """Networks in canonical shapes, moments by parameter name, counters."""
        moments = {
            name: self.flat.named_views(value) if value.shape == self.flat.data.shape else value
            for name, value in self._moments.items()
        }
        return {
            "network": self.network.state_dict(),
            "target_network": self.target_network.state_dict(),
            "moments": moments,
            "statistics": self.statistics,
            "updates": self.updates,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict` in place; CheckpointError where it does not fit."""
        load_network(self.network, state["network"])
        load_network(self.target_network, state["target_network"])
        if set(state["moments"]) != set(self._moments):
            raise CheckpointError(
                f"The saved optimizer has {sorted(state['moments'])}, this one "
                f"{sorted(self._moments)}; use the optimizer it was saved with."
            )
        for name, value in self._moments.items():
            saved = state["moments"][name]
            if isinstance(saved, dict):
                for key, view in self.flat.named_views(value).items():
                    view.copy_(saved[key])
            else:
                value.copy_(saved)
        self.statistics.copy_(state["statistics"])
        self.updates = state["updates"]


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


def _make_optimizer(
    name: str, parameter: nn.Parameter, learning_rate: float, epsilon: float, alpha: float
) -> torch.optim.Optimizer:
    on_cuda = parameter.is_cuda
    rate = torch.tensor(learning_rate, device=parameter.device) if on_cuda else learning_rate
    if name == "adam":
        return torch.optim.Adam([parameter], lr=rate, eps=epsilon, fused=True, capturable=on_cuda)
    if name == "rmsprop":
        return CentredRMSprop(parameter, rate, alpha, epsilon)
    raise ConfigError(f"optimizer = {name!r} must be one of adam, rmsprop.")


def _make_gradients(
    network: nn.Module,
    acting_network: nn.Module,
    target_network: nn.Module,
    *,
    loss: Callable[[Tensor], Tensor],
    double: bool,
    bf16: bool,
    device_type: str,
) -> Callable[..., tuple[tuple[Tensor, ...], Tensor, Tensor, Tensor]]:
    """The pure part of the update, over networks whose parameters stay where they are."""
    parameters = list(network.parameters())
    q_values = getattr(network, "q_values", None) or (lambda output: output)

    def q(module: nn.Module, observation: Tensor) -> Tensor:
        # A context per forward: autocast caches lowered weights, and those made without grad
        # must not serve the forward that needs it.
        context = torch.autocast(device_type, dtype=torch.bfloat16) if bf16 else nullcontext()
        with context:
            output = module(observation)
        return q_values(output.float() if bf16 else output)

    def gradients(
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_observation: Tensor,
        weight: Tensor,
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor, Tensor]:
        with torch.no_grad():
            following = q(target_network, next_observation)
            if double:
                chooser = q(acting_network, next_observation)
                target = double_q_target(chooser, following, reward, discount)
            else:
                target = q_target(following, reward, discount)
        values = q(network, observation)
        td = td_error(values, action, target)
        mean_loss = (weight * loss(td)).mean()
        grads = torch.autograd.grad(mean_loss, parameters)
        td, mean_loss = td.detach(), mean_loss.detach()
        priority = td.abs()
        finite = torch.isfinite(mean_loss).to(mean_loss.dtype)
        summary = torch.stack((mean_loss, priority.mean(), values.detach().mean(), finite))
        return grads, summary, td, priority

    return gradients

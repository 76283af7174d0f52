"""The learner: networks, optimizer, one update, the target network.

An update is two functions: ``_gradients`` (pure, compiled whole) and ``_apply`` (clip, optimizer,
statistics; in place, on CUDA in compiled pieces). Between them several GPUs would exchange their
gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fastdqn.acting.policy import Policy
from fastdqn.errors import CheckpointError, ConfigError, FastDQNError
from fastdqn.learning.bf16 import Bfloat16Twin
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.learning.fused_updates import make_launch
from fastdqn.learning.losses import huber_loss, mse_loss
from fastdqn.learning.optimizers import Optimizer, clip, make_optimizer
from fastdqn.learning.update import STATISTICS, Gradients, make_gradients
from fastdqn.networks.checks import load_network
from fastdqn.networks.copies import share_in_evaluation_mode
from fastdqn.networks.q_network import QNetwork
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.system.compilation import CapturedStep, compile_pure, resolve_mode, weakly
from fastdqn.system.devices import convolves, resolve_device, resolve_precision
from fastdqn.types import Batch

_AS_IT_IS = nullcontext()


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
            device and its parameters into one flat buffer. Parameters that are frozen
            (``requires_grad = False``) stay as they are.
        double: Double Q-learning (van Hasselt 2016).
        loss: ``huber`` or ``mse``, of the TD error.
        huber_delta: Where the Huber loss turns linear.
        optimizer: ``adam`` (Kingma 2015), ``rmsprop``, or a function that makes another of the flat
            parameters, float32, and their bfloat16 copy (None without one).
        learning_rate: Step size; :meth:`set_learning_rate` changes it.
        optimizer_epsilon: Term in the optimizer's denominator.
        rmsprop_alpha: Smoothing of RMSprop's averages.
        rmsprop_centred: RMSprop as in Mnih 2015; otherwise the plain form.
        max_grad_norm: Scale the whole gradient down to this 2-norm.
        max_grad_value: Clamp each entry of the gradient to [-x, x].
        target_period_updates: Move the target network every so many updates; None: bootstrap
            from the online network.
        target_tau: How far the target moves: ``target += tau (online - target)``.
        precision: ``fp32``, ``bf16`` (of the network's body; parameters, head, targets and loss
            stay float32) or ``auto``: bf16 for convolutions where the device has it.
        mode: ``eager``, ``compile``, ``graph`` or ``auto``.
        updates_per_launch: K, updates that :meth:`update_from` runs as one: captured as one graph
            on CUDA, drawn from a uniform replay at once on any device, and with ``compile`` on a
            CPU one compiled function.
        expected_updates: By which ``auto`` judges on a CPU whether compiling repays.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: Of the policy's generator.
        compile_backend: Of torch.compile; tests take one that needs no C++ compiler.
        make_gradients: Another way to compute the same gradients; arguments and result as for
            :func:`fastdqn.learning.update.make_gradients`.

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
        optimizer: str | Callable[[Tensor, Tensor | None], Optimizer] = "adam",
        learning_rate: float = 1e-4,
        optimizer_epsilon: float = 1e-8,
        rmsprop_alpha: float = 0.95,
        rmsprop_centred: bool = True,
        max_grad_norm: float | None = None,
        max_grad_value: float | None = None,
        target_period_updates: int | None = 2000,
        target_tau: float = 1.0,
        precision: str = "auto",
        mode: str = "auto",
        updates_per_launch: int = 1,
        expected_updates: int | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        compile_backend: str = "inductor",
        make_gradients: Callable[..., Gradients] = make_gradients,
    ) -> None:
        self.device = resolve_device(device)
        self.mode = resolve_mode(
            mode,
            self.device,
            convolves=convolves(network),
            updates=expected_updates,
            backend=compile_backend,
        )
        self.precision = resolve_precision(precision, network, self.device)
        self.updates = 0
        self.seed = seed
        self.max_grad_norm, self.max_grad_value = max_grad_norm, max_grad_value
        self.target_period_updates, self.target_tau = target_period_updates, target_tau

        self.updates_per_launch = updates_per_launch

        self.network = training = network.to(self.device).train()
        self.flat = FlatParameters(self.network)
        if not any(parameter.requires_grad for parameter in self.network.parameters()):
            raise ConfigError(
                "Every parameter of the network is frozen; set requires_grad = True on those to "
                "train."
            )
        # What computes: the networks themselves, or their twins in bfloat16.
        self._twin: Bfloat16Twin | None = None
        self._target_twin: Bfloat16Twin | None = None
        if self.bf16 and isinstance(self.network, QNetwork):
            self._twin = self._target_twin = Bfloat16Twin(self.network, self.flat)
            training = self._twin.network
        self.autocast = self.bf16 and self._twin is None
        # The same parameters and buffers in evaluation mode: to act and to choose a' with.
        self.acting_network = target = share_in_evaluation_mode(training)
        if target_period_updates is None:
            self.target_network = share_in_evaluation_mode(self.network)
            self._target_flat = self.flat
        else:
            self.target_network = target = copy.deepcopy(self.network).eval().requires_grad_(False)
            self._target_flat = FlatParameters(self.target_network)
            if isinstance(self.target_network, QNetwork) and self._twin is not None:
                self._target_twin = Bfloat16Twin(self.target_network, self._target_flat)
                target = self._target_twin.network

        if callable(optimizer):
            lowered = None if self._twin is None else self._twin.data
            self._optimizer = optimizer(self.flat.data, lowered)
        else:
            self._optimizer = make_optimizer(
                optimizer,
                self.flat.data,
                learning_rate,
                epsilon=optimizer_epsilon,
                rmsprop_alpha=rmsprop_alpha,
                rmsprop_centred=rmsprop_centred,
            )
        self.statistics = torch.zeros(len(STATISTICS), device=self.device)
        self._beta = torch.ones((), device=self.device)
        # By batch size and launch; a graph goes with the replay whose memory it reads.
        self._captured: WeakKeyDictionary[ReplayBuffer, dict[tuple[int, int], CapturedStep]] = (
            WeakKeyDictionary()
        )
        losses: dict[str, Callable[[Tensor], Tensor]] = {
            "huber": partial(huber_loss, delta=huber_delta),
            "mse": mse_loss,
        }
        if loss not in losses:
            raise ConfigError(f"loss = {loss!r} must be one of huber, mse.")
        compiled = partial(compile_pure, mode=self.mode, backend=compile_backend)
        self._gradients = make_gradients(
            training,
            self.acting_network,
            target,
            self.flat,
            loss=losses[loss],
            double=double,
            autocast=self.autocast,
            compiled=compiled,
        )
        # On a CPU these few operations take longer to enter compiled than to run.
        self._clip = partial(clip, max_norm=max_grad_norm, max_value=max_grad_value)
        self._step = self._optimizer.step
        if self.device.type == "cuda" or self.mode == "graph":
            self._clip = compiled(self._clip)
            if self._optimizer.elementwise:
                self._step = compiled(self._step)
        # K updates in one compiled graph; CUDA captures them instead. A target that moves with
        # every update, or weights that are lowered, would have to be part of it.
        self._launch: Callable[..., Any] | None = None
        on_cpu = self.mode == "compile" and self.device.type == "cpu"
        if on_cpu and updates_per_launch > 1 and not self.bf16 and target_period_updates != 1:
            self._launch = compile_pure(
                make_launch(
                    self.network,
                    self.acting_network,
                    None if target_period_updates is None else self.target_network,
                    self._optimizer,
                    launch=updates_per_launch,
                    loss=losses[loss],
                    double=double,
                    max_grad_norm=max_grad_norm,
                    max_grad_value=max_grad_value,
                ),
                self.mode,
                compile_backend,
            )
            self._parameter_views = self.flat.views(self.flat.data)
            self._moment_views = {
                name: self.flat.views(flat) if flat.shape == self.flat.data.shape else [flat]
                for name, flat in self._moments.items()
            }

    def update(self, batch: Batch) -> UpdateResult:
        """One optimizer step on a batch that lies on the learner's device.

        Raises:
            FastDQNError: Under ``torch.autocast`` or ``torch.inference_mode``.
        """
        with self._own_modes():
            result = self._update(batch)
        self._count(1)
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
            times: Number of updates; 0 does nothing and returns None. They run in launches of
                ``updates_per_launch``, and one by one where fewer are left or the target network
                is due within a launch.
            batch_size: B; a graph is captured for each value seen.
            beta: Exponent of the importance weights.

        Returns:
            That of the last update.

        Raises:
            FastDQNError: Under ``torch.autocast`` or ``torch.inference_mode``.
        """
        if times <= 0:
            return None
        if isinstance(beta, Tensor):
            self._beta.copy_(beta)
        else:
            self._beta.fill_(beta)
        while times > 0:
            launch = self._next_launch(times)
            with self._own_modes():
                if self.mode == "graph":
                    result = self._capture(replay, batch_size, launch)()
                else:
                    result = self._steps(replay, batch_size, launch)
            self._count(launch)
            times -= launch
        return UpdateResult(*result)

    def _own_modes(self) -> AbstractContextManager[object]:
        """Gradients whether or not the caller wants them; refuse what would change the numbers."""
        for name, enabled in (
            ("autocast", torch.is_autocast_enabled(self.device.type)),
            ("inference_mode", torch.is_inference_mode_enabled()),
        ):
            if enabled:
                raise FastDQNError(
                    f"An update cannot run under torch.{name}; leave it (precision = 'bf16' lowers "
                    f"the network's body, and torch.no_grad does no harm)."
                )
        return _AS_IT_IS if torch.is_grad_enabled() else torch.enable_grad()

    def _next_launch(self, times: int) -> int:
        """How many of the updates left go into the next launch."""
        period, launch = self.target_period_updates, self.updates_per_launch
        if times < launch:
            return 1
        if period is None or period == 1:
            return launch
        return launch if period - self.updates % period >= launch else 1

    def _steps(self, replay: ReplayBuffer, batch_size: int, launch: int) -> UpdateResult:
        if launch == 1 or replay.prioritized:  # each draws by the priorities of the one before
            for _ in range(launch):
                batch = replay.sample(batch_size, beta=self._beta)
                result = self._update(batch)
                if replay.prioritized:
                    replay.update_priorities(batch.index, result.priority)
            return result
        many = replay.sample(launch * batch_size, beta=self._beta)
        if self._launch is not None:
            return self._run_launch(many)
        for fields in zip(*(x.split(batch_size) for x in many), strict=True):
            result = self._update(Batch(*fields))
        return result

    @torch.no_grad()
    def _run_launch(self, many: Batch) -> UpdateResult:
        """Updates that are one compiled function."""
        assert self._launch is not None
        rate = self._optimizer.learning_rate
        with torch.enable_grad():
            parameters, moments, total, summary, td = self._launch(
                *many[:6],
                self._parameter_views,
                self._moment_views,
                rate if isinstance(rate, Tensor) else torch.tensor(rate),
            )
        torch._foreach_copy_(self._parameter_views, parameters)
        for name, values in moments.items():
            torch._foreach_copy_(self._moment_views[name], values)
        self.statistics.add_(total)
        return UpdateResult(summary[0], td, td.abs())

    def _update(self, batch: Batch) -> UpdateResult:
        gradient, summary, td, priority = self._gradients(*batch[:6])
        with torch.no_grad():
            self._apply(gradient, summary)
        return UpdateResult(summary[0], td, priority)

    def _apply(self, gradient: Tensor, summary: Tensor) -> None:
        if self.max_grad_norm is not None or self.max_grad_value is not None:
            gradient = self._clip(gradient)
        self._step(gradient)
        if self._twin is not None and not self._optimizer.lowers:
            self._twin.refresh()
        self.statistics.add_(summary)
        if self.target_period_updates == 1:
            self.sync_target(self.target_tau)

    def _count(self, updates: int) -> None:
        """Count updates on the host, and move the target when it is due."""
        self.updates += updates
        period = self.target_period_updates
        if period is not None and period > 1 and self.updates % period == 0:
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
        if self._target_twin is not None:
            self._target_twin.refresh()

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the step size, also of graphs already captured."""
        self._optimizer.set_learning_rate(learning_rate)

    def read_statistics(self) -> dict[str, float]:
        """Sums since the last call, by name, and start anew. Waits for the device."""
        values = self.statistics.tolist()
        self.statistics.zero_()
        return dict(zip(STATISTICS, values, strict=True))

    def policy(self, **kwargs: Any) -> Policy:
        """The network as it acts now and later: it shares the learner's parameters.

        Args:
            kwargs: As for :class:`fastdqn.acting.policy.Policy`, e.g. ``frame_stack``.
        """
        kwargs = {"device": self.device, "seed": self.seed, "autocast": self.autocast, **kwargs}
        if self._twin is None:
            return Policy(self.acting_network, **kwargs)
        masters = share_in_evaluation_mode(self.network)
        return Policy(masters, lowered=self.acting_network, **kwargs)

    @property
    def bf16(self) -> bool:
        """Whether network bodies run in bfloat16."""
        return self.precision == "bf16"

    @property
    def _moments(self) -> dict[str, Tensor]:
        return self._optimizer.moments

    def _capture(self, replay: ReplayBuffer, batch_size: int, launch: int) -> CapturedStep:
        steps = self._captured.setdefault(replay, {})
        if (batch_size, launch) not in steps:
            step = weakly(self._steps, replay, batch_size, launch)
            changed = self._changed_by_a_step(replay)
            steps[batch_size, launch] = CapturedStep(step, changed, [replay.generator], self.device)
        return steps[batch_size, launch]

    def _changed_by_a_step(self, replay: ReplayBuffer) -> list[Tensor]:
        """Every tensor that :meth:`_steps` writes to, generators aside."""
        twins = [twin.data for twin in (self._twin, self._target_twin) if twin is not None]
        target = [self._target_flat.data, *self.target_network.buffers()]
        return [
            self.flat.data,
            *twins,
            *(target if self.target_period_updates == 1 else []),
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
        for twin in (self._twin, self._target_twin):
            if twin is not None:
                twin.refresh()
        self.statistics.copy_(state["statistics"])
        self.updates = state["updates"]

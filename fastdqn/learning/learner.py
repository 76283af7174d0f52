"""The learner: networks, optimizer, one update, the target network.

An update is two functions: ``_gradients`` (pure, compiled whole) and ``_apply`` (clip, optimizer,
statistics; in place, on CUDA in compiled pieces). Between them several GPUs exchange their
gradients (``reduce_gradients``). What it minimises is an objective's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fastdqn.acting.policy import Policy
from fastdqn.config.arguments import check_argument, check_like_fields, check_state
from fastdqn.config.groups import LearningFields
from fastdqn.config.ranges import Range
from fastdqn.config.seeds import subseed
from fastdqn.errors import ConfigError, FastDQNError
from fastdqn.learning.bf16 import Bfloat16Twin
from fastdqn.learning.choose_objective import check_goes_with, objective_for
from fastdqn.learning.draws import UpdateDraws
from fastdqn.learning.first_batch import (
    Shapes,
    check_actions,
    check_batch,
    check_replay,
    shapes_of,
)
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.learning.fused_updates import FusedUpdates, make_updates
from fastdqn.learning.objectives import Objective, check_forwards
from fastdqn.learning.optimizers import Optimizer, clip, make_optimizer
from fastdqn.learning.random_shift import RandomShift, check_shift
from fastdqn.learning.state import moments_by_name, restore_moments
from fastdqn.learning.target import TargetNetwork
from fastdqn.learning.update import STATISTICS, Gradients, make_gradients, try_objective
from fastdqn.networks.checks import (
    check_module,
    check_parameters,
    check_trainable,
    load_network,
)
from fastdqn.networks.copies import share_in_evaluation_mode
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.trial import try_network
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.system.compilation import (
    CapturedStep,
    check_backend,
    compile_pure,
    resolve_mode,
    weakly,
)
from fastdqn.system.devices import (
    convolves,
    resolve_device,
    resolve_precision,
    restore_generator,
)
from fastdqn.types import Batch

_AS_IT_IS = nullcontext()


class UpdateResult(NamedTuple):
    """Tensors on the device, borrowed until the next update."""

    loss: Tensor
    """float32 []: mean of weight * loss."""
    td_error: Tensor
    """float32 [B]: the objective's; of Q-learning ``Q(s, a) - target``."""
    priority: Tensor
    """float32 [B]: the objective's; of Q-learning ``|td_error|``."""


class Learner:
    """Trains a network on batches, or straight from a replay.

    Args:
        network: Maps observations [B, ...] to its head's output; ``network.q_values(output)``
            gives Q, [B, A] (a network without that method outputs Q itself). It is moved to the
            device and its parameters into one flat buffer. Parameters that are frozen
            (``requires_grad = False``) stay as they are, and so do those on which its output does
            not depend. Of a compiled module, the one inside is trained.
        objective: What to minimise; None: what goes with the network's head
            (:func:`fastdqn.learning.objective_for`), by the next three.
        double: Double Q-learning (van Hasselt 2016).
        loss: ``huber`` or ``mse``, of the TD error.
        huber_delta: Where the Huber loss turns linear.
        random_shift: Move each image of a batch by up to so many pixels (Yarats 2021).
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
        seed: Of the policy's generator, and of the one that updates draw from.
        compile_backend: Of torch.compile; tests take one that needs no C++ compiler.
        make_gradients: Another way to compute the same gradients; arguments and result as for
            :func:`fastdqn.learning.update.make_gradients`.
        reduce_gradients: Called between the gradients and their use, with the flat gradient,
            float32, to be changed in place: where several processes learn together, their mean.
            With ``graph`` it is captured.

    Raises:
        ConfigError: Where an argument is out of range or not possible on this device, or the
            network cannot be trained; the first update tries it.
    """

    COLUMNS = STATISTICS[:-1]
    """What it has to say of the updates between two rows of a run's metrics."""

    def __init__(
        self,
        network: nn.Module,
        *,
        objective: Objective | None = None,
        double: bool = True,
        loss: str = "huber",
        huber_delta: float = 1.0,
        random_shift: int = 0,
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
        reduce_gradients: Callable[[Tensor], None] | None = None,
    ) -> None:
        checked = check_like_fields(
            LearningFields,
            double=double,
            huber_delta=huber_delta,
            random_shift=random_shift,
            optimizer_epsilon=optimizer_epsilon,
            rmsprop_alpha=rmsprop_alpha,
            rmsprop_centred=rmsprop_centred,
            max_grad_norm=max_grad_norm,
            max_grad_value=max_grad_value,
            target_period_updates=target_period_updates,
            target_tau=target_tau,
        )
        max_grad_norm, max_grad_value = checked["max_grad_norm"], checked["max_grad_value"]
        learning_rate = check_argument("learning_rate", learning_rate, float, Range(0.0))
        updates_per_launch = check_argument(
            "updates_per_launch", updates_per_launch, int, Range(1, 2**31)
        )
        seed = check_argument("seed", seed, int)
        expected_updates = check_argument("expected_updates", expected_updates, int | None)
        check_backend(compile_backend)
        for name, function in {
            "make_gradients": make_gradients,
            "reduce_gradients": reduce_gradients,
        }.items():
            if function is not None and not callable(function):
                raise ConfigError(f"{name} is {type(function).__name__}; pass a function.")
        network = check_module(network)
        check_parameters(network)
        check_trainable(network)
        self._tried = objective is None  # ours needs no trial
        self._met: set[Shapes] = set()  # of the batches that were looked at
        self._met_replays: WeakKeyDictionary[ReplayBuffer, set[int]] = WeakKeyDictionary()
        self.objective: Objective = (
            objective_for(network, double=double, loss=loss, huber_delta=huber_delta)
            if objective is None
            else objective
        )
        check_forwards(self.objective)
        check_goes_with(network, self.objective)
        self.device = resolve_device(device)
        self.mode = resolve_mode(
            mode,
            self.device,
            convolves=convolves(network),
            updates=expected_updates,
            backend=compile_backend,
        )
        self.precision = resolve_precision(precision, network, self.device)
        self.updates, self.updates_per_launch = 0, updates_per_launch
        self.seed = seed
        self.generator = torch.Generator(self.device).manual_seed(subseed(seed, "updates"))
        self.max_grad_norm, self.max_grad_value = max_grad_norm, max_grad_value
        self.reduce_gradients = reduce_gradients

        self.network = training = network.to(self.device).train()
        self.flat = FlatParameters(self.network)
        # What computes: the network itself, or its twin in bfloat16.
        self._twin: Bfloat16Twin | None = None
        if self.bf16 and isinstance(self.network, QNetwork):
            self._twin = Bfloat16Twin(self.network, self.flat)
            training = self._twin.network
        self.autocast = self.bf16 and self._twin is None
        # The same parameters and buffers in evaluation mode: to act and to choose a' with.
        self.acting_network = share_in_evaluation_mode(training)
        self.target = TargetNetwork(
            self.network,
            self.flat,
            self.acting_network,
            period_updates=checked["target_period_updates"],
            tau=checked["target_tau"],
            lowered=self._twin is not None,
        )
        if callable(optimizer):
            lowered = None if self._twin is None else self._twin.data
            self._optimizer = optimizer(self.flat.data, lowered)
            if not isinstance(self._optimizer, Optimizer):
                raise ConfigError(
                    f"optimizer made {type(self._optimizer).__name__}; return a "
                    f"fastdqn.learning.optimizers.Optimizer."
                )
        else:
            self._optimizer = make_optimizer(
                optimizer,
                self.flat.data,
                learning_rate,
                epsilon=checked["optimizer_epsilon"],
                rmsprop_alpha=checked["rmsprop_alpha"],
                rmsprop_centred=checked["rmsprop_centred"],
            )
        self.statistics = torch.zeros(len(STATISTICS), device=self.device)
        self._beta = torch.ones((), device=self.device)
        # By batch size and launch; a graph goes with the replay whose memory it reads.
        self._captured: WeakKeyDictionary[ReplayBuffer, dict[tuple[int, int], CapturedStep]] = (
            WeakKeyDictionary()
        )
        self._draws = UpdateDraws(training, self.objective)
        compiled = partial(compile_pure, mode=self.mode, backend=compile_backend)
        self._gradients = make_gradients(
            training,
            self.acting_network,
            self.target.computing,
            self.flat,
            objective=self.objective,
            autocast=self.autocast,
            compiled=compiled,
        )
        # On a CPU these few operations take longer to enter compiled than to run.
        in_pieces = self.device.type == "cuda" or self.mode == "graph"
        shift = checked["random_shift"]
        self._shift = RandomShift(shift, compiled if in_pieces else lambda moved: moved)
        self._clip = partial(clip, max_norm=max_grad_norm, max_value=max_grad_value)
        self._step = self._optimizer.step
        if in_pieces:
            self._clip = compiled(self._clip)
            if self._optimizer.elementwise:
                self._step = compiled(self._step)
        self._fused = self._fuse(compiled) if self._can_fuse() else None

    def _can_fuse(self) -> bool:
        """Whether K updates are one compiled function; CUDA captures them instead.

        A target that moves with every update, weights that are lowered or an exchange of gradients
        would have to be part of it.
        """
        on_cpu = self.mode == "compile" and self.device.type == "cpu"
        return (
            on_cpu
            and self.updates_per_launch > 1
            and not self.bf16
            and not self.target.moves_with_every_update
            and self.reduce_gradients is None
        )

    def _fuse(self, compiled: Callable[[Callable[..., Any]], Any]) -> FusedUpdates:
        updates = make_updates(
            self.network,
            self.acting_network,
            None if self.target.period_updates is None else self.target.network,
            self._optimizer,
            launch=self.updates_per_launch,
            objective=self.objective,
            max_grad_norm=self.max_grad_norm,
            max_grad_value=self.max_grad_value,
        )
        return FusedUpdates(compiled(updates), self.flat, self._optimizer)

    def update(self, batch: Batch) -> UpdateResult:
        """One optimizer step on a batch that lies on the learner's device.

        The first batch, and later ones of other shapes, are checked.

        Args:
            batch: As :meth:`fastdqn.ReplayBuffer.sample` returns it.

        Raises:
            ConfigError: Where the batch, or the network on such a batch, is not right.
            FastDQNError: Under ``torch.autocast`` or ``torch.inference_mode``.
        """
        with self._own_modes():
            shapes = shapes_of(batch)
            if shapes is None or shapes not in self._met:
                self._meet(batch)
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
            ConfigError: Where an argument, or the network on the replay's observations, is not
                right.
            FastDQNError: Where the replay holds too few rows; under ``torch.autocast`` or
                ``torch.inference_mode``.
        """
        if type(times) is not int:
            times = check_argument("times", times, int)
        if times <= 0:
            return None
        known = isinstance(replay, ReplayBuffer) and self._met_replays.get(replay)
        if not known or batch_size not in known:
            self._meet_replay(replay, batch_size, beta)
        if isinstance(beta, Tensor):
            self._beta.copy_(beta)
        else:
            self._beta.fill_(float(beta))
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

    def _try(self, batch: Batch) -> None:
        """Before the first update of somebody's own objective: see what it returns."""
        if self._tried:
            return
        before = self.generator.get_state()
        randoms = self._draws.draw(len(batch.action), self.generator)
        self.generator.set_state(before)
        target = self.target.computing
        try_objective(
            self.objective, self.acting_network, target, batch[:6], randoms, self.autocast
        )
        self._tried = True

    def _meet(self, batch: Batch, *, own: bool = True) -> None:
        """Look at a batch of new shapes, and at what network and objective make of it.

        Args:
            batch: To look at.
            own: Whether it is the caller's, so that its actions may be any numbers.
        """
        check_batch(batch, self.device)
        seen = batch.observation
        check_shift(self._shift.pixels, seen.shape[1:])
        num_actions = try_network(
            self.network,
            seen.shape[1:],
            seen.dtype,
            None,
            batch_size=len(seen),
            precision=self.precision,
        )
        if own:
            check_actions(batch.action, num_actions)
        self._try(batch)
        self._met.add(tuple(field.shape for field in batch[:6]))

    def _meet_replay(self, replay: ReplayBuffer, batch_size: int, beta: Any) -> None:
        """The same on a draw, which leaves no trace in what is drawn later."""
        check_replay(replay, self.device, batch_size)
        if not isinstance(beta, Tensor):
            beta = check_argument("beta", beta, float, Range(0.0))
        elif beta.numel() != 1:
            raise ConfigError(f"beta has shape {list(beta.shape)}; use one number, 0-d.")
        # What else can be drawn from may not have the same to give twice, or give other inputs.
        if type(replay) is ReplayBuffer or not self._tried:
            with self._own_modes():
                before = replay.generator.get_state()
                batch = replay.sample(batch_size, beta=beta)
                replay.generator.set_state(before)
                self._meet(batch, own=False)
        self._met_replays.setdefault(replay, set()).add(batch_size)

    def _next_launch(self, times: int) -> int:
        """How many of the updates left go into the next launch."""
        launch = self.updates_per_launch
        if times < launch:
            return 1
        left = self.target.updates_until_due(self.updates)
        return launch if left is None or left >= launch else 1

    def _steps(self, replay: ReplayBuffer, batch_size: int, launch: int) -> UpdateResult:
        if launch == 1 or replay.prioritized:  # each draws by the priorities of the one before
            for _ in range(launch):
                batch = replay.sample(batch_size, beta=self._beta)
                result = self._update(batch)
                if replay.prioritized:
                    replay.write_priorities(batch.index, result.priority)
            return result
        many = replay.sample(launch * batch_size, beta=self._beta)
        if self._fused is not None:
            offsets, randoms = [], []
            for _ in range(launch):
                if self._shift:
                    offsets.append(self._shift.draw(batch_size, self.generator))
                randoms += self._draws.draw(batch_size, self.generator)
            if offsets:
                many = self._shift(many, torch.cat(offsets))
            total, summary, td, priority = self._fused(many[:6], randoms)
            self.statistics.add_(total)
            return UpdateResult(summary[0], td, priority)
        for fields in zip(*(x.split(batch_size) for x in many), strict=True):
            result = self._update(Batch(*fields))
        return result

    def _update(self, batch: Batch) -> UpdateResult:
        if self._shift:
            batch = self._shift(batch, self._shift.draw(len(batch.action), self.generator))
        randoms = self._draws.draw(len(batch.action), self.generator) if self._draws else ()
        gradient, summary, td, priority = self._gradients(*batch[:6], *randoms)
        with torch.no_grad():
            if self.reduce_gradients is not None:
                self.reduce_gradients(gradient)
            self._apply(gradient, summary)
        return UpdateResult(summary[0], td, priority)

    def _apply(self, gradient: Tensor, summary: Tensor) -> None:
        if self.max_grad_norm is not None or self.max_grad_value is not None:
            gradient = self._clip(gradient)
        self._step(gradient)
        if self._twin is not None and not self._optimizer.lowers:
            self._twin.refresh()
        self.statistics.add_(summary)
        if self.target.moves_with_every_update:
            self.target.sync(self.target.tau)

    def _count(self, updates: int) -> None:
        """Count updates on the host, and move the target when it is due."""
        self.updates += updates
        if self.target.is_due(self.updates):
            self.target.sync(self.target.tau)

    @property
    def target_network(self) -> nn.Module:
        """What values the next state, in float32; in evaluation mode."""
        return self.target.network

    def sync_target(self, tau: float = 1.0) -> None:
        """``target += tau (online - target)``; buffers (running statistics) are copied.

        Args:
            tau: How far it moves; 1 copies.

        Raises:
            ConfigError: Where tau is not in (0, 1].
        """
        check_argument("tau", tau, float, Range(0.0, 1.0, open_low=True))
        self.target.sync(tau)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the step size, also of graphs already captured; ConfigError below 0.

        Args:
            learning_rate: The step size.
        """
        if type(learning_rate) is not float or not 0 <= learning_rate < math.inf:
            learning_rate = check_argument("learning_rate", learning_rate, float, Range(0.0))
        self._optimizer.set_learning_rate(learning_rate)

    def read_statistics(self) -> dict[str, float]:
        """Sums since the last call, by name, and start anew. Waits for the device."""
        values = self.statistics.tolist()
        self.statistics.zero_()
        return dict(zip(STATISTICS, values, strict=True))

    def policy(self, **kwargs: Any) -> Policy:
        """The network as it acts now and later: it shares the learner's parameters.

        Args:
            kwargs: As for :class:`fastdqn.Policy`: ``frame_stack``, or ``envs``, a
                stream whose observations it is to take as those envs return them.
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

    def _capture(self, replay: ReplayBuffer, batch_size: int, launch: int) -> CapturedStep:
        steps = self._captured.setdefault(replay, {})
        if (batch_size, launch) not in steps:
            step = weakly(self._steps, replay, batch_size, launch)
            changed = self._changed_by_a_step(replay)
            generators = [
                replay.generator,
                *([self.generator] if self._draws or self._shift else []),
            ]
            steps[batch_size, launch] = CapturedStep(step, changed, generators, self.device)
        return steps[batch_size, launch]

    def _changed_by_a_step(self, replay: ReplayBuffer) -> list[Tensor]:
        """Every tensor that :meth:`_steps` writes to, generators aside."""
        twins = [twin.data for twin in (self._twin, self.target.twin) if twin is not None]
        target = [self.target.flat.data, *self.target.network.buffers()]
        return [
            self.flat.data,
            *twins,
            *(target if self.target.moves_with_every_update else []),
            *self._optimizer.moments.values(),
            *self.network.buffers(),
            self.statistics,
            replay.max_priority,
            replay.nonfinite_priority,
            *replay.tree.tensors(),
        ]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A FastDQNError: of a copy the parameters would be others than those it trains."""
        raise FastDQNError(
            "A Learner cannot be copied or pickled; make another, and pass state_dict() to its "
            "load_state_dict."
        )

    def state_dict(self) -> dict[str, Any]:
        """Networks in canonical shapes, moments by parameter name, counters, the generator."""
        return {
            "network": self.network.state_dict(),
            "target_network": self.target.network.state_dict(),
            "moments": moments_by_name(self.flat, self._optimizer.moments),
            "statistics": self.statistics,
            "updates": self.updates,
            "generator": self.generator.get_state(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict` in place; CheckpointError where it does not fit."""
        names = ["network", "target_network", "moments", "statistics", "updates"]
        check_state("learner", state, names)
        load_network(self.network, state["network"])
        load_network(self.target.network, state["target_network"])
        restore_moments(self.flat, self._optimizer.moments, state["moments"])
        for twin in (self._twin, self.target.twin):
            if twin is not None:
                twin.refresh()
        self.statistics.copy_(state["statistics"])
        self.updates = state["updates"]
        if "generator" in state:  # older checkpoints do without
            restore_generator(self.generator, state["generator"])

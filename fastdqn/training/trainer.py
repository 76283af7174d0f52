"""One run from start to end: the loop, what it reports, what it leaves behind."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from fastdqn.acting.actor import Actor
from fastdqn.acting.evaluation import evaluate
from fastdqn.acting.policy import Policy
from fastdqn.checkpoints.store import open_newest, refusing, save_checkpoint
from fastdqn.config.combinations import check_unevaluated
from fastdqn.config.config import Config
from fastdqn.config.seeds import eval_seed, periodic_eval_seed, restart_seed, subseed
from fastdqn.envs import EnvStream, arrays
from fastdqn.envs.made import name_of, reward_threshold
from fastdqn.envs.stream import saves_state
from fastdqn.envs.watched import watched
from fastdqn.errors import (
    CheckpointError,
    ConfigError,
    EnvFailure,
    MemoryPlanError,
    TrainingError,
)
from fastdqn.plotting.one_run import plot_returns
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.memory_plan import MemoryPlan, format_bytes
from fastdqn.runs.directory import open_run_dir, refuse_held, write_json
from fastdqn.spaces import Spaces, check_eval_envs
from fastdqn.system.default_generators import DefaultGenerators
from fastdqn.system.devices import resolve_device
from fastdqn.system.faults import DiskFaults, explain_out_of_memory
from fastdqn.system.info import device_name
from fastdqn.system.process_state import torch_as_before
from fastdqn.system.signals import StopSignals
from fastdqn.system.stopping import StopRequest
from fastdqn.system.watchdog import Watchdog
from fastdqn.training.build import (
    as_stream,
    build_learner,
    build_network,
    eval_patience,
    is_own_network,
    keep_memory_for,
    make_stream,
    mode_of_parts,
    policy_spec,
    replay_arguments,
    set_up_torch,
)
from fastdqn.training.continuation import (
    check_precision,
    continued,
    say_what_becomes,
    say_what_differs,
)
from fastdqn.training.header import header
from fastdqn.training.observer import Observer, OnLog, as_observer
from fastdqn.training.report import Report
from fastdqn.training.restore import (
    check_resumable,
    restore_actions,
    restore_default_generators,
    restore_envs,
    restore_learner,
    restore_replay,
    restore_run,
)
from fastdqn.training.schedules import Schedules
from fastdqn.training.warm_start import find_initial, load_initial
from fastdqn.training.write_record import (
    describe_envs,
    describe_network,
    resolved,
    session,
    write_record,
)


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves behind."""

    run_dir: Path
    summary: dict[str, Any]  # also in summary.json
    policy: Policy


def train(
    config: Config,
    *,
    envs: VectorEnv | EnvStream | None = None,
    eval_envs: VectorEnv | EnvStream | None = None,
    network: nn.Module | None = None,
    initial: str | os.PathLike[str] | None = None,
    on_log: OnLog | Observer | None = None,
) -> TrainResult:
    """Train an agent and leave a run directory.

    SIGINT (Ctrl-C), SIGTERM and SIGUSR1 end the run after its current step. Once it is saved and
    closed they go on to whom they were meant for: SIGINT raises KeyboardInterrupt, the others
    SystemExit (143 and 138), so that a loop over seeds ends; a handler of your own is called
    instead, and train() returns if that does. In other threads than the main one signals are not
    looked at. ``config.max_wall_s`` ends a run in the same way, but raises nothing
    (``summary["stopped_by"]`` says so).

    The process is afterwards as before: handlers, threads, torch's settings, and its default
    generators, which the run seeds from ``config.seed`` and saves, for dropout and for envs that
    draw from them. The global generators of NumPy and of Python's ``random`` are left alone; a run
    that draws from those does not repeat.

    Args:
        config: Everything else.
        envs: Instead of ``config.env_id``; their number replaces ``config.num_envs``. They are
            closed at the end.
        eval_envs: For evaluation; with ``envs`` and without these there is none.
        network: Instead of ``config.network``: maps observations [B, S, *O] or [B, *O] to Q
            [B, A]. It is trained in place, but for what is frozen (``requires_grad = False``).
        initial: Instead of ``config.initial``.
        on_log: Called with every row of metrics.csv; True stops the run. Or an
            :class:`fastdqn.training.observer.Observer`, which is told more, and more often.

    Raises:
        FastDQNError: ConfigError, EnvError, MemoryPlanError or CheckpointError, all before the
            first env step; TrainingError where a number is no longer finite, memory runs out or
            the final checkpoint cannot be written; EnvFailure where an env raises or dies.
            Envs that do not return within ``step_timeout_s`` end the process (exit code 70).
        KeyboardInterrupt, SystemExit: See above.
    """
    if initial is not None:
        config = config.replace(initial=os.fspath(initial))
    signals = StopSignals()
    try:
        return train_until_stopped(config, envs, eval_envs, network, on_log=on_log, signals=signals)
    finally:
        signals.pass_on()


def train_until_stopped(
    config: Config,
    *parts: Any,
    on_log: OnLog | Observer | None,
    signals: StopSignals,
    own_process: bool = False,
) -> TrainResult:
    """:func:`train`, but a signal is no more than the reason why the run stopped.

    Args:
        config: Everything else.
        parts: Those of the :class:`Trainer`.
        on_log: As there.
        signals: Not yet entered; they keep the name of the one that came.
        own_process: Whether nothing but this run wants the process's memory.

    Raises:
        Stopped: Where a signal took env workers along before the first step.
    """
    with signals, torch_as_before(resolve_device(config.device)):
        try:
            trainer = Trainer(config, *parts)
            try:
                # Dead units leave averages that shrink for ever, and arithmetic on denormal numbers
                # is slow: RMSprop's step on 34,000 parameters went from 130 to 850 us.
                torch.set_flush_denormal(True)
                if own_process:
                    keep_memory_for(trainer.learner.network, trainer.device)
                with explain_out_of_memory(TrainingError, out_of_memory(config)):
                    return trainer.run(on_log, signals)
            finally:
                trainer.close()
        except EnvFailure:
            if signals.came():  # to the whole group: workers die of it while they start
                signals.leave_if_asked()
            raise


def no_room_for(plan: MemoryPlan) -> str:
    """Where the replay cannot be allocated although its plan said so."""
    return (
        f"The replay does not fit: replay_capacity = {plan.capacity} needs "
        f"{format_bytes(plan.total)} on {plan.device}, and less could be allocated; try "
        f"replay_capacity = {plan.capacity // 2}, or give the process more memory."
    )


def out_of_memory(config: Config) -> str:
    """Where memory runs out within the run."""
    return (
        f"Out of memory after the replay was allocated: batch_size = {config.batch_size}, "
        f"replay_capacity = {config.replay_capacity}, num_envs = {config.num_envs}; lower "
        f"batch_size first, or replay_capacity (fastdqn train --dry-run shows the plan), and go "
        f"on from the last checkpoint, which is intact."
    )


class Trainer:
    """Parts, counters and the loop; arguments as for :func:`train`."""

    def __init__(
        self,
        config: Config,
        envs: VectorEnv | EnvStream | None = None,
        eval_envs: VectorEnv | EnvStream | None = None,
        network: nn.Module | None = None,
    ) -> None:
        if envs is not None and eval_envs is envs:
            raise ConfigError("eval_envs must be other envs than envs: evaluation resets them.")
        if envs is not None and eval_envs is None:
            check_unevaluated(config)
        refuse_held(config)  # before anything is made
        warm = find_initial(config)
        self.device = resolve_device(config.device)
        if self.device.type == "cuda":  # streams, events and captures go to the current device
            torch.cuda.set_device(self.device)
        self.generators = DefaultGenerators(self.device)
        self.generators.seed(subseed(config.seed, "default"))
        self.stop = stop = StopRequest(config.max_wall_s)
        self.observer = Observer()
        self._resources = ExitStack()
        # Not a function of this trainer: a cycle would keep its replay until garbage is collected.
        dog = self._resources.enter_context(Watchdog(config.step_timeout_s, lambda: stop.signal))
        self.name = name = config.env_id if envs is None else name_of(envs)
        try:
            self.envs = make_stream(config) if envs is None else as_stream(envs, config)
        except BaseException:
            self.close()
            raise
        self.envs = watched(self.envs, dog, name)
        self._resources.callback(self.envs.close)
        self.eval_envs: EnvStream | None = None
        try:
            self.config = config = config.replace(num_envs=self.envs.num_envs)
            if envs is None and config.eval_episodes:
                self.eval_envs = make_stream(config, evaluation=True)
            elif eval_envs is not None:
                self.eval_envs = as_stream(eval_envs, config)
            if self.eval_envs is not None:
                self.eval_envs = watched(self.eval_envs, dog, f"the evaluation envs of {name}")
                self._resources.callback(self.eval_envs.close)
                check_eval_envs(self.envs, self.eval_envs)
            arguments = replay_arguments(config, self.envs, self.device)
            self.launch = config.launch_on(self.device.type)
            drawn = config.drawn_at_once(self.launch)
            plan = ReplayBuffer.plan(**arguments, batch_size=drawn)
            spaces = Spaces.of(self.envs)
            given = {"envs": envs is not None, "network": network is not None}
            check_resumable(config, spaces, **given)
            network = build_network(config, self.envs, network)
            own_network = is_own_network(config, self.envs, network)
            self.initial = load_initial(config, network, spaces, own_network) if warm else None
            set_up_torch(config, network, self.device)
            self.learner = build_learner(config, network, self.device)
            self.spec = policy_spec(
                self.envs, self.learner, own_envs=envs is not None, own_network=own_network
            )
            # What is refused leaves none.
            self.run_dir, self.resuming, self.lock = open_run_dir(config, name)
            self._resources.callback(self.lock.release)
            self.before = config
            if self.resuming:  # maybe what another process made, while this one waited
                self.initial = None
                check_resumable(config, spaces, **given)
                self.before = Config.load(self.run_dir / "config.json")
                self.config = config = continued(config, self.before, self.run_dir)
            with explain_out_of_memory(MemoryPlanError, no_room_for(plan)):
                self.replay = ReplayBuffer(**arguments, mode=mode_of_parts(self.learner))
            self.actor = Actor(
                self.learner.acting_network,
                config.num_envs,
                device=self.device,
                autocast=self.learner.autocast,
                mode=mode_of_parts(self.learner),
                seed=subseed(config.seed, "actor"),
            )
            self.disk = DiskFaults()
            threshold = reward_threshold(self.envs)
            self.report = Report(config, self.learner, self.replay, threshold, self.disk)
            self.schedules = Schedules(config)
            self.plan = plan
            self.resolved = resolved(self.learner, torch.get_num_threads())
            self.session: dict[str, Any] = {}  # from `begin` on
            self.described = (
                describe_envs(self.envs, envs, config),
                describe_network(network, made_from_config=not own_network),
            )
            self.policy = self.learner.policy(spaces=spaces)
            self.env_steps = 0
            # Later after a resume without replay.
            self.learning_from = config.learning_starts_env_steps
            self.updates_before = 0  # updates made before `learning_from`
        except BaseException:
            self.close()
            raise

    def run(self, on_log: OnLog | Observer | None, signals: StopSignals) -> TrainResult:
        """Train to the end, or to the first reason to stop."""
        self.stop.signals, self.observer = signals, as_observer(on_log)
        self.actions = self.begin()
        try:
            stopped_by = self.stop.name or self.loop(self.stop)
        except EnvFailure:
            if not signals.came():
                raise
            stopped_by = str(signals.name)  # env workers got it, too: their step never was
        return self.end(stopped_by)

    def loop(self, stop: StopRequest) -> str:
        """Step, learn, store, act; returns why it stopped."""
        config, envs, report = self.config, self.envs, self.report
        learner, replay, actor = self.learner, self.replay, self.actor
        beta, stepped = self.schedules.beta, self.observer.stepped
        while self.env_steps < config.total_env_steps:
            envs.send(self.actions)  # the envs work ...
            learner.update_from(  # ... while the device learns from what came before
                replay,
                self.updates_due(),
                batch_size=config.batch_size,
                beta=beta(self.env_steps),
            )
            step = envs.recv()
            replay.add(step, self.actions)
            report.add(step)
            self.env_steps += config.num_envs
            self.set_schedules()
            self.actions = actor.act_from(replay)
            stepped(self.env_steps, learner.updates)

            if self.is_due(config.eval_period_env_steps) and self.is_good_enough():
                return "stop_eval_return"
            if self.is_due(config.log_every_env_steps) and (reason := self.log()):
                return reason
            if self.is_due(config.checkpoint_period_env_steps):
                self.try_save(with_replay=config.checkpoint_replay == "every")
            if reason := stop.name:
                return reason
        return "total_env_steps"

    # --- clocks and schedules, all from host counters ------------------------------------------

    def updates_due(self) -> int:
        """Updates to make now, in whole launches until the end of the run."""
        due = self.updates_owed()
        at_end = self.env_steps >= self.config.total_env_steps
        return due if at_end else due - due % self.launch

    def updates_owed(self) -> int:
        """Updates that the env steps so far are owed: no fraction is lost, nothing comes twice."""
        learning = self.env_steps - self.learning_from
        if learning < 0:
            return 0
        owed = int(learning / self.config.update_period_env_steps) + self.updates_before
        return max(0, owed - self.learner.updates)

    def is_due(self, period: int | None) -> bool:
        """Whether the last vector step crossed a multiple of the period, but not the run's end."""
        if period is None or self.env_steps >= self.config.total_env_steps:
            return False
        return self.env_steps // period > (self.env_steps - self.config.num_envs) // period

    def set_schedules(self) -> None:
        """Bring what the clock determines up to date on the device."""
        self.actor.epsilon.fill_(self.schedules.epsilon(self.env_steps))
        if self.config.learning_rate_final is not None:
            self.learner.set_learning_rate(self.schedules.learning_rate(self.env_steps))

    # --- start and end -------------------------------------------------------------------------

    def begin(self) -> Tensor:
        """Reset the envs or go on from the checkpoint; the first actions."""
        c = self.config
        actions = self.restore() if self.resuming else None
        self.session = session(self.env_steps, self.resolved)
        if self.initial is not None:
            self.session["initial"] = self.initial.described()
        try:
            self.write_config()
            write_record(self.run_dir, *self.described, self.session)
            self.report.open_files(self.run_dir, self.env_steps if self.resuming else None)
        except OSError as error:
            raise ConfigError(
                f"run_dir = {str(self.run_dir)!r} cannot be written to ({error.strerror}); make "
                f"room, or name another."
            ) from None
        self._resources.callback(self.report.close)
        self.observer.started(self.title, self.header())
        if actions is None:
            # After a resume the envs must not play the episodes of the first start again.
            seed = restart_seed(c, self.env_steps) if self.resuming else c.seed
            raw = self.envs.reset(seed=seed)
            # Envs that live on the device take their actions there; nothing waits for them.
            self.actor.to_host = not getattr(raw.observation, "is_cuda", False)
            self.replay.add(raw, None)
            self.report.numbers.add(raw)
            self.report.episodes.forget_running()
            self.set_schedules()
            actions = self.actor.act_from(self.replay)
        self.report.clock.start()
        return actions

    @property
    def title(self) -> str:
        """What runs, in a few words."""
        return f"{self.name}, seed {self.config.seed}"

    def header(self) -> str:
        """What runs, in some lines."""
        rows = header(self.config, self.name, self.envs, self.learner, self.plan)
        if self.initial is not None:
            rows["initial"] = str(self.initial)
        if self.resuming:
            rows["resumed"] = f"at {self.env_steps:,} env steps, {self.learner.updates:,} updates"
        rows["files"] = str(self.run_dir)
        return "\n".join(f"{name:<12}{text}" for name, text in rows.items())

    def end(self, stopped_by: str) -> TrainResult:
        """Evaluate the final parameters, save, sum up."""
        c = self.config
        if stopped_by == "total_env_steps":
            beta = self.schedules.beta(self.env_steps)
            self.learner.update_from(
                self.replay, self.updates_due(), batch_size=c.batch_size, beta=beta
            )
        if not self.interrupted:
            self.evaluate(final=True)
        if not self.report.has_row(self.env_steps) and not self.interrupted:
            self.log()
        stopped_by = self.interrupted or stopped_by
        self.lock.keep()
        if c.save_final_checkpoint:
            self.try_save(with_replay=c.checkpoint_replay != "none")
        summary = self.report.summary(self.name, stopped_by, self.env_steps, self.session)
        self.report.flush()
        with self.disk.survived("summary.json"):
            write_json(self.run_dir / "summary.json", summary)
        lost = dict(self.disk.failed)
        with self.disk.survived("returns.png"):
            plot_returns(self.run_dir, threshold=self.report.threshold, title=self.title)
        if lost:
            raise TrainingError(
                f"The run came to its end ({stopped_by}, {self.env_steps} env steps), but could "
                f"not write {' and '.join(lost)} ({next(iter(lost.values()))}); make room, and "
                f"resume from the last checkpoint with --resume auto."
            )
        return TrainResult(self.run_dir, summary, self.policy)

    def close(self) -> None:
        """Release envs and files."""
        self._resources.close()

    # --- reports -------------------------------------------------------------------------------

    def is_good_enough(self) -> bool:
        """Evaluate during the run; whether ``stop_eval_return`` is reached."""
        self.evaluate(final=False)
        target, score = self.config.stop_eval_return, self.report.score(self.env_steps)
        return target is not None and score is not None and score >= target

    def evaluate(self, *, final: bool) -> None:
        """Play whole episodes on envs and with random numbers of their own."""
        c = self.config
        if self.eval_envs is None or c.eval_episodes == 0:
            return
        seed = eval_seed(c) if final else periodic_eval_seed(c)
        episodes_per_env = -(-c.eval_episodes // self.eval_envs.num_envs)
        if final:
            self.observer.evaluating(episodes_per_env * self.eval_envs.num_envs)
        with self.report.clock.paused(), self.generators.put_back():
            self.generators.seed(seed)
            try:
                result = evaluate(
                    self.policy,
                    self.eval_envs,
                    episodes_per_env=episodes_per_env,
                    epsilon=c.eval_epsilon,
                    max_env_steps=c.eval_max_env_steps,
                    patience_env_steps=eval_patience(c, self.eval_envs),
                    seed=seed,
                    stop=lambda: self.stop.name is not None,
                )
            except EnvFailure:
                if not self.stop.signal_came():
                    raise
                return
        if not self.interrupted:
            row = self.report.add_evaluation(result, self.env_steps, final=final)
            self.observer.evaluated(row)

    @property
    def interrupted(self) -> str | None:
        """Why the run is to stop before its time, if it is: see :class:`StopRequest`."""
        return self.stop.name

    def log(self) -> str | None:
        """One row of metrics.csv; why to stop after it, if at all.

        The only place in the loop that waits for the device, beside the actions.
        """
        c = self.config
        row = self.report.write_row(self.env_steps, self.schedules.epsilon(self.env_steps))
        if self.observer.logged(row):
            return "on_log"
        if c.stop_return is None or row["episodes"] < c.stop_window:
            return None
        return "stop_return" if row["return_mean"] >= c.stop_return else None

    # --- files ---------------------------------------------------------------------------------

    def write_config(self) -> None:
        """Leave the configuration in the run's directory: what the run is, not how it began."""
        config = self.config.replace(run_dir=str(self.run_dir), resume="never")
        write_json(self.run_dir / "config.json", config.to_json())

    def try_save(self, *, with_replay: bool) -> None:
        """Write a checkpoint if the disk allows; what was trained is worth going on with."""
        self.lock.keep()
        with self.disk.survived("checkpoint"):
            self.save(with_replay=with_replay)
            if not (self.run_dir / "config.json").exists():  # the directory had vanished
                self.write_config()

    def save(self, *, with_replay: bool) -> None:
        """Write a checkpoint of everything the next step depends on."""
        with self.report.clock.paused():
            self.report.check_finite(self.env_steps)
            self.report.check_parameters()
            envs = self.envs.state_dict() if saves_state(self.envs) else None  # type: ignore[attr-defined]
            run = {
                "config": json.loads(self.config.to_json()),
                "spec": self.spec,
                "resolved": self.resolved,
                "env_steps": self.env_steps,
                "learning_from": self.learning_from,
                "updates_before": self.updates_before,
                "actor": self.actor.state_dict(),
                "report": self.report.state_dict(),
                "default_generators": self.generators.state_dict(),
                "actions": self.actions,
                "actions_to_host": self.actor.to_host,
                "envs": envs,
                "envs_of_arrays": envs is not None and not arrays.has_tensors(envs),
            }
            state = {"run": run, "learner": self.learner.state_dict()}
            if with_replay:
                state["replay"] = self.replay.state_dict()
            directory = self.run_dir / "checkpoints"
            save_checkpoint(
                directory,
                self.env_steps,
                state,
                self.config.checkpoint_keep,
                score=self.report.score(self.env_steps),
                keep_best=self.config.checkpoint_keep_best,
            )

    def restore(self) -> Tensor | None:
        """Load the newest whole checkpoint; the pending actions, or None if the envs start anew.

        Raises:
            CheckpointError: Where none is whole, or the newest that is does not fit this run.
        """
        c = self.config
        path, state = open_newest(self.run_dir / "checkpoints")
        with refusing(path):
            saved = "bf16" if state["run"]["spec"]["bf16"] else "fp32"
            check_precision(c, saved, self.learner.precision, device_name(self.device))
            restore_learner(state["learner"], self.learner)
            names = ("env_steps", "learning_from", "updates_before")
            counters = {name: getattr(self, name) for name in names}
            run = state["run"]
            restore_run(run, counters, self.actor, self.report)
            restore_default_generators(run, self.generators)
            self.env_steps = counters["env_steps"]
            self.learning_from = counters["learning_from"]
            self.updates_before = counters["updates_before"]
            most = c.num_envs / c.update_period_env_steps + self.launch
            if self.updates_owed() > most:
                raise CheckpointError(
                    f"{path} counts {self.env_steps} env steps and {self.learner.updates} updates, "
                    f"which no run of this configuration does; take another checkpoint."
                )
            self.set_schedules()
            say_what_differs(run.get("resolved", {}), self.resolved)
            say_what_becomes(c, self.before, self.env_steps)
            if "replay" not in state:
                # An empty replay must fill first; updates missed meanwhile are not made up.
                self.learning_from = self.env_steps + c.learning_starts_env_steps
                self.updates_before = self.learner.updates
                return None
            restore_replay(state["replay"], self.replay, self.envs.num_actions)
            if run["envs"] is None or not saves_state(self.envs):
                return None
            actions = restore_actions(run["actions"], c.num_envs, self.envs.num_actions)
            self.actor.to_host = bool(run["actions_to_host"])
            restore_envs(run["envs"], self.envs, arrays=bool(run.get("envs_of_arrays")))
            return actions

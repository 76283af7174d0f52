"""The loop of a run, and what happens before, within and after it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fastdqn.acting.evaluation import evaluate
from fastdqn.acting.policy import Policy
from fastdqn.callbacks.callback import Callback, Episode
from fastdqn.callbacks.callback_list import CallbackList
from fastdqn.config.config import Config
from fastdqn.config.seeds import eval_seed, periodic_eval_seed, restart_seed
from fastdqn.errors import ConfigError, EnvFailure, TrainingError
from fastdqn.plotting.one_run import plot_returns
from fastdqn.runs.directory import write_json
from fastdqn.system.faults import warn_safely
from fastdqn.system.signals import StopSignals
from fastdqn.training.build import eval_patience
from fastdqn.training.filming import film_policy
from fastdqn.training.header import header
from fastdqn.training.parts import Parts
from fastdqn.training.run_json import session, write_record
from fastdqn.training.run_state import restore_run, save_run

_LONGEST_FILM = 5_000  # env steps: of Atari five minutes


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves behind."""

    run_dir: Path
    """Where its files are."""
    summary: dict[str, Any]
    """What it came to, as in summary.json."""
    policy: Policy
    """That of the final parameters."""


class Trainer(Parts):
    """The parts of a run, its counters, and the loop; arguments as for ``fastdqn.train``."""

    def __init__(self, config: Config, *parts: Any, **more: Any) -> None:
        super().__init__(config, *parts, **more)
        self.callbacks = CallbackList()
        self.env_steps = 0
        self.actions: Any = None  # [N], those that come next
        self.learning_rate = math.nan  # that the learner was last told
        self.filmed_at: int | None = None  # env steps of the newest film
        # Later after a resume without replay.
        self.learning_from = self.config.learning_starts_env_steps
        self.updates_before = 0  # updates made before `learning_from`

    def run(self, callbacks: Iterable[Callback], signals: StopSignals) -> TrainResult:
        """Train to the end, or to the first reason to stop."""
        self.stop.signals = signals
        self.callbacks = CallbackList([*callbacks, *self.loggers])
        self.actions = self.begin()
        try:
            stopped_by = self.asked_to_stop or self.loop()
        except EnvFailure:
            if not signals.came():
                raise
            stopped_by = str(signals.name)  # env workers got it, too: their step never was
        return self.end(stopped_by)

    def loop(self) -> str:
        """Step, learn, store, act; returns why it stopped."""
        config, envs, report = self.config, self.envs, self.report
        learner, replay, actor = self.learner, self.replay, self.actor
        beta, normalize = self.schedules.beta, self.normalize
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
            if normalize is not None:
                normalize.add(step)
            self.env_steps += config.num_envs
            self.set_schedules()
            self.actions = actor.act_from(replay)
            self.tell_step()

            if self.is_due(config.eval_every_env_steps) and self.is_good_enough():
                return "stop_eval_return"
            if self.is_due(config.record_period_env_steps):
                self.film()
            if self.is_due(config.log_every_env_steps) and (reason := self.log()):
                return reason
            if self.is_due(config.checkpoint_every_env_steps) and not self.interrupted:
                self.try_save(with_replay=config.checkpoint_replay == "every")
            if reason := self.asked_to_stop:
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
        learning_rate = self.schedules.learning_rate(self.env_steps)
        if learning_rate != self.learning_rate:
            self.learner.set_learning_rate(learning_rate)
            self.learning_rate = learning_rate

    # --- start and end -------------------------------------------------------------------------

    def begin(self) -> Tensor:
        """Reset the envs or go on from the checkpoint; the first actions."""
        c = self.config
        actions = restore_run(self) if self.resuming else None
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
        self.callbacks.tell("on_start", self)
        self.set_schedules()  # a callback may have assigned others
        if actions is None:
            # After a resume the envs must not play the episodes of the first start again.
            seed = restart_seed(c, self.env_steps) if self.resuming else c.seed
            raw = self.envs.reset(seed=seed)
            # Envs that live on the device take their actions there; nothing waits for them.
            self.actor.to_host = not getattr(raw.observation, "is_cuda", False)
            self.replay.add(raw, None)
            if self.normalize is not None:
                self.normalize.add(raw)
            self.report.numbers.add(raw)
            self.report.episodes.forget_running()
            actions = self.actor.act_from(self.replay)
        self.report.clock.start()
        return actions

    def tell_step(self) -> None:
        """Tell who wants to hear it that a vector step is over, and which episodes with it."""
        if self.callbacks.hear("on_step"):
            self.callbacks.tell("on_step", self.env_steps, self.learner.updates)
        if self.callbacks.hear("on_episode"):
            for figures in self.report.episodes.read_new():
                self.callbacks.tell("on_episode", Episode(*figures, self.env_steps))

    @property
    def title(self) -> str:
        """What runs, in a few words."""
        return f"{self.name}, seed {self.config.seed}"

    def header(self) -> str:
        """What runs, in some lines."""
        rows = header(self.config, self.name, self.envs, self.learner, self.plan)
        if self.eval_envs is None:
            rows["evaluation"] = "none"
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
            if c.record_period_env_steps is not None:
                self.film()
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
        self.callbacks.tell("on_end", summary)
        return TrainResult(self.run_dir, summary, self.policy)

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
        episodes = c.eval_episodes if final else c.eval_episodes_during_run
        episodes_per_env = -(-episodes // self.eval_envs.num_envs)
        if final:
            self.callbacks.tell("on_evaluation_start", episodes_per_env * self.eval_envs.num_envs)
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
            self.callbacks.tell("on_evaluation", row)

    def film(self) -> None:
        """Film an episode of the policy as it is now; what goes wrong there ends no run."""
        if self.filmed_at == self.env_steps or self.interrupted:
            return
        path = self.run_dir / "films" / f"step_{self.env_steps:012d}.mp4"
        with self.report.clock.paused():
            try:
                path.parent.mkdir(exist_ok=True)
                film_policy(
                    self.config,
                    self.policy,
                    path,
                    epsilon=self.config.eval_epsilon,
                    max_env_steps=_LONGEST_FILM,
                    stop=lambda: self.stop.name is not None,
                )
            except Exception as error:  # the env's, the encoder's, the disk's
                why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
                warn_safely(f"There is no film at {self.env_steps} env steps: {why}.", stacklevel=2)
                return
            self.filmed_at = self.env_steps
            self.callbacks.tell("on_film", path, self.env_steps)

    @property
    def asked_to_stop(self) -> str | None:
        """Why the run is to stop after this step, if it is."""
        return self.stop.name or self.callbacks.stopped_by

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
        self.callbacks.tell("on_log", row)
        if self.callbacks.stopped_by is not None:
            return self.callbacks.stopped_by
        if c.stop_return is None or row["episodes"] < c.stop_window:
            return None
        return "stop_return" if row["return_mean"] >= c.stop_return else None

    # --- files ---------------------------------------------------------------------------------

    def write_config(self) -> None:
        """Leave the configuration in the run's directory: what the run is, not how it began."""
        config = self.config.replace(run_dir=str(self.run_dir), resume="never")
        write_json(self.run_dir / "config.json", config.to_json())

    def save(self) -> Path | None:
        """See :class:`LiveRun`."""
        if self.actions is None:
            raise ConfigError(
                "There is nothing to save before the first step; save in a later event."
            )
        return self.try_save(with_replay=False)

    def try_save(self, *, with_replay: bool) -> Path | None:
        """Write a checkpoint if the disk allows; what was trained is worth going on with."""
        self.lock.keep()
        path = None
        with self.disk.survived("checkpoint"):
            path = save_run(self, with_replay=with_replay)
            if not (self.run_dir / "config.json").exists():  # the directory had vanished
                self.write_config()
        if path is not None:
            self.callbacks.tell("on_checkpoint", path)
        return path

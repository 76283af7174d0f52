"""The loop of Stable-Baselines3's off-policy algorithms with an engine of ours in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import RolloutReturn
from stable_baselines3.common.utils import should_collect_more_steps

from fastdqn.integrations.sb3.engine import Engine
from fastdqn.training.schedules import linear_schedule


class Rollouts(OffPolicyAlgorithm):
    """What SB3's ``learn`` calls, in the order in which it does; its clocks are SB3's.

    Attributes:
        engine: Stores, updates and acts.
        target_update_interval: Env steps between moves of the target.
        exploration_fraction: Share of the run over which epsilon falls.
        exploration_initial_eps: From this ...
        exploration_final_eps: ... to that.
        exploration_rate: Epsilon now.
    """

    engine: Engine
    target_update_interval: int
    exploration_fraction: float
    exploration_initial_eps: float
    exploration_final_eps: float

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.exploration_rate = 0.0
        self._n_calls = self._owed = 0
        self._actions = np.empty(0, dtype=np.int64)

    def _setup_learn(self, total_timesteps: int, *arguments: Any) -> Any:
        resets = self._last_obs is None or bool(arguments[1])
        result = super()._setup_learn(total_timesteps, *arguments)
        self.replay_buffer = self.engine.make_replay()  # type: ignore[assignment]
        if resets:
            self.engine.start(self._last_obs)
        self._actions = self.engine.act(self._epsilon())
        return result

    def collect_rollouts(
        self,
        env: Any,
        callback: BaseCallback,
        train_freq: Any,
        replay_buffer: Any,
        action_noise: Any = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """Steps until the next updates; those of the last time run while the envs work."""
        start = int(self.action_space.start)  # type: ignore[attr-defined]
        num_collected_steps = num_collected_episodes = 0
        callback.on_rollout_start()
        while should_collect_more_steps(train_freq, num_collected_steps, num_collected_episodes):
            actions = self._actions + start
            env.step_async(actions)
            try:
                self._update()
            except BaseException:
                env.step_wait()  # or the next reset would get what this step returns
                raise
            new_obs, rewards, dones, infos = env.step_wait()
            self.num_timesteps += env.num_envs
            num_collected_steps += 1
            callback.update_locals(locals())
            goes_on = callback.on_step()
            self._update_info_buffer(infos, dones)
            self.engine.add(self._actions, new_obs, rewards, dones, infos)
            self._last_obs = new_obs
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            self._actions = self.engine.act(self._epsilon())
            if not goes_on:
                steps = num_collected_steps * env.num_envs
                return RolloutReturn(steps, num_collected_episodes, continue_training=False)
            for _ in range(int(np.count_nonzero(dones))):
                num_collected_episodes += 1
                self._episode_num += 1
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
        callback.on_rollout_end()
        steps = num_collected_steps * env.num_envs
        return RolloutReturn(steps, num_collected_episodes, continue_training=True)

    def _on_step(self) -> None:
        """What goes by the clock of env steps: the target network and epsilon."""
        self._n_calls += 1
        if self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            self.engine.learner.sync_target(self.tau)
        self.exploration_rate = linear_schedule(
            1.0 - self._current_progress_remaining,
            self.exploration_initial_eps,
            self.exploration_final_eps,
            0.0,
            self.exploration_fraction,
        )
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def _epsilon(self) -> float:
        """Chance of a random action now."""
        return 1.0 if self.num_timesteps < self.learning_starts else self.exploration_rate

    def train(self, gradient_steps: int, batch_size: int = 0) -> None:
        """Owe so many updates, which run while the envs take their next step."""
        starts = self.engine.config.learning_starts_env_steps
        # A loaded model is past its start, and its replay may be empty.
        if self.num_timesteps >= starts and self.engine.make_replay().may_sample:
            self._owed += gradient_steps
            self._n_updates += gradient_steps
        if self.num_timesteps >= self._total_timesteps:  # there is none
            self._update()

    def _update(self) -> None:
        if self._owed:
            rate, progress = self._learning_rate(), 1.0 - self._current_progress_remaining
            self.engine.update(self._owed, progress=progress, learning_rate=rate)
            self._owed = 0

    def _learning_rate(self) -> float:
        """Now; the last phase may go beyond the end, where nothing remains."""
        return self.lr_schedule(max(0.0, self._current_progress_remaining))

    def dump_logs(self) -> None:
        """A row of the log: SB3's names, and what else there is to say of the updates."""
        for name, value in self.engine.read_means().items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/learning_rate", self._learning_rate())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        super().dump_logs()

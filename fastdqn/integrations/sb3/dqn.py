"""Our DQN behind the interface of Stable-Baselines3's: its callbacks and its call, our parts."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import torch

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.envs.leaves import ObservationOptions
from fastdqn.errors import ConfigError, FastDQNError
from fastdqn.integrations.sb3.engine import Engine
from fastdqn.integrations.sb3.keywords import (
    check_learning_rate,
    check_policy,
    make_config,
    read_cycle,
    seed_of,
)
from fastdqn.integrations.sb3.rollouts import Rollouts
from fastdqn.integrations.sb3.saving import SavedModel
from fastdqn.integrations.sb3.vec_envs import as_vec_env
from fastdqn.integrations.sb3.vec_spaces import VecSpaces, stack_of
from fastdqn.system.process_state import torch_as_before

_RUN = ("env", "device", "verbose", "tensorboard_log", "num_envs", "_spaces", "_init_setup_model")
"""Keywords that belong to a process, not to a model."""


class DQN(SavedModel, Rollouts):
    """``stable_baselines3.DQN`` with another engine: the same call, the same callbacks.

    Without keywords of ours it is the same algorithm, too: no double Q-learning, 1-step returns, a
    uniform replay. Keywords mean what they mean in SB3, unless named here.

    Args:
        policy: ``MlpPolicy``, ``CnnPolicy`` or ``MultiInputPolicy``.
        env: An id, a Gymnasium env or a ``VecEnv``; None in a loaded model that only predicts.
        learning_rate: A number, or a function of the progress that remains.
        buffer_size: Transitions; every frame is stored once, on the device.
        learning_starts: Env steps with random actions and without updates.
        batch_size: Transitions per update.
        tau: How far the target moves.
        gamma: Discount.
        train_freq: Steps of all envs between updates, or ``(number, "step" or "episode")``.
        gradient_steps: Updates then; -1: one for each env step.
        replay_buffer_class: None: the replay is ours.
        replay_buffer_kwargs: None.
        optimize_memory_usage: Is so in any case.
        n_steps: Of the n-step return.
        target_update_interval: Env steps between moves of the target.
        exploration_fraction: Share of the run over which epsilon falls.
        exploration_initial_eps: From this ...
        exploration_final_eps: ... to that.
        max_grad_norm: The whole gradient is scaled down to this 2-norm.
        stats_window_size: Episodes in logged means.
        tensorboard_log: Where TensorBoard's files go.
        policy_kwargs: ``net_arch``, ``normalize_images``,
            ``features_extractor_kwargs={"features_dim": ...}``.
        verbose: 0, 1 or 2.
        seed: Of everything random here, and of the envs.
        device: ``auto``, ``cpu`` or ``cuda``.
        num_envs: Envs to make of an id.
        frame_stack: Frames that observations are stacks of; None: what ``VecFrameStack`` says.
        stack_padding: What stacks have before an episode's first frame.
        config: Fields of :class:`fastdqn.Config`: ``double``, ``dueling``, ``prioritized``,
            ``head``, ``noisy``, ``munchausen``, ``network``, ``mode`` and so on.

    Raises:
        ConfigError: Where a keyword is wrong or has no effect.
        EnvError: Where a DQN cannot use the envs.
        MemoryPlanError: Where the replay does not fit.
    """

    def __init__(
        self,
        policy: str,
        env: Any,
        learning_rate: Any = 1e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 32,
        tau: float = 1.0,
        gamma: float = 0.99,
        train_freq: Any = 4,
        gradient_steps: int = 1,
        replay_buffer_class: None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        target_update_interval: int = 10_000,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        max_grad_norm: float | None = 10,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        num_envs: int = 1,
        frame_stack: int | None = None,
        stack_padding: Any = "zero",
        _spaces: tuple[Any, Any, int] | None = None,
        **config: Any,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in ("self", "config", "__class__")}
        if replay_buffer_class is not None or replay_buffer_kwargs:
            raise ConfigError(
                "replay_buffer_class and replay_buffer_kwargs have no effect, the replay is "
                "fastdqn's own; leave them out, and set prioritized or n_steps instead."
            )
        chance, count = Range(0.0, 1.0), Range(1, 2**31)
        for name in ("exploration_fraction", "exploration_initial_eps", "exploration_final_eps"):
            check_argument(name, given[name], float, chance)
        for name in ("num_envs", "target_update_interval", "stats_window_size"):
            check_argument(name, given[name], int, count)
        frame_stack = check_argument("frame_stack", frame_stack, int | None, Range(1, 64))
        check_learning_rate(learning_rate)
        trusted = False
        if env is not None or _spaces is None:
            env = as_vec_env(env, num_envs, verbose)
            _spaces = env.observation_space, env.action_space, env.num_envs
            found = stack_of(env)
            trusted = frame_stack in (None, found)
            frame_stack = found if frame_stack is None else frame_stack
        check_policy(policy, _spaces[0])
        cycle = read_cycle(train_freq, gradient_steps, _spaces[2])
        given |= {"frame_stack": frame_stack, "seed": seed_of(seed), "train_freq": cycle.pair}
        made = make_config(
            policy, given, config, cycle=cycle, observation_space=_spaces[0], num_envs=_spaces[2]
        )
        observation = ObservationOptions.checked(
            made.observation_scale, "auto", made.observation_keys, False
        )
        spaces = VecSpaces(
            *_spaces,
            frame_stack=frame_stack,
            stack_padding=stack_padding,
            observation=observation,
            trusted=trusted,
        )
        self.engine = Engine(made, spaces)
        if target_update_interval < spaces.num_envs:
            warnings.warn(
                f"target_update_interval = {target_update_interval} is less than the "
                f"{spaces.num_envs} envs that step together; the target moves after each of their "
                f"steps.",
                stacklevel=2,
            )
        self.keywords = (
            {k: v for k, v in given.items() if k not in _RUN}
            | config
            | {"seed": seed if seed is None else made.seed}
        )
        super().__init__(
            policy,
            env,
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            cycle.pair,
            gradient_steps,
            n_steps=made.n_step,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=self.engine.device,
            seed=None if seed is None else made.seed,
            support_multi_env=True,
            sde_support=False,
        )
        self.observation_space, self.action_space, self.n_envs = _spaces
        self.target_update_interval = target_update_interval
        self.exploration_fraction = exploration_fraction
        self.exploration_initial_eps = exploration_initial_eps
        self.exploration_final_eps = exploration_final_eps
        self.max_grad_norm = max_grad_norm
        learner = self.engine.learner
        self.policy, self.q_net, self.q_net_target = (
            learner.network, learner.network, learner.target_network
        )  # fmt: skip
        self._convert_train_freq()
        self._setup_lr_schedule()
        if seed is not None and self.env is not None:
            self.env.seed(made.seed)

    def _setup_model(self) -> None:
        """All is made already."""

    def _get_policy_from_name(self, policy_name: str) -> Any:
        return policy_name

    # --- learning --------------------------------------------------------------------------------

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int | None = 4,
        tb_log_name: str = "DQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train for so many env steps more.

        Args:
            total_timesteps: Env steps, summed over envs.
            callback: One of SB3's, a list of them, or a function of locals and globals; called
                after every step of all envs, and what returns False stops.
            log_interval: Episodes between two rows of the log.
            tb_log_name: Of the run, for TensorBoard.
            reset_num_timesteps: Start counting and reset the envs; False: go on.
            progress_bar: Show one (needs tqdm and rich).

        Returns:
            The model.

        Raises:
            ConfigError: Where an argument is wrong, or there are no envs.
            TrainingError: Where the loss is no longer finite.
        """
        check_argument("total_timesteps", total_timesteps, int, Range(1, 2**53))
        check_argument("log_interval", log_interval, int | None, Range(1, 2**31))
        if self.env is None:
            raise ConfigError("The model has no envs to learn in; give it some with set_env.")
        engine = self.engine
        with torch_as_before(engine.device):
            engine.set_up_torch()
            try:
                super().learn(
                    total_timesteps,
                    callback,
                    log_interval,  # type: ignore[arg-type]
                    tb_log_name,
                    reset_num_timesteps,
                    progress_bar,
                )
            except BaseException:
                self._last_obs = None  # the envs may be a step further than the replay
                raise
        engine.check_finite()
        return self

    # --- acting ----------------------------------------------------------------------------------

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Actions for observations as the envs return them, stacks whole.

        Args:
            observation: Of one env or of several.
            state: Returned as it is.
            episode_start: Has no effect: nothing is remembered between calls.
            deterministic: The best action; otherwise a random one with ``exploration_rate``.

        Returns:
            The actions, int64 [B], or one; and the state.

        Raises:
            EnvError: Where the observation is not what the envs return.
        """
        seen, single = self.engine.spaces.stacks(observation)
        actions = self.engine.choose(seen, 0.0 if deterministic else self.exploration_rate)
        actions += int(self.action_space.start)  # type: ignore[attr-defined]
        return (actions.squeeze(axis=0) if single else actions), state

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A FastDQNError: a copy of a model would act with other parameters than it trains."""
        raise FastDQNError("A DQN cannot be copied or pickled; use save, and DQN.load.")

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed all that is random here, the envs from their next reset on, and as SB3 the process.

        Args:
            seed: Of a model made with it; None: nothing happens.
        """
        if seed is not None:
            seed = seed_of(seed)
            self.engine.seed(seed)
        super().set_random_seed(seed)

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Other envs, alike in spaces and number; they are reset before the next step.

        Args:
            env: A Gymnasium env or a ``VecEnv``.
            force_reset: Is so in any case: the replay goes on with a first observation.

        Raises:
            ConfigError: Where they differ from those before.
        """
        env = as_vec_env(env, 1, self.verbose)
        if env.num_envs != self.n_envs:
            raise ConfigError(
                f"env has {env.num_envs} envs, where the model learns in {self.n_envs}; pass them "
                f"to DQN.load instead."
            )
        self.engine.spaces.take_over(env)
        super().set_env(env, force_reset=True)

"""Tianshou: DQN end to end, its (prioritized) vector replay. Mean squared error, no clipping."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import torch
from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, Collector, PrioritizedVectorReplayBuffer, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net

from benchmarks.peers.cycle import Drawn, measure_cycles, raw_priorities
from benchmarks.peers.measure import Pace, Work, resident_bytes, start
from benchmarks.peers.settings import (
    ALPHA,
    BETA,
    HIDDEN,
    PIXEL_BATCHES,
    PIXEL_ROWS,
    STACK,
    TASKS,
    VECTOR_BATCHES,
    VECTOR_ROWS,
    make_atari,
    nature,
    transitions,
)


class _TimeIsUpError(Exception):
    pass


class _Nature(torch.nn.Module):
    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.network, self.output_dim = device, nature(), 6

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        pixels = torch.as_tensor(np.asarray(obs), dtype=torch.float32, device=self.device)
        return self.network(pixels / 255), state


def train(work: Work) -> dict[str, Any]:
    task = TASKS[work.row]
    pixels = work.row == "pong-8"
    make_env = make_atari if pixels else lambda: gymnasium.make(task.env_id)
    env = make_env()
    model = (
        _Nature(work.device)
        if pixels
        else Net(state_shape=(4,), action_shape=2, hidden_sizes=list(HIDDEN))
    )
    policy = DiscreteQLearningPolicy(
        model=model.to(work.device),
        action_space=env.action_space,  # type: ignore[attr-defined]
        observation_space=env.observation_space,  # type: ignore[attr-defined]
        eps_training=1.0,
        eps_inference=0.05,
    )
    algorithm = DQN(
        policy=policy,
        optim=AdamOptimizerFactory(lr=task.learning_rate),
        gamma=task.gamma,
        target_update_freq=task.target_period_updates,
        is_double=False,
    )
    one_frame = {"ignore_obs_next": True, "save_only_last_obs": True, "stack_num": STACK}
    buffer = VectorReplayBuffer(task.capacity, task.num_envs, **(one_frame if pixels else {}))
    collector = Collector(
        algorithm, DummyVectorEnv([make_env] * task.num_envs), buffer, exploration_noise=True
    )
    collector.reset()
    starts = work.scaled(task.learning_starts, 320)
    starts -= starts % task.num_envs
    collector.collect(n_step=starts, random=True)
    if work.variant != "as shipped":
        buffer.hasnull = lambda: False  # type: ignore[method-assign]  # see rows.py

    updates, update = 0, algorithm.update

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal updates
        updates += 1
        return update(*args, **kwargs)

    algorithm.update = counted  # type: ignore[method-assign]
    warm = 2 if work.variant == "as shipped" else work.scaled(task.warm_updates, 8)
    pace = Pace(work.seconds, task.period, warm_updates=warm)
    chunk = task.num_envs * (1 if task.num_envs % task.period == 0 else 5)

    def before_each_phase(epoch: int, step: int) -> None:
        done = min(1.0, step / task.epsilon_duration)
        policy.set_eps_training(1.0 - (1.0 - task.epsilon_end) * done)
        if pace.tick(step, updates):
            raise _TimeIsUpError

    parameters = OffPolicyTrainerParams(
        training_collector=collector,
        test_collector=None,
        max_epochs=1,
        epoch_num_steps=10_000_000,
        collection_step_num_env_steps=chunk,
        update_step_num_gradient_steps_per_sample=1 / task.period,
        batch_size=task.batch_size,
        training_fn=before_each_phase,
        verbose=False,
        show_progress=False,
        test_in_training=False,
    )
    try:
        algorithm.run_training(parameters)
    except _TimeIsUpError:
        return pace.result()
    raise RuntimeError("training ended before its time")


def fill_vector(count: int) -> PrioritizedVectorReplayBuffer:
    """Random observations, 64 envs."""
    envs, random = 64, np.random.default_rng(0)
    buffer = PrioritizedVectorReplayBuffer(count, envs, alpha=ALPHA, beta=BETA)
    ones, no = np.ones(envs), np.zeros(envs, bool)
    for _ in range(count // envs):
        observation, following = random.standard_normal((2, envs, 4), dtype=np.float32)
        buffer.add(
            Batch(
                obs=observation, obs_next=following, act=np.ones(envs, int), rew=ones,
                terminated=no, truncated=no, info=Batch(),
            )
        )  # fmt: skip
    return buffer


def fill_pixels(count: int, one_frame: bool) -> PrioritizedVectorReplayBuffer:
    """A stream of frames of one env, each stored once or in both stacks."""
    kwargs = {"ignore_obs_next": True, "save_only_last_obs": True, "stack_num": STACK}
    buffer = PrioritizedVectorReplayBuffer(
        count, 1, alpha=ALPHA, beta=BETA, **(kwargs if one_frame else {})
    )
    for stack, following, done in transitions(count):
        buffer.add(
            Batch(
                obs=stack[None], obs_next=following[None], act=np.array([1]),
                rew=np.array([1.0]), terminated=np.array([done]), truncated=np.array([False]),
                info=Batch(),
            ),
            buffer_ids=[0],
        )  # fmt: skip
    return buffer


def replay(work: Work) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if work.row == "per-vector":
        buffer = fill_vector(work.scaled(VECTOR_ROWS, 6_400))
        batches, shape = VECTOR_BATCHES, (4,)
    else:
        count = work.scaled(PIXEL_ROWS, 1_000)
        fill_pixels(
            1_000, work.variant == "one frame"
        )  # what is loaded and compiled at first use is not the data's
        before = resident_bytes()
        buffer = fill_pixels(count, work.variant == "one frame")
        values["memory-100k"] = (resident_bytes() - before) / 1e9
        batches, shape = PIXEL_BATCHES, (STACK, 84, 84)
    buffer.update_weight(np.arange(len(buffer)), raw_priorities(len(buffer)))

    def cycle(batch_size: int, priority: np.ndarray) -> Any:
        batch, index = buffer.sample(batch_size)
        buffer.update_weight(index, priority)
        return batch, index

    def read(drawn: tuple[Any, np.ndarray]) -> Drawn:
        batch, index = drawn
        return Drawn(batch.obs, batch.obs_next, index, batch.weight)

    cycles = measure_cycles(work, cycle, batches, shape, rows=buffer.maxsize, read=read)
    return {"values": {**values, **cycles}}


def main(work: Work) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    if work.row not in TASKS:
        return replay(work)
    found = train(work)
    return {"values": {work.row: found["env_steps_per_s"]}, **found}


if __name__ == "__main__":
    start(main)

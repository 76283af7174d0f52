"""Stable-Baselines3: DQN end to end, its replay's memory. Huber loss and a gradient norm of 10.

With the variant ``frames`` its replay is fastdqn's, imported from the checkout.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack

from benchmarks.peers.measure import Pace, Work, resident_bytes, start
from benchmarks.peers.settings import FRAME, PIXEL_ROWS, PONG_ACTIONS, STACK, TASKS, transitions


class _Ticks(BaseCallback):
    """Ticks before each rollout, so that both ends of the count follow an update phase."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self.pace, self.up = pace, False

    def _on_rollout_start(self) -> None:
        self.up = self.pace.tick(self.num_timesteps, self.model._n_updates)  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        return not self.up


def train(work: Work) -> dict[str, Any]:
    task = TASKS[work.row]
    pixels = task.env_id.startswith("Pong")
    if pixels:
        import ale_py

        gymnasium.register_envs(ale_py)
        envs = VecFrameStack(make_atari_env(task.env_id, n_envs=task.num_envs, seed=1), STACK)
        kwargs: dict[str, Any] = {}
        if work.variant == "frames":
            from fastdqn.integrations.sb3 import FrameReplayBuffer

            kwargs["replay_buffer_class"] = FrameReplayBuffer
    else:
        envs = make_vec_env(task.env_id, n_envs=task.num_envs, seed=1)
        kwargs = {"policy_kwargs": {"net_arch": [120, 84]}}
    # Vector steps per phase such that the updates of a phase are whole: 5 or 1.
    steps = 1 if task.num_envs % task.period == 0 else 5
    horizon = 10_000_000
    model = DQN(
        "CnnPolicy" if pixels else "MlpPolicy",
        envs,
        learning_rate=task.learning_rate,
        buffer_size=task.capacity,
        learning_starts=work.scaled(task.learning_starts, 320),
        batch_size=task.batch_size,
        gamma=task.gamma,
        train_freq=steps,
        gradient_steps=steps * task.num_envs // task.period,
        target_update_interval=task.target_period_updates * task.period,
        exploration_fraction=task.epsilon_duration / horizon,
        exploration_final_eps=task.epsilon_end,
        max_grad_norm=task.max_grad_norm,
        device=work.device,
        seed=1,
        **kwargs,
    )
    pace = Pace(work.seconds, task.period, warm_updates=work.scaled(task.warm_updates, 8))
    model.learn(horizon, callback=_Ticks(pace))
    return pace.result()


def fill(count: int, variant: str) -> ReplayBuffer:
    """A stream of frames of one env; obs and next_obs both stored without a variant."""
    arguments: dict[str, Any] = {
        "buffer_size": count,
        "observation_space": gymnasium.spaces.Box(0, 255, (STACK, *FRAME), np.uint8),
        "action_space": gymnasium.spaces.Discrete(PONG_ACTIONS),
        "device": "cpu",
    }
    kind = ReplayBuffer
    if variant == "frames":
        from fastdqn.integrations.sb3 import FrameReplayBuffer as kind

        arguments["stack_padding"] = "repeat"
    elif variant == "optimized":  # the two exclude each other
        arguments |= {"optimize_memory_usage": True, "handle_timeout_termination": False}
    buffer = kind(**arguments)
    action, reward = np.array([1]), np.array([1.0])
    for stack, following, done in transitions(count):
        buffer.add(stack[None], following[None], action, reward, np.array([done]), [{}])
    return buffer


def memory(work: Work) -> dict[str, Any]:
    """Growth of resident memory while filling."""
    count = work.scaled(PIXEL_ROWS, 1_000)
    fill(1_000, work.variant)  # what is loaded at first use is not the data's
    before = resident_bytes()
    buffer = fill(count, work.variant)
    return {"rss_bytes": resident_bytes() - before, "transitions": buffer.size()}


def main(work: Work) -> dict[str, Any]:
    if work.row == "pixels":
        found = memory(work)
        return {"values": {"memory-100k": found["rss_bytes"] / 1e9}, **found}
    threads = 1 if work.variant == "1 thread" else work.threads
    torch.set_num_threads(threads)
    found = train(work)
    assert torch.get_num_threads() == threads
    return {"values": {work.row: found["env_steps_per_s"]}, **found}


if __name__ == "__main__":
    start(main)

"""Plain torch in the shape of CleanRL's dqn.py and dqn_atari.py, and of LeanRL's compiled one.

One env in a SyncVectorEnv, observations and next observations in a numpy replay, Adam as it comes,
the mean squared error, no clipping. ``lean`` compiles the update, and on CUDA captures it with
tensordict's CudaGraphModule. (LeanRL has no Atari DQN; this is what its recipe gives.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.measure import Pace, Work, start
from benchmarks.peers.settings import STACK, TASKS, make_atari, mlp, nature


class Replay:
    """Observation pairs in numpy, as CleanRL keeps them."""

    def __init__(self, capacity: int, shape: tuple[int, ...], dtype: Any, device: str) -> None:
        self.observation = np.zeros((capacity, *shape), dtype)
        self.next_observation = np.zeros((capacity, *shape), dtype)
        self.action = np.zeros(capacity, np.int64)
        self.reward = np.zeros(capacity, np.float32)
        self.done = np.zeros(capacity, np.float32)
        self.device, self.capacity, self.added = device, capacity, 0
        self._names = ("observation", "action", "reward", "next_observation", "done")

    def add(self, *fields: Any) -> None:
        """One transition."""
        slot = self.added % self.capacity
        for name, value in zip(self._names, fields, strict=True):
            getattr(self, name)[slot] = value
        self.added += 1

    def sample(self, batch_size: int) -> tuple[Tensor, ...]:
        """Uniform, on the device."""
        index = np.random.randint(0, min(self.added, self.capacity), batch_size)
        return tuple(
            torch.from_numpy(getattr(self, name)[index]).to(self.device) for name in self._names
        )


def make_update(
    online: nn.Module,
    target: nn.Module,
    learning_rate: float,
    *,
    double: bool,
    lean: bool = False,
    device: str = "cpu",
    gamma: float = 0.99,
) -> Callable[..., Tensor]:
    """One update on (observation, action, reward, next_observation, done), eager or compiled."""
    capturable = lean and device.startswith("cuda")
    optimizer = torch.optim.Adam(online.parameters(), lr=learning_rate, capturable=capturable)

    def scale(observation: Tensor) -> Tensor:
        return observation.float() / 255 if observation.dtype == torch.uint8 else observation

    def update(
        observation: Tensor, action: Tensor, reward: Tensor, following: Tensor, done: Tensor
    ) -> Tensor:
        with torch.no_grad():
            next_q = target(scale(following))
            if double:
                best = online(scale(following)).argmax(1, keepdim=True)
                value = next_q.gather(1, best).squeeze(1)
            else:
                value = next_q.max(dim=1).values
            goal = reward + gamma * value * (1 - done)
        q = online(scale(observation)).gather(1, action.unsqueeze(1)).squeeze(1)
        loss = F.mse_loss(goal, q)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    if not lean:
        return update
    compiled = torch.compile(update)
    if not device.startswith("cuda"):
        return compiled
    from tensordict.nn import CudaGraphModule

    return CudaGraphModule(compiled)


def train(work: Work) -> dict[str, Any]:
    """CleanRL's loop; env steps per second after learning starts."""
    task = TASKS[work.row]
    pixels, lean = work.row == "pong-8", work.variant == "lean"
    torch.manual_seed(1)
    np.random.seed(1)

    def make_env() -> gymnasium.Env:
        env = make_atari() if pixels else gymnasium.make(task.env_id)
        return gymnasium.wrappers.RecordEpisodeStatistics(env)  # type: ignore[arg-type]

    envs = gymnasium.vector.SyncVectorEnv(
        [make_env], autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP
    )
    online, target = (net().to(work.device) for net in ([nature] * 2 if pixels else [mlp] * 2))
    target.load_state_dict(online.state_dict())
    update = make_update(
        online, target, task.learning_rate, double=False, lean=lean, device=work.device
    )
    space = envs.single_observation_space
    replay = Replay(task.capacity, space.shape, space.dtype, work.device)  # type: ignore[arg-type]
    pace = Pace(work.seconds, task.period, warm_updates=work.scaled(task.warm_updates, 8))
    starts = work.scaled(task.learning_starts, 320)
    observation, _ = envs.reset(seed=1)
    step = updates = 0
    while True:
        slope = (step - starts) / task.epsilon_duration
        epsilon = 1.0 - (1.0 - task.epsilon_end) * min(1.0, max(0.0, slope))
        if np.random.rand() < epsilon:
            action = np.array([envs.single_action_space.sample()])
        else:
            with torch.no_grad():
                inputs = torch.as_tensor(observation, dtype=torch.float32).to(work.device)
                q = online(inputs / 255 if pixels else inputs)
                action = torch.argmax(q, dim=1).cpu().numpy()
        following, reward, terminated, truncated, info = envs.step(action)
        actual = following
        if truncated[0] or terminated[0]:
            actual = info["final_obs"][0][None]
        replay.add(observation[0], action[0], reward[0], actual[0], float(terminated[0]))
        observation = following
        step += 1
        if step <= starts:
            continue
        if (step - starts) % task.period == 0:
            update(*replay.sample(task.batch_size))
            updates += 1
            if updates % task.target_period_updates == 0:
                for to, source in zip(target.parameters(), online.parameters(), strict=True):
                    to.data.copy_(source.data)
            if pace.tick(step, updates):
                break
    envs.close()
    return pace.result()


def update_alone(
    batch_size: int, *, lean: bool = False, device: str = "cpu"
) -> Callable[[], Tensor]:
    """The Nature double-DQN update in NCHW and fp32, on one batch that stays on the device."""
    torch.manual_seed(0)
    online, target = nature().to(device), nature().to(device)
    target.load_state_dict(online.state_dict())
    update = make_update(online, target, 1e-4, double=True, lean=lean, device=device)
    frames = torch.randint(0, 256, (2, batch_size, STACK, 84, 84), dtype=torch.uint8).to(device)
    action = torch.randint(0, 6, (batch_size,)).to(device)
    reward, done = torch.randn(batch_size).to(device), torch.zeros(batch_size).to(device)
    return lambda: update(frames[0], action, reward, frames[1], done)


def main(work: Work) -> dict[str, Any]:
    found = train(work)
    return {"values": {work.row: found["env_steps_per_s"]}, **found}


if __name__ == "__main__":
    start(main)

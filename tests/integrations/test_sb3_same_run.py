"""SB3's DQN on our replay is the run on its own, parameter by parameter, where the draws are."""

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env

from fastdqn.integrations.sb3 import FrameReplayBuffer


class SameDraws(FrameReplayBuffer):
    """Draws the transitions that SB3's buffer would, by the same numbers of NumPy's generator."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, seed=0, **kwargs)
        self.starts = []  # rows [N] that each step's transitions start at

    def add(self, *args):
        super().add(*args)
        replay = self.replay
        row = (replay.cursor - 1) % replay.rows * replay.num_envs
        self.starts.append((row + torch.arange(replay.num_envs)).numpy())

    def sample(self, batch_size, env=None):
        step = np.random.randint(0, len(self.starts), size=batch_size)
        which = np.random.randint(0, high=self.n_envs, size=(len(step),))
        return self._get_samples(np.stack(self.starts)[step, which], env)


def trained(buffer, n_envs, fault=None):
    """The network's parameters after some hundreds of updates, and the episodes played."""
    torch.manual_seed(0)
    model = DQN(
        "MlpPolicy", make_vec_env("CartPole-v1", n_envs=n_envs, seed=3), seed=3, device="cpu",
        replay_buffer_class=buffer, buffer_size=5_000, learning_starts=100, train_freq=1,
        learning_rate=1e-3, target_update_interval=50, policy_kwargs={"net_arch": [16]},
    )  # fmt: skip
    if fault:
        fault(model.replay_buffer)
    model.learn(700)
    parameters = torch.cat([p.detach().flatten() for p in model.q_net.parameters()])
    return parameters, [info["r"] for info in model.ep_info_buffer]


@pytest.mark.parametrize("n_envs", [1, 2])
def test_it_is_the_same_run(n_envs):
    own, own_episodes = trained(None, n_envs)
    ours, our_episodes = trained(SameDraws, n_envs)
    assert torch.equal(own, ours)
    assert own_episodes == our_episodes and len(own_episodes) > 20


def test_a_planted_fault_makes_it_another():
    def fault(buffer):
        buffer.replay.gamma_powers[1] = 0.0  # every transition an end

    own, _ = trained(None, 1)
    ours, _ = trained(SameDraws, 1, fault)
    assert not torch.equal(own, ours)

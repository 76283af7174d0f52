"""DQN on CartPole with TorchRL's collector and loss, and fastdqn's prioritized replay.

Run it with ``python examples/torchrl_dqn.py``; ``--steps 2000`` is over at once.
"""

import argparse
from collections import deque

import torch
from tensordict.nn import TensorDictSequential
from torchrl.collectors import Collector
from torchrl.envs import GymEnv, RewardSum, SerialEnv, TransformedEnv
from torchrl.modules import EGreedyModule
from torchrl.objectives import DQNLoss, HardUpdate

from fastdqn.integrations.torchrl import FrameReplayBuffer, q_value_actor
from fastdqn.networks.make import make_network


def make_env() -> TransformedEnv:
    """One env, which tells the return of each episode."""
    return TransformedEnv(GymEnv("CartPole-v1"), RewardSum())


def main(arguments: list[str] | None = None) -> float:
    """Train; the mean return of the last 50 episodes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40_000, help="env steps")
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--n-step", type=int, default=3)
    parser.add_argument("--period", type=int, default=8, help="env steps per update")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if min(args.steps, args.envs, args.n_step, args.period, args.seed + 1) < 1:
        parser.error("--seed must be 0 or more, the other numbers 1 or more")
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    gamma, chunk = 0.99, args.envs * 16
    env = SerialEnv(args.envs, make_env)
    env.set_seed(args.seed)
    spec = make_env().action_spec  # of one env

    actor = q_value_actor(make_network((4,), 2), spec)
    explore = EGreedyModule(spec, eps_end=0.05, annealing_num_steps=args.steps // 4)
    # DQNLoss writes the square of the TD error, so half of Schaul's alpha of 0.6.
    replay = FrameReplayBuffer(
        20_000, args.envs, env.observation_spec, n_step=args.n_step, gamma=gamma, alpha=0.3,
        batch_size=128, seed=args.seed,
    )  # fmt: skip
    loss = DQNLoss(actor, loss_function="smooth_l1", double_dqn=True)
    loss.make_value_estimator(gamma=gamma)
    target = HardUpdate(loss, value_network_update_interval=100)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)
    collector = Collector(
        env, TensorDictSequential(actor, explore), frames_per_batch=chunk,
        total_frames=args.steps // chunk * chunk,
    )  # fmt: skip
    returns: deque[float] = deque(maxlen=50)
    for number, data in enumerate(collector, start=1):
        replay.extend(data)
        explore.step(data.numel())
        ended = data["next", "done"]
        returns.extend(data["next", "episode_reward"][ended].tolist())
        if number * chunk < 1_000:
            continue
        for _ in range(chunk // args.period):
            batch = replay.sample()
            optimizer.zero_grad()
            loss(batch)["loss"].backward()
            optimizer.step()
            target.step()
            replay.update_tensordict_priority(batch)
        if number % 20 == 0 and returns:
            print(f"{number * chunk:>7,} steps  return {sum(returns) / len(returns):5.1f}")
    collector.shutdown()
    return sum(returns) / max(1, len(returns))


if __name__ == "__main__":
    main()

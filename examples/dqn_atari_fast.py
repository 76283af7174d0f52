"""DQN on Atari in one file: every part of the loop is here, and yours to change.

    python examples/dqn_atari_fast.py --env-id ALE/Breakout-v5 --prioritized --dueling

The envs run while the learner learns; frames are stored once; on CUDA an update is one graph.
"""

import time
from dataclasses import dataclass

import torch
import tyro

from fastdqn import Actor, EpisodeStatistics, Learner, ReplayBuffer, linear_schedule, make_envs
from fastdqn.networks import make_network


@dataclass
class Args:
    """DQN on Atari."""

    env_id: str = "ALE/Pong-v5"
    """any id that Gymnasium knows"""
    seed: int = 1
    device: str = "auto"
    """auto, cpu or cuda"""
    num_envs: int = 8
    total_env_steps: int = 10_000_000
    learning_rate: float = 1e-4
    buffer_size: int = 1_000_000
    """rows of the replay: 7 GB of frames in memory"""
    gamma: float = 0.99
    n_step: int = 1
    batch_size: int = 32
    train_period_env_steps: int = 4
    learning_starts_env_steps: int = 80_000
    target_period_updates: int = 2_500
    epsilon: tuple[float, float] = (1.0, 0.01)
    """chance of a random action, from the first to the second"""
    epsilon_env_steps: int = 1_000_000
    prioritized: bool = False
    dueling: bool = False
    head: str = "scalar"
    """or c51, qr, iqn"""
    single_q: bool = False
    """no double Q-learning"""
    log_period_env_steps: int = 10_000


def main(args: Args) -> float:
    """Train; returns the mean return of the last 100 episodes."""
    envs = make_envs(args.env_id, args.num_envs, seed=args.seed)
    torch.manual_seed(args.seed)
    network = make_network(
        envs.observation_space.shape,
        envs.num_actions,
        frame_stack=envs.frame_stack,
        dueling=args.dueling,
        head=args.head,
    )
    learner = Learner(
        network,
        double=not args.single_q,
        learning_rate=args.learning_rate,
        target_period_updates=args.target_period_updates,
        device=args.device,
        seed=args.seed,
    )
    replay = ReplayBuffer(
        args.buffer_size,
        args.num_envs,
        envs.observation_space,
        frame_stack=envs.frame_stack,
        stack_padding=envs.stack_padding,
        n_step=args.n_step,
        gamma=args.gamma,
        reward_clip=1.0,  # the statistics see the rewards as they are
        prioritized=args.prioritized,
        device=learner.device,
        seed=args.seed,
    )
    acting, autocast = learner.acting_network, learner.autocast
    actor = Actor(acting, args.num_envs, device=learner.device, autocast=autocast, seed=args.seed)
    episodes = EpisodeStatistics(args.num_envs)

    step = envs.reset(seed=args.seed)
    replay.add(step, None)
    episodes.add(step)
    actions = actor.act_from(replay)
    started = time.perf_counter()
    for env_steps in range(args.num_envs, args.total_env_steps + 1, args.num_envs):
        envs.send(actions)  # the envs work ...
        learning = env_steps - args.learning_starts_env_steps
        due = max(0, learning // args.train_period_env_steps - learner.updates)
        beta = linear_schedule(env_steps, 0.4, 1.0, 0, args.total_env_steps)
        learner.update_from(replay, due, batch_size=args.batch_size, beta=beta)  # ... meanwhile
        step = envs.recv()
        replay.add(step, actions)
        episodes.add(step)
        actor.epsilon = linear_schedule(env_steps, *args.epsilon, 0, args.epsilon_env_steps)
        actions = actor.act_from(replay)

        if env_steps % args.log_period_env_steps < args.num_envs:
            seen, speed = episodes.read(), env_steps / (time.perf_counter() - started)
            print(
                f"{env_steps:>11,} env steps {seen.episodes:>6,} episodes, return "
                f"{seen.return_mean:8.2f} {learner.updates:>9,} updates {speed:8,.0f} env steps/s",
                flush=True,
            )
    envs.close()
    return episodes.read().return_mean


if __name__ == "__main__":
    main(tyro.cli(Args))

"""Offline double DQN: transitions in arrays, as D4RL and Minari have them, and no env to train in.

Where data are all there is, Q of actions that nobody tried is a guess, and the maximum finds the
wildest one. So the objective is double DQN's plus the penalty of CQL (Kumar 2020, eq. 4).

    python examples/offline.py                     # makes a data set of random play, learns from it
    python examples/offline.py --data my.npz       # yours: see KEYS

The env is used for two things: to make the data where there is none, and to evaluate.
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
import torch
import tyro

from fastdqn import Learner, ReplayBuffer, evaluate, make_envs, make_network
from fastdqn.learning import Forward, QLearning

ONLINE_S = Forward("online", "s")

KEYS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")


@dataclass
class Args:
    """Offline double DQN with a conservative penalty."""

    env_id: str = "CartPole-v1"
    data: Path | None = None
    """an .npz of D4RL's arrays, [L, ...]; it is made where it does not exist"""
    transitions: int = 50_000
    """of random play, where the data are made"""
    updates: int = 5_000
    batch_size: int = 128
    learning_rate: float = 5e-4
    gamma: float = 0.99
    target_period_updates: int = 200
    conservative: float = 0.5
    """weight of the penalty; 0: plain double DQN"""
    seed: int = 1
    device: str = "auto"


class Conservative(QLearning):
    """Double DQN that values actions lower the less the data show of them."""

    def __init__(self, weight: float) -> None:
        super().__init__(double=True)
        self.weight = weight

    def __call__(self, outputs, batch, randoms):
        """Loss, TD error and priority, each [B]."""
        loss, td, priority = super().__call__(outputs, batch, randoms)
        q = outputs.q(ONLINE_S)
        taken = q.gather(1, batch.action.unsqueeze(1)).squeeze(1)
        return loss + self.weight * (q.logsumexp(1) - taken), td, priority


def random_play(env_id: str, length: int, seed: int) -> dict[str, np.ndarray]:
    """What a random policy did, under D4RL's names."""
    env = gymnasium.make(env_id)
    observation, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    rows = []
    for _ in range(length):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, reward, following, terminated, truncated))
        observation = env.reset()[0] if terminated or truncated else following
    return {
        name: np.asarray(column) for name, column in zip(KEYS, zip(*rows, strict=True), strict=True)
    }


def main(args: Args) -> float:
    """Learn; returns the mean return of 20 episodes."""
    if args.data is None or not args.data.exists():
        arrays = random_play(args.env_id, args.transitions, args.seed)
        if args.data is not None:
            np.savez(args.data, **arrays)
    else:
        arrays = dict(np.load(args.data))
    observations, actions, *others = (arrays[name] for name in KEYS)

    envs = make_envs(args.env_id, 4, seed=args.seed)
    episodes = int((arrays["terminals"] | arrays["timeouts"]).sum())
    torch.manual_seed(args.seed)
    learner = Learner(
        make_network(envs.observation_space.shape, envs.num_actions),
        objective=Conservative(args.conservative),
        learning_rate=args.learning_rate,
        target_period_updates=args.target_period_updates,
        device=args.device,
        seed=args.seed,
    )
    replay = ReplayBuffer(
        len(actions) + episodes + 2,  # an episode's first observation is a row, too
        1,
        envs.observation_space,
        gamma=args.gamma,
        num_actions=envs.num_actions,
        device=learner.device,
        seed=args.seed,
    )
    replay.extend(observations, actions, *others)
    print(f"{len(replay):,} transitions, return {arrays['rewards'].sum() / episodes:.1f}")
    for _ in range(10):
        result = learner.update_from(replay, args.updates // 10, batch_size=args.batch_size)
        found = evaluate(learner.policy(), envs, episodes_per_env=5, seed=1_000)
        loss = float("nan") if result is None else float(result.loss)
        print(
            f"{learner.updates:>8,} updates  loss {loss:8.4f}  return {found.returns.mean():7.1f}"
        )
    envs.close()
    return float(found.returns.mean())


if __name__ == "__main__":
    main(tyro.cli(Args))

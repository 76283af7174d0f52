"""Stable-Baselines3 with fastdqn, in both ways; any of them alone with --only.

python examples/sb3_dqn.py                                  # CartPole, some minutes
python examples/sb3_dqn.py --env ALE/Pong-v5 --steps 200000 --only model
"""

import argparse

from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack

import fastdqn.integrations.sb3 as fast


def make_envs(env_id: str, seed: int):
    """One env as SB3's DQN wants it; of a game four grey frames are stacked."""
    if env_id.startswith("ALE/"):
        return VecFrameStack(make_atari_env(env_id, seed=seed, env_kwargs={"frameskip": 1}), 4)
    return make_vec_env(env_id, seed=seed)


def main() -> None:
    """Learn, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--episodes", type=int, default=20, help="of an evaluation")
    parser.add_argument("--only", choices=["buffer", "model"])
    args = parser.parse_args()
    image = args.env.startswith("ALE/")
    same = {
        "learning_rate": 1e-4 if image else 1e-3, "buffer_size": 100_000, "learning_starts": 1_000,
        "batch_size": 64, "target_update_interval": 1_000, "exploration_fraction": 0.2, "seed": 1,
    }  # fmt: skip
    policy = "CnnPolicy" if image else "MlpPolicy"
    envs, test_envs = make_envs(args.env, seed=1), make_envs(args.env, seed=1001)

    if args.only != "model":  # SB3's DQN, each frame stored once, time limits told from ends
        model = DQN(policy, envs, replay_buffer_class=fast.FrameReplayBuffer, **same)
        model.learn(args.steps)
        mean, std = evaluate_policy(model, test_envs, n_eval_episodes=args.episodes)
        memory = model.replay_buffer.nbytes() / 1e6
        print(f"SB3's DQN, our replay ({memory:.0f} MB): {mean:.1f} +- {std:.1f}")

    if args.only != "buffer":  # our DQN in the same call, with what SB3's does not have
        more = {"double": True, "dueling": True, "prioritized": True, "n_steps": 3}
        ours = fast.DQN(policy, envs, **same, **more)
        watch = EvalCallback(test_envs, eval_freq=max(1, args.steps // 5), verbose=0)
        ours.learn(args.steps, callback=watch)
        mean, std = evaluate_policy(ours, test_envs, n_eval_episodes=args.episodes)
        print(f"our DQN in SB3's call: {mean:.1f} +- {std:.1f}")


if __name__ == "__main__":
    main()

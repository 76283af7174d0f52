"""Does SB3's DQN learn as much from our replay as from its own? CartPole, the same settings, seeds.

python -m benchmarks.learning.sb3_buffer                     # seeds 1-5, each with both buffers
python -m benchmarks.learning.sb3_buffer --seeds 11 --smoke
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from benchmarks.result_file import RESULTS, write_result
from fastdqn.integrations.sb3 import FrameReplayBuffer

ENV_ID, STEPS, EPISODES = "CartPole-v1", 50_000, 100
# Those of SB3's zoo for this env.
SETTINGS: dict[str, Any] = {
    "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1_000,
    "gamma": 0.99, "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128,
    "exploration_fraction": 0.16, "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}  # fmt: skip
BUFFERS = {"SB3's own": None, "FrameReplayBuffer": FrameReplayBuffer}
# Evaluation plays other episodes than training.
TEST_SEEDS = 10_000


def run(buffer: str, seed: int, steps: int, episodes: int) -> dict[str, Any]:
    """One run, judged by its final parameters."""
    model = DQN(
        "MlpPolicy", make_vec_env(ENV_ID, seed=seed), device="cpu", seed=seed,
        replay_buffer_class=BUFFERS[buffer], **SETTINGS,
    )  # fmt: skip
    began = time.perf_counter()
    model.learn(steps)
    took = time.perf_counter() - began
    returns, _ = evaluate_policy(
        model, make_vec_env(ENV_ID, seed=TEST_SEEDS + seed), episodes, return_episode_rewards=True
    )
    return {
        "buffer": buffer,
        "seed": seed,
        "env_steps": model.num_timesteps,
        "updates": model._n_updates,
        "eval_return_mean": float(np.mean(returns)),
        "eval_return_std": float(np.std(returns)),
        "eval_episodes": len(returns),
        # Of the last 100 episodes: final parameters alone go up and down from one to the next.
        "train_return_mean": float(np.mean([info["r"] for info in model.ep_info_buffer])),
        "train_s": took,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning.sb3_buffer", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--smoke", action="store_true", help="a few seconds, no claim")
    parser.add_argument("--out", help="where to write the JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    steps, episodes = (2_000, 5) if args.smoke else (STEPS, EPISODES)
    rows = []
    for seed in args.seeds:
        for buffer in BUFFERS:  # in turn: a slow minute hits both
            rows.append(row := run(buffer, seed, steps, episodes))
            print(
                f"seed {seed}, {buffer}: {row['eval_return_mean']:.1f} +- "
                f"{row['eval_return_std']:.1f} over {row['eval_episodes']} greedy episodes, "
                f"{row['train_return_mean']:.1f} over the last 100 of training, "
                f"{row['updates']:,} updates, {row['train_s']:.1f} s",
                flush=True,
            )
    means = {
        name: {buffer: [row[name] for row in rows if row["buffer"] == buffer] for buffer in BUFFERS}
        for name in ("eval_return_mean", "train_return_mean")
    }
    for name, buffers in means.items():
        for buffer, values in buffers.items():
            shown = ", ".join(f"{value:.0f}" for value in values)
            print(f"{name}, {buffer}: {np.mean(values):.1f} ({shown})")
    body = {
        "env_id": ENV_ID,
        "settings": SETTINGS,
        "stable_baselines3": stable_baselines3.__version__,
        "torch_threads": 1,
        "means": means,
        "runs": rows,
    }
    if not args.smoke or args.out:
        out = args.out or str(RESULTS / "sb3-buffer.json")
        print(write_result("learning.sb3_buffer", body, out))


if __name__ == "__main__":
    main()

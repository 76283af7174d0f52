"""Does the default preset learn? Final greedy evaluation of several seeds, and how long it took.

python -m benchmarks.learning.cartpole                       # seeds 1-5, one after the other
python -m benchmarks.learning.cartpole --seeds 11 12 --smoke
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.result_file import write_result
from fastdqn import presets, train


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning.cartpole", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--preset", default="cartpole")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, no claim")
    parser.add_argument("--out", help="where to write the JSON")
    args = parser.parse_args()
    config = presets()[args.preset]
    if args.smoke:
        config = config.replace(total_env_steps=3_000, eval_episodes=10)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in args.seeds:
            result = train(config.replace(seed=seed, run_dir=str(Path(scratch) / str(seed))))
            s = result.summary
            rows.append({name: s[name] for name in KEPT})
            print(
                f"seed {seed}: {s['eval_return_mean']:.1f} +- {s['eval_return_std']:.1f} over "
                f"{s['eval_episodes']} greedy episodes, {s['wall_s']:.1f} s, "
                f"{s['env_steps_per_s']:,.0f} env steps/s, {s['updates_per_s']:,.0f} updates/s",
                flush=True,
            )
    solved = sum(row["eval_return_mean"] >= 475 for row in rows)
    print(f"{solved} of {len(rows)} seeds at 475 or more")
    body = {"preset": args.preset, "config": config.to_json(), "runs": rows, "solved": solved}
    if not args.smoke or args.out:
        print(write_result("learning.cartpole", body, args.out))


KEPT = (
    "seed", "env_steps", "updates", "episodes", "eval_return_mean", "eval_return_std",
    "eval_episodes", "wall_s", "train_s", "env_steps_per_s", "updates_per_s", "replay_ratio",
    "precision", "mode", "torch_threads", "device",
)  # fmt: skip

if __name__ == "__main__":
    main()

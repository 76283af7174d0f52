"""What sticky actions cost a policy that has learned with them: its games with more or fewer.

python -m benchmarks.learning.atari.sticky                      # the kept policy of Pong
python -m benchmarks.learning.atari.sticky --policy RUN --chances 0 0.25 --out FILE
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.learning.atari.policies import POLICIES
from benchmarks.result_file import RESULTS, write_result
from fastdqn import Config, evaluate
from fastdqn.config.seeds import eval_seed
from fastdqn.system.signals import Stopped
from fastdqn.training.playing import playing


def main(argv: list[str] | None = None) -> None:
    summary = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser("benchmarks.learning.atari.sticky", description=summary)
    parser.add_argument("--policy", default=str(POLICIES / "pong"), help="a run directory")
    parser.add_argument("--chances", type=float, nargs="+", default=[0.0, 0.1, 0.25, 0.5])
    parser.add_argument("--episodes-per-env", type=int, default=3)
    parser.add_argument("--out", default=str(RESULTS / "pong-sticky.json"))
    args = parser.parse_args(argv)
    rows = []
    for chance in args.chances:
        try:
            row = play(Path(args.policy), chance, args.episodes_per_env)
        except Stopped as signal:
            raise SystemExit(signal.exit_code) from None  # the file has what is done
        rows.append(row)
        games = len(row["returns"])
        print(f"sticky actions {chance:g}: {row['mean']:.2f} over {games} games", flush=True)
        write_result("learning.atari.sticky", {"rows": rows}, args.out)


def play(run: Path, chance: float, episodes_per_env: int) -> dict[str, Any]:
    """Games of a run's policy as in its own final evaluation, but for the sticky actions.

    Args:
        run: Its directory.
        chance: That a frame repeats the action before it.
        episodes_per_env: Games of each of the evaluation's envs.
    """
    config = Config.from_json((run / "config.json").read_text(encoding="utf-8"))
    config = config.replace(atari_sticky_actions=chance)
    num_envs = min(config.eval_num_envs, config.eval_episodes)
    started = time.perf_counter()
    with playing(str(run), config, num_envs=num_envs) as (policy, envs, stop):
        result = evaluate(
            policy,
            envs,
            episodes_per_env=episodes_per_env,
            epsilon=config.eval_epsilon,
            max_env_steps=config.eval_max_env_steps,
            seed=eval_seed(config),
            stop=stop,
        )
    return {
        "env_id": config.env_id,
        "seed": config.seed,
        "sticky_actions": chance,
        "mean": result.mean,
        "returns": result.returns.tolist(),
        "lengths": result.lengths.tolist(),
        "unfinished": result.unfinished,
        "wall_s": time.perf_counter() - started,
    }


if __name__ == "__main__":
    main()

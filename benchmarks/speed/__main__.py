"""End-to-end training speed of the presets, with the replay ratio that belongs to it.

python -m benchmarks.speed                 # CartPole and Pong on this machine
python -m benchmarks.speed --smoke
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.result_file import write_result
from fastdqn import Config, presets, train
from fastdqn.system.host import keep_freed_memory


def cases(smoke: bool) -> dict[str, Config]:
    """Short runs that are in steady state after the first row of metrics.csv."""
    cartpole, atari = presets()["cartpole"], presets()["dqn-atari"]
    per = presets()["double-dueling-per-atari"]
    steps = 4_000 if smoke else 30_000
    pong = {
        "num_envs": 8,
        "replay_capacity": 20_000,
        "total_env_steps": 400 if smoke else 5_000,
        "learning_starts_env_steps": 160 if smoke else 1_000,
        "log_period_env_steps": 80 if smoke else 500,
    }
    common: dict[str, Any] = {"eval_episodes": 0, "save_final_checkpoint": False}
    common["checkpoint_period_env_steps"] = None
    return {
        "cartpole": cartpole.replace(
            total_env_steps=steps, log_period_env_steps=steps // 10, **common
        ),
        "pong dqn fp32": atari.replace(precision="fp32", **pong, **common),
        "pong dqn auto": atari.replace(**pong, **common),
        "pong double dueling per": per.replace(**pong, **common),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="seconds, no claim")
    parser.add_argument("--out", help="where to write the JSON")
    args = parser.parse_args()
    rounds = 1 if args.smoke else args.rounds
    keep_freed_memory()  # as the command line does for convolutions
    found: dict[str, list[dict[str, float]]] = {}
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds):  # interleaved, so that a slow minute hits every case
            for name, config in cases(args.smoke).items():
                rows: list[dict[str, float]] = []
                directory = Path(scratch) / f"{name} {number}".replace(" ", "-")
                result = train(
                    config.replace(run_dir=str(directory)),
                    on_log=lambda row, r=rows: r.append(dict(row)) and None,
                )
                steady = [row for row in rows if row["updates_per_s"] > 0][1:]
                found.setdefault(name, []).append(
                    {
                        key: statistics.median(row[key] for row in steady)
                        for key in ("env_steps_per_s", "frames_per_s", "updates_per_s")
                    }
                )
                s = result.summary
                keys = ("replay_ratio", "precision", "mode", "torch_threads", "replay_bytes")
                details[name] = {key: s[key] for key in keys}
    for name, values in found.items():
        speeds = sorted(value["env_steps_per_s"] for value in values)
        details[name].update(
            {key: statistics.median(v[key] for v in values) for key in values[0]},
            rounds=values,
        )
        d = details[name]
        print(
            f"{name:<24} {d['env_steps_per_s']:>8,.0f} env steps/s ({speeds[0]:,.0f}-"
            f"{speeds[-1]:,.0f}), {d['frames_per_s']:>8,.0f} frames/s, "
            f"{d['updates_per_s']:>6,.0f} updates/s, replay ratio {d['replay_ratio']:g}, "
            f"{d['precision']}"
        )
    if not args.smoke or args.out:
        print(write_result("speed", {"cases": details}, args.out))


if __name__ == "__main__":
    main()

"""Does every algorithm of the menu learn from pixels? Catch, judged greedily, some seeds each.

python -m benchmarks.learning.menu                                  # all of them, seeds 1-3
python -m benchmarks.learning.menu --only c51 iqn --seeds 11 12 --jobs 2
python -m benchmarks.learning.menu --report                         # the table of what is there
python -m benchmarks.learning.menu --smoke                          # seconds, no claim

Each is the preset ``catch`` with the fields below changed, for as many env steps: 10 balls an
episode, of which 9.5 must be caught more often than missed; on one thread. Every run has a process
of its own. The result file is written as each run ends and keeps the rows of earlier calls: a run
that is in it with the same configuration and the same code of fastdqn is not repeated unless
--again says so.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.learning import jobs
from benchmarks.learning.jobs import KEPT, Row, shortened
from fastdqn import Config, presets, train
from fastdqn.system.info import host_kind, versions

BAR = 9.5
EPISODES = 100

# Discounted returns of Catch are at most 2.2: a ball takes 12 env steps, and gamma is 0.95.
C51 = {"head": "c51", "value_min": -3.0, "value_max": 3.0}
NOISY = {"noisy": True, "epsilon_start": 0.0, "epsilon_end": 0.0}
MENU: dict[str, tuple[str, dict[str, Any]]] = {
    "double-dqn": ("double DQN", {}),
    "c51": ("C51, double", C51),
    "qr": ("QR-DQN, double", {"head": "qr"}),
    "iqn": ("IQN, double", {"head": "iqn"}),
    "munchausen": ("Munchausen DQN", {"munchausen": True}),
    "munchausen-qr": ("Munchausen QR-DQN", {"munchausen": True, "head": "qr"}),
    "munchausen-iqn": ("Munchausen IQN", {"munchausen": True, "head": "iqn"}),
    "noisy": ("double DQN, noisy layers, no epsilon", NOISY),
    "rainbow": (
        "Rainbow: C51, double, dueling, noisy, prioritized",
        # With a sigma of 0.5 it is at 8.9 (seed 11), with this at 10 (seeds 11 and 12).
        {
            **C51,
            **NOISY,
            "noisy_sigma": 0.1,
            "dueling": True,
            "prioritized": True,
            "priority_alpha": 0.5,
        },
    ),
    # Unpadded it sees 25 of 36 rows, and not the paddle's.
    "der": (
        "double DQN, the torso of data-efficient Rainbow",
        {"network": "der", "padding": "same"},
    ),
    "same-xavier": ("double DQN, padded, Xavier's weights", {"padding": "same", "init": "xavier"}),
}


def config_of(name: str) -> Config:
    """What runs, without seed and directory."""
    config = presets()["catch"].replace(eval_episodes=EPISODES, eval_num_envs=EPISODES)
    return config.replace(**MENU[name][1])


def run(name: str, seed: int, scratch: str, *, smoke: bool = False) -> Row:
    """Train one seed in this process, and return its row."""
    config = config_of(name).replace(seed=seed, run_dir=str(Path(scratch) / f"{name}-{seed}"))
    summary = train(shortened(config) if smoke else config).summary
    if summary["stopped_by"] != "total_env_steps":
        raise SystemExit(f"{name}, seed {seed}, was stopped by {summary['stopped_by']}.")
    row = {"task": name, "seed": seed, **jobs.identity(config_of(name))}
    row |= {"date": time.strftime("%Y-%m-%d")}
    row |= {"environment": {**host_kind(), "versions": versions()}}
    row |= {key: summary[key] for key in KEPT}
    return row | {"met": row["eval_return_mean"] >= BAR}


def run_apart(name: str, seed: int) -> Row:
    """:func:`run` in a new process."""
    return jobs.run_apart("benchmarks.learning.menu", name, seed)


def table(rows: list[Row]) -> str:
    """Markdown, one line per algorithm."""
    lines = ["| algorithm | fields | return | bar met | seconds |", "|---|---|---|---|---|"]
    for name, (title, changes) in MENU.items():
        own = [row for row in rows if row["task"] == name]
        if own:
            reached = ", ".join(f"{row['eval_return_mean']:.2f}" for row in own)
            seconds = ", ".join(f"{row['wall_s']:.0f}" for row in own)
            fields = ", ".join(f"`{key} = {value}`" for key, value in changes.items())
            met = f"{sum(row['met'] for row in own)} of {len(own)}"
            lines.append(f"| {title} | {fields or 'none'} | {reached} | {met} | {seconds} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = jobs.parser("benchmarks.learning.menu", __doc__.splitlines()[0], list(MENU))
    args = parser.parse_args(argv)
    if args.smoke:
        smoke(args.only)
        return
    configs = {name: config_of(name) for name in MENU}
    more = {"bar": BAR}
    print(table(jobs.measure("menu", args, run_apart, configs, "eval_return_mean", more)))


def smoke(names: list[str]) -> None:
    """Go through everything of each algorithm, but for learning."""
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            row = run(name, 1, scratch, smoke=True)
        print(f"{name}: {row['updates']} updates, {row['wall_s']:.1f} s", flush=True)


if __name__ == "__main__":
    main()

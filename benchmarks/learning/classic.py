"""Do the presets for envs of every kind learn on the small envs that people try first?

python -m benchmarks.learning.classic                                  # all of them, seeds 1-3
python -m benchmarks.learning.classic --only taxi lunar-lander --seeds 11 12 --jobs 2
python -m benchmarks.learning.classic --report                         # the table of what is there
python -m benchmarks.learning.classic --smoke                          # seconds, no claim

Every run has a process of its own. The result file is written as each run ends and keeps the rows
of earlier calls: a run that is in it with the same configuration and the same code of fastdqn is
not repeated unless --again says so. ``eval_return_mean`` is of the final evaluation, greedy, on
seeds far from those of training. MinAtar's authors report returns of training instead, with an
epsilon of 0.1: those rows are judged by a second evaluation at that epsilon.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.learning import jobs
from benchmarks.learning.jobs import KEPT, Row, shortened
from fastdqn import Config, evaluate, load, presets, train
from fastdqn.config.seeds import eval_seed
from fastdqn.system.info import host_kind, versions
from fastdqn.training.build import make_stream

EPISODES, EVAL_ENVS = 40, 20
MINATAR_EPSILON = 0.1


@dataclass(frozen=True)
class Task:
    """An env, the preset that learns it, what differs from the preset, and the bar."""

    env_id: str
    preset: str
    bar: float
    changes: dict[str, Any] = field(default_factory=dict)
    package: str | None = None
    """Beside Gymnasium's own: the distribution on PyPI that has the env."""
    epsilon: float = 0.0
    """At which the bar is judged."""

    @property
    def config(self) -> Config:
        """What runs, without seed and directory."""
        return presets()[self.preset].replace(
            env_id=self.env_id, eval_episodes=EPISODES, eval_num_envs=EVAL_ENVS, **self.changes
        )


# Why these differ from the preset is said beside the preset.
CAR = {"normalize_observations": True, "gamma": 0.999, "loss": "mse"}
LANDER = {"n_step": 1, "total_env_steps": 500_000}
MILLION = {"total_env_steps": 1_000_000}
TASKS = {
    "cartpole": Task("CartPole-v1", "classic", 475),
    "acrobot": Task("Acrobot-v1", "classic", -100),
    "mountain-car": Task("MountainCar-v0", "classic", -120, CAR),
    "lunar-lander": Task("LunarLander-v3", "classic", 200, LANDER, "Box2D"),
    "frozen-lake": Task("FrozenLake-v1", "classic", 1.0, {"env_kwargs": {"is_slippery": False}}),
    "taxi": Task("Taxi-v4", "classic", 7, {"n_step": 1}),
    "minigrid-empty": Task("MiniGrid-Empty-5x5-v0", "small-images", 0.9, package="minigrid"),
    # Bars: what Young & Tian 2019 (arXiv 1903.03176) report of their DQN after 5M frames.
    "minatar-breakout": Task(
        "MinAtar/Breakout-v1", "small-images", 9, MILLION, "MinAtar", MINATAR_EPSILON
    ),
    "minatar-freeway": Task(
        "MinAtar/Freeway-v1", "small-images", 45, MILLION, "MinAtar", MINATAR_EPSILON
    ),
}


def run(name: str, seed: int, scratch: str, *, smoke: bool = False) -> Row:
    """Train one seed in this process, and return its row."""
    task = TASKS[name]
    config = task.config.replace(seed=seed, run_dir=str(Path(scratch) / f"{name}-{seed}"))
    config = shortened(config) if smoke else config
    summary = train(config).summary
    if summary["stopped_by"] != "total_env_steps":
        raise SystemExit(f"{name}, seed {seed}, was stopped by {summary['stopped_by']}.")
    row = {"task": name, "seed": seed, **identity(name), "date": time.strftime("%Y-%m-%d")}
    row |= {"environment": machine(task)} | {key: summary[key] for key in KEPT}
    row["reached"] = row["eval_return_mean"]
    if task.epsilon:
        row["reached"] = row["eval_return_mean_at_epsilon"] = play(config, task.epsilon)
    return row | {"met": row["reached"] >= task.bar}


def play(config: Config, epsilon: float) -> float:
    """The mean return of the final parameters at that epsilon."""
    envs = make_stream(config, evaluation=True)
    try:
        policy = load(str(config.run_dir), device=config.device)
        each = config.eval_episodes // envs.num_envs
        seed = eval_seed(config)
        return evaluate(policy, envs, episodes_per_env=each, epsilon=epsilon, seed=seed).mean
    finally:
        envs.close()


def is_missing(task: Task) -> bool:
    """Whether the package with the env is not installed."""
    return task.package is not None and version(task.package) is None


def version(package: str) -> str | None:
    """Of an installed distribution."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine(task: Task) -> dict[str, Any]:
    """Where a run ran, and with what."""
    found = {**host_kind(), "versions": versions()}
    if task.package is not None:
        found["versions"][task.package] = version(task.package)
    return found


def identity(name: str) -> dict[str, Any]:
    """What a run must share with another to count as the same: code of fastdqn, configuration."""
    return jobs.identity(TASKS[name].config)


def run_apart(name: str, seed: int) -> Row:
    """:func:`run` in a new process."""
    return jobs.run_apart("benchmarks.learning.classic", name, seed)


def table(rows: list[Row]) -> str:
    """Markdown, one line per task."""
    lines = [
        "| env | preset | overrides | env steps | bar | reached | bar met | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, task in TASKS.items():
        own = [row for row in rows if row["task"] == name]
        if own:
            reached = ", ".join(f"{row['reached']:.2f}" for row in own)
            seconds = ", ".join(f"{row['wall_s']:.0f}" for row in own)
            changes = ", ".join(f"`{key} = {value}`" for key, value in task.changes.items())
            met = f"{sum(row['met'] for row in own)} of {len(own)}"
            lines.append(
                f"| `{task.env_id}` | `{task.preset}` | {changes or 'none'} | "
                f"{own[0]['env_steps']:,} | {task.bar:g} | {reached} | {met} | {seconds} |"
            )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = jobs.parser("benchmarks.learning.classic", __doc__.splitlines()[0], list(TASKS))
    args = parser.parse_args(argv)
    if args.smoke:
        smoke(args.only)
        return
    missing = sorted({TASKS[name].package or "" for name in args.only if is_missing(TASKS[name])})
    if missing and not args.report:
        raise SystemExit(f"First pip install {' '.join(missing)}, or choose others with --only.")
    configs = {name: task.config for name, task in TASKS.items()}
    print(table(jobs.measure("classic", args, run_apart, configs, "reached")))


def smoke(names: list[str]) -> None:
    """Go through everything of each task, but for learning."""
    for name in names:
        if is_missing(TASKS[name]):
            print(f"{name}: left out, for {TASKS[name].package} is not installed")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            row = run(name, 1, scratch, smoke=True)
        print(f"{name}: {row['updates']} updates, {row['wall_s']:.1f} s", flush=True)


if __name__ == "__main__":
    main()

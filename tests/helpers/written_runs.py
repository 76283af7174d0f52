"""Run directories as the trainer leaves them, written without training."""

import json

from fastdqn.config.config import Config
from fastdqn.training.report import COLUMNS, EVALUATION_COLUMNS


def write_run(path, evaluations=(), *, returns=(1.0, 2.0), finished=True, host=None, **changes):
    """A run of 200 env steps with a row of metrics.csv for each return.

    Args:
        path: Of the run directory.
        evaluations: Means, the last one final where the run is finished.
        returns: Of training.
        finished: Whether there is a summary.
        host: What it says of its machine.
        changes: To the configuration.
    """
    path.mkdir(parents=True)
    config = Config(total_env_steps=200, **changes)
    (path / "config.json").write_text(config.to_json())
    session = {
        "started": "2026-01-02T03:04:05Z",
        "command": ["fastdqn", "train", "--seed", str(config.seed)],
        "host": host or {"cpu": "A CPU", "cpus_usable": 2, "memory_total_bytes": 8_000_000_000},
        "device": "A GPU",
        "precision": "fp32",
        "versions": {"python": "3.11.7", "fastdqn": "0.1.0", "cuda": None},
        "git_commit": "0123456789abcdef" * 2,
        "git_dirty": False,
    }
    record = {
        "envs": {"made_from_config": True, "name": config.env_id, "action_space": "Discrete(2)"},
        "network": {"made_from_config": True, "parameters": 10},
        "sessions": [session],
    }
    (path / "run.json").write_text(json.dumps(record))
    steps = [200 * (k + 1) // len(returns) for k in range(len(returns))]
    lines = [",".join(COLUMNS)]
    for step, value in zip(steps, returns, strict=True):
        cells = {
            "env_steps": step,
            "updates": step // 4,
            "episodes": step // 10,
            "return_mean": value,
            "epsilon": 1,
            "env_steps_per_s": 100,
            "wall_s": step / 100,
        }
        lines.append(",".join(str(cells.get(name, "")) for name in COLUMNS))
    (path / "metrics.csv").write_text("\r\n".join(lines) + "\r\n")
    lines = [",".join(EVALUATION_COLUMNS)]
    for k, mean in enumerate(evaluations):
        final = finished and k + 1 == len(evaluations)
        cells = {"env_steps": 200 * (k + 1) // len(evaluations), "mean": mean, "std": 1,
                 "episodes": 10, "unfinished": 0, "final": int(final)}  # fmt: skip
        lines.append(",".join(str(cells.get(name, "")) for name in EVALUATION_COLUMNS))
    if evaluations:
        (path / "evaluations.csv").write_text("\r\n".join(lines) + "\r\n")
    if finished:
        summary = {"stopped_by": "total_env_steps", "env_steps": 200, "updates": 50,
                   "episodes": 20, "wall_s": 75.5, "env_steps_per_s": 1234.5,
                   "updates_per_s": 308.6, "ended": "2026-01-02T04:00:00Z"}  # fmt: skip
        if config.env_id == "CartPole-v1":
            summary["reward_threshold"] = 475.0
        (path / "summary.json").write_text(json.dumps(summary))
    return path

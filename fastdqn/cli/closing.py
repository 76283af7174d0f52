"""The last words of ``fastdqn train``: what came out of the run, where it is, and how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdqn.cli.scores import score as evaluation_score
from fastdqn.cli.scores import verdict
from fastdqn.config.config import Config
from fastdqn.errors import EnvError
from fastdqn.recording.film_file import has_mp4
from fastdqn.system.stopping import GO_ON_CODES

_FILES = ("returns.png", "metrics.csv", "evaluations.csv", "summary.json", "films", "tensorboard",
          "checkpoints")  # fmt: skip


def closing(config: Config, run_dir: Path, summary: Mapping[str, Any]) -> str:
    """What came out of a run, where it is, and how to go on."""
    lines = []
    if summary.get("eval_return_mean") is not None:
        score = evaluation_score(
            summary["eval_return_mean"],
            summary["eval_return_std"],
            summary["eval_episodes"],
            summary.get("eval_unfinished_episodes", 0),
            summary.get("eval_given_up", ""),
            config.eval_epsilon,
        )
        at = summary.get("eval_env_steps", summary["env_steps"])
        if at == summary["env_steps"]:
            score = verdict(score, summary.get("reward_threshold"), summary.get("solved"))
        else:  # stopped since
            score = f"newest evaluation, at {at:,} env steps: {score}"
        lines.append(score)
    lines.append(
        f"{summary['env_steps']:,} env steps and {summary['updates']:,} updates in "
        f"{summary['wall_s']:.1f} s; while training {summary['env_steps_per_s']:,.0f} env steps/s, "
        f"{summary['updates_per_s']:,.0f} updates/s, replay ratio {summary['replay_ratio']:g}"
    )
    here = [name for name in _FILES if (run_dir / name).exists()]
    lines.append(f"files: {run_dir}" + (f" ({', '.join(here)})" if here else ""))
    path = shlex.quote(str(run_dir))
    if summary.get("stopped_by") in GO_ON_CODES:
        lines.append(f"stopped by {summary['stopped_by']}; to go on:")
        lines.append(f"  fastdqn train --config {path} --run-dir {path} --resume require")
    else:
        imports = " --allow-env-import" if ":" in config.env_id else ""
        lines.append(f"evaluate again: fastdqn eval {path}{imports}")
        if _draws(config.env_id):
            film = f"play.{'mp4' if has_mp4() else 'gif'}"
            lines.append(f"a film of it:   fastdqn record {path}{imports} --out {film}")
        lines.append(f"a page on it:   fastdqn report {path} --out report.html")
    return "\n".join(lines)


def _draws(env_id: str) -> bool:
    """Whether an env of a user's module draws pictures; of others it is supposed."""
    if ":" not in env_id:
        return True
    from fastdqn.envs.rendered import check_renders

    try:
        check_renders(env_id, "rgb_array")
    except EnvError:
        return False
    return True

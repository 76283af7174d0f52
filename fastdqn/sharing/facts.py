"""What goes with a policy that leaves its run: where it comes from and what its actions mean."""

from __future__ import annotations

import json
from pathlib import Path

from fastdqn.checkpoints.names import read_spec
from fastdqn.config.config import Config
from fastdqn.plotting.labels import action_names
from fastdqn.runs.record import read_record, run_directory
from fastdqn.system.bounded_json import read_object


def run_facts(run: Path, config: Config, checkpoint: Path) -> dict[str, str]:
    """Env, meanings of actions, env steps and commit of a policy; values are texts, or JSON.

    Args:
        run: Run directory or checkpoint.
        config: Of the run.
        checkpoint: That the policy was loaded from.
    """
    return {
        "env_id": env_name(run, config),
        "action_meanings": json.dumps(action_meanings(run, config, checkpoint)),
        "env_steps": str(int(checkpoint.name[5:17])) if checkpoint.name[5:17].isdigit() else "",
        "git_commit": trained_commit(run) or "",
    }


def env_name(run: Path, config: Config) -> str:
    """What a run was trained on."""
    envs = read_record(run).envs
    return config.env_id if envs.made_from_config else envs.name or envs.what


def action_meanings(run: Path, config: Config, checkpoint: Path) -> list[str]:
    """A name for each action; where nobody knows them, "action 0" and so on."""
    count = read_spec(checkpoint).get("num_actions")
    if type(count) is not int or count < 1:
        return []
    known = config.env_id if read_record(run).envs.made_from_config else ""
    try:
        return action_names(known, count, full_action_space=config.atari_full_action_space)
    except ImportError:  # Atari's are ALE's to say
        return action_names("", count)


def trained_commit(run: Path) -> str | None:
    """The commit of fastdqn that the newest session of a run ran from."""
    sessions = read_object(run_directory(run) / "run.json").get("sessions")
    newest = sessions[-1] if isinstance(sessions, list) and sessions else None
    commit = newest.get("git_commit") if isinstance(newest, dict) else None
    return commit if isinstance(commit, str) else None

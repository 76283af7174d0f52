"""A checkpoint of a policy alone: what loads, plays and starts other runs, but cannot go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastdqn.checkpoints.names import read_score
from fastdqn.checkpoints.state_tree import materialize
from fastdqn.checkpoints.store import open_checkpoint, refusing, save_checkpoint
from fastdqn.config.config import Config
from fastdqn.sharing.portable import portable


def keep_policy(checkpoint: Path, checkpoints: Path) -> Path:
    """Write a checkpoint's network, without optimizer, target, generators and replay.

    Args:
        checkpoint: That of a run.
        checkpoints: Directory to write it to, which then holds this one only.

    Returns:
        The new checkpoint.

    Raises:
        CheckpointError: Where it is damaged, or the disk refuses.
    """
    state = open_checkpoint(checkpoint, parts=("run", "learner"))
    with refusing(checkpoint):
        run, env_steps = state["run"], int(state["run"]["env_steps"])
        config = portable(Config.from_json(json.dumps(run["config"])))
        kept: dict[str, Any] = {
            "run": {
                "config": json.loads(config.to_json()),
                "spec": run["spec"],
                "env_steps": env_steps,
            },
            "learner": {"network": materialize(state["learner"]["network"])},
        }
    return save_checkpoint(checkpoints, env_steps, kept, keep=1, score=read_score(checkpoint))

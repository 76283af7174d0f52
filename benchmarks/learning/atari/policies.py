"""A run's final policy alone, without what training on would need: what fastdqn.load() reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.result_file import RESULTS
from fastdqn import Config
from fastdqn.checkpoints.state_tree import materialize
from fastdqn.checkpoints.store import find_checkpoint, load_checkpoint, save_checkpoint

POLICIES = RESULTS / "policies"


def keep_policy(run: Path, into: Path) -> Path:
    """Copy configuration and weights of a run's newest checkpoint, in the place of an older copy.

    Args:
        run: Its directory.
        into: The new one: a run directory that can be played, evaluated and started from, but not
            resumed.

    Returns:
        ``into``.
    """
    newest = find_checkpoint(run, None)
    state = load_checkpoint(newest, parts=("run", "learner"))
    config = Config.from_json((run / "config.json").read_text(encoding="utf-8"))
    config = config.replace(run_dir=None, resume="never")  # nothing of this machine
    state["run"]["config"] = json.loads(config.to_json())
    part = {
        "run": {name: state["run"][name] for name in ("config", "spec", "env_steps")},
        "learner": {"network": materialize(state["learner"]["network"])},
    }
    shutil.rmtree(into, ignore_errors=True)
    save_checkpoint(into / "checkpoints", state["run"]["env_steps"], part, keep=1)
    (into / "config.json").write_text(config.to_json(), encoding="utf-8")
    return into

"""A run's final policy alone, without what training on would need: what fastdqn.load() reads."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.result_file import RESULTS
from fastdqn import Config
from fastdqn.checkpoints.names import find_checkpoint
from fastdqn.sharing import policy_checkpoint
from fastdqn.sharing.portable import portable

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
    config = portable(Config.load(run / "config.json"))
    shutil.rmtree(into, ignore_errors=True)
    policy_checkpoint.keep_policy(find_checkpoint(run, None), into / "checkpoints")
    (into / "config.json").write_text(config.to_json(), encoding="utf-8")
    return into

"""A run of somebody else, from the Hugging Face Hub to a directory of this machine.

Only files that a run has are downloaded, without a replay, and nothing in them is executed: they
are checked as those of any run are when they are read.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from fastdqn.errors import CheckpointError
from fastdqn.sharing.hub_client import PREFIX, hub, hub_errors, parse_address

# What is downloaded, as patterns of fnmatch, and what of that is taken.
_PATTERNS = ["config.json", "run.json", "summary.json", "metrics.csv", "evaluations.csv",
             "checkpoints/step_*/manifest.json", "checkpoints/step_*/state.json",
             "checkpoints/step_*/run-*.safetensors",
             "checkpoints/step_*/learner-*.safetensors"]  # fmt: skip
_FILE = re.compile(
    r"(config|run|summary)\.json|(metrics|evaluations)\.csv|"
    r"checkpoints/step_\d{12}/((manifest|state)\.json|(run|learner)-\d{5}\.safetensors)",
    re.ASCII,
)


def local_run(run: str | os.PathLike[str]) -> Path:
    """The directory of a run: of ``hf:USER/NAME[@REVISION]`` a download, else the path itself.

    What was downloaded before is not downloaded again, and serves where there is no connection.

    Args:
        run: Path or address.

    Raises:
        ConfigError: Where the address is none, or the package for it is not installed.
        CheckpointError: Where there is no such run, or it cannot be had.
    """
    address = os.fspath(run)
    if not address.startswith(PREFIX):
        return Path(run)
    repo, revision = parse_address(address)
    with hub_errors(repo, "read"):
        snapshot = Path(
            hub().snapshot_download(
                repo, revision=revision, allow_patterns=_PATTERNS, library_name="fastdqn"
            )
        )
    files = sorted(
        path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()
    )
    if "config.json" not in files or not any(name.endswith("/manifest.json") for name in files):
        raise CheckpointError(
            f"{address} holds no run of fastdqn (no config.json with checkpoints beside it); name "
            f"one that 'fastdqn push' has made."
        )
    return _plain_copy(snapshot, [name for name in files if _FILE.fullmatch(name)])


def _plain_copy(snapshot: Path, files: list[str]) -> Path:
    """The files of a snapshot as such: there they are links, which no checkpoint is made of.

    They lie in the cache of the same repository, under the same commit, and take no room of their
    own where the disk has hard links.
    """
    directory = snapshot.parents[1] / "fastdqn" / snapshot.name
    if directory.is_dir():
        return directory
    directory.parent.mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".tmp-", dir=directory.parent))
    try:
        for name in files:
            target = made / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = (snapshot / name).resolve()
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)
        with contextlib.suppress(OSError):  # another process was faster
            made.rename(directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return directory

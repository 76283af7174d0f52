"""The directory of a run: fresh, of one process, resumed only by the same configuration."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastdqn.checkpoints.names import latest_checkpoint
from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError, ConfigError, FastDQNError
from fastdqn.runs.lock import LOCK_NAME, RunLock, refuse_locked
from fastdqn.system.file_systems import replace

# What a resumed run may change: nothing that the numbers of the part already run depend on.
_MAY_CHANGE = {
    "total_env_steps",
    "schedule_env_steps",  # see continuation.py, as for the next two
    "replan_schedules",
    "precision",
    "max_wall_s",
    "run_dir",
    "resume",
    "lock_timeout_s",
    "device",
    "torch_threads",
    "env_threads",
    "step_timeout_s",
    "stop_return",
    "stop_eval_return",
    "eval_episodes",
    "eval_num_envs",
    "eval_period_env_steps",
    "eval_epsilon",
    "eval_max_env_steps",
    "eval_patience_env_steps",
    "log_period_env_steps",
    "logger",
    "record_period_env_steps",
    "checkpoint_period_env_steps",
    "checkpoint_keep",
    "checkpoint_keep_best",
    "checkpoint_replay",
    "save_final_checkpoint",
}

_OURS = (
    "config.json",
    "run.json",
    "metrics.csv",
    "evaluations.csv",
    "summary.json",
    "returns.png",
    "loggers.json",
    "films",
    "checkpoints",
)
_OUR_DIRECTORIES = ("films", "checkpoints")


def open_run_dir(config: Config, env_name: str | None = None) -> tuple[Path, bool, RunLock]:
    """The directory to write to, whether to go on from a checkpoint in it, and its lock.

    Nothing is changed in a directory that is refused, and a fresh one is this call's alone. The
    caller releases the lock when the run has ended.

    Args:
        config: Of the run.
        env_name: What a fresh directory is called by; None: ``config.env_id``.

    Raises:
        ConfigError: Where another process holds the directory, it is in use, cannot be written, or
            holds another run.
        CheckpointError: Where ``resume = 'require'`` finds no checkpoint.
    """
    from fastdqn.checkpoints.store import clean

    path = (
        Path(config.run_dir) if config.run_dir else _make_fresh(config, env_name or config.env_id)
    )
    with _naming(path):
        if config.run_dir:
            refuse_early(path, config)
            path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise ConfigError(f"run_dir = {str(path)!r} cannot be written to; name another.")
        lock = RunLock(path, config.lock_timeout_s)
        try:
            resuming = _may_resume(path, config)
            lock.sign()
            with contextlib.suppress(OSError):
                clean(path / "checkpoints")
        except BaseException:
            lock.release()
            raise
    return path, resuming, lock


def refuse_early(path: Path, config: Config) -> None:
    """Refuse at once, and without a trace, what will not do whoever has the lock.

    Only a directory without a lock file is judged whole: it may be somebody else's, and gets none.
    Where there is one, a run may be about to change what there is to judge. Needs no torch.

    Args:
        path: The directory, which need not exist.
        config: Of the run.

    Raises:
        ConfigError: As :func:`open_run_dir`.
        CheckpointError: As :func:`open_run_dir`.
    """
    if (path / LOCK_NAME).exists():
        refuse_occupied(config)
        return
    try:
        _may_resume(path, config)
    except FastDQNError:
        if not (path / LOCK_NAME).exists():
            raise


def _may_resume(path: Path, config: Config) -> bool:
    """Whether there is a checkpoint to go on from; errors as :func:`open_run_dir`."""
    occupied = refuse_occupied(config)
    has_checkpoint = latest_checkpoint(path / "checkpoints") is not None
    if config.resume == "require" and not has_checkpoint:
        raise CheckpointError(
            f"run_dir = {str(path)!r} holds no checkpoint to resume; use resume = 'auto' to start "
            f"where there is none."
        )
    if occupied and not (path / "config.json").exists():
        if not _died_at_its_start(path, config):
            raise ConfigError(
                f"run_dir = {str(path)!r} holds something else than a run; name another."
            )
    elif occupied:
        check_same(Config.load(path / "config.json"), config, path)
    return has_checkpoint


def resumes_from(config: Config) -> Path | None:
    """The newest checkpoint that a run is to go on from, whole or not; None: it starts anew."""
    if config.resume == "never" or config.run_dir is None:
        return None
    return latest_checkpoint(Path(config.run_dir) / "checkpoints")


def with_saved_capacity(config: Config) -> Config:
    """The configuration with the replay of the run that it goes on with, where that is smaller.

    What was lowered to fit stays lowered, and is no other run.
    """
    if resumes_from(config) is None:
        return config
    try:
        saved = Config.load(Path(str(config.run_dir)) / "config.json").replay_capacity
        smaller = saved < config.replay_capacity
        return config.replace(replay_capacity=saved) if smaller else config
    except ConfigError:  # not readable: left to whoever resumes
        return config


def refuse_occupied(config: Config) -> bool:
    """Whether there is something in ``run_dir``; ConfigError where that may not be. Quick."""
    path = Path(config.run_dir) if config.run_dir else None
    if path is None:
        return False
    with _naming(path):
        if not path.exists():
            return False
        if not path.is_dir():
            raise ConfigError(f"run_dir = {str(path)!r} is a file; name a directory.")
        _refuse_links(path)
        occupied = any(entry.name != LOCK_NAME for entry in path.iterdir())
    if config.resume == "never" and occupied:
        raise ConfigError(
            f"run_dir = {str(path)!r} is not empty; name another, or go on with resume = 'auto'."
        )
    return occupied


def refuse_held(config: Config) -> None:
    """Wait for ``run_dir`` if another process holds it; ConfigError where it does not let go.

    Needs no torch. Another may take it before :func:`open_run_dir` does, which looks again.
    """
    if config.run_dir:
        refuse_locked(Path(config.run_dir), config.lock_timeout_s)


def refuse_unwritable(config: Config) -> None:
    """ConfigError where ``run_dir`` can be neither made nor written. Quick; needs no torch."""
    path = Path(config.run_dir or "runs")
    there = next(p for p in (path.absolute(), *path.absolute().parents) if os.path.exists(p))
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"run_dir = {str(path)!r} cannot be written to; name another.")


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever the disk refuses is said with the directory's name."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"run_dir = {str(path)!r} cannot be used ({error.strerror}); mend that, or name "
            f"another."
        ) from None


def _refuse_links(path: Path) -> None:
    """Nothing that a run writes may lead elsewhere, or block: the directory may be another's."""
    for entry in path.iterdir():
        if not entry.name.startswith(_OURS) and entry.name != LOCK_NAME:
            continue
        kind = entry.lstat().st_mode
        if not (stat.S_ISDIR if entry.name in _OUR_DIRECTORIES else stat.S_ISREG)(kind):
            raise ConfigError(
                f"run_dir = {str(path)!r}: {entry.name} is a link or no plain file; remove it, or "
                f"name another run_dir (run_dir itself may be a link)."
            )


def _died_at_its_start(path: Path, config: Config) -> bool:
    """Whether there is only what a run leaves that was killed within its first ``write_json``.

    The next one writes over it.
    """
    entries = [entry for entry in path.iterdir() if entry.name != LOCK_NAME]
    if [entry.name for entry in entries] != ["config.json.tmp"]:
        return False
    begin = config.to_json().partition(",")[0].encode()  # the same in every configuration
    try:
        with entries[0].open("rb") as file:
            return begin.startswith(file.read(len(begin)))
    except OSError:
        return False


def write_json(path: Path, body: Mapping[str, Any] | str) -> None:
    """Write a JSON file whole or not at all."""
    text = body if isinstance(body, str) else json.dumps(body, indent=2) + "\n"
    temporary = path.with_suffix(path.suffix + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _make_fresh(config: Config, env_name: str) -> Path:
    """A directory that nobody had before: making it decides, for no look beforehand can."""
    env = re.sub(r"[^A-Za-z0-9.-]+", "-", env_name).strip("-")
    stem = Path("runs") / f"{env}-seed{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    with _naming(stem):
        stem.parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            path = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                break
    return path


def check_same(before: Config, now: Config, path: Path) -> None:
    """Refuse to go on with a run whose numbers depended on another value."""
    for name, old in vars(before).items():
        new = getattr(now, name)
        if name not in _MAY_CHANGE and old != new:
            raise ConfigError(
                f"{name} = {new!r} differs from the {old!r} of the run in {str(path)!r}; resume "
                f"with the same value, or start in another run_dir."
            )

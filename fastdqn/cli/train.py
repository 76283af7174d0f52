"""``fastdqn train``: what can be refused is refused before torch is imported; then the run."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from fastdqn.callbacks.make_loggers import check_loggers
from fastdqn.cli.arguments import words_of
from fastdqn.cli.closing import closing
from fastdqn.cli.output import drop_stdout
from fastdqn.cli.status_line import StatusLine
from fastdqn.cli.train_arguments import train_config
from fastdqn.config.config import Config
from fastdqn.config.env_ids import check_env_id
from fastdqn.errors import ConfigError
from fastdqn.runs.directory import (
    check_same,
    refuse_early,
    refuse_held,
    refuse_occupied,
    refuse_unwritable,
    with_saved_capacity,
)
from fastdqn.runs.record import refuse_to_train
from fastdqn.system.bounded_json import read_bounded
from fastdqn.system.signals import StopSignals, exit_on_signals
from fastdqn.system.stopping import GO_ON_CODES
from fastdqn.training.warm_start import find_initial


def run(args: list[str]) -> int:
    """Train an agent, or say what would be trained; ``fastdqn train``."""
    config, dry_run, named_capacity, chosen, start = train_config(args)
    if not named_capacity:
        config = with_saved_capacity(config)
    check_env_id(config.env_id)  # before torch is imported
    _check_device(config.device)
    _refuse_runs_from_python(config, args)
    find_initial(config)
    check_loggers(config.logger)
    if dry_run:
        with StatusLine() as status:
            status.say(f"{config.env_id}: loading torch ...")
            from fastdqn.training.describe import describe

            said = describe(config, lower_replay=not named_capacity)
        print(_preset_row(chosen) + said)
        return 0
    if done := _check_run_dir(config):
        print(done)
        return 0
    if config.run_dir is not None:
        refuse_early(Path(config.run_dir), config)
    refuse_unwritable(config)
    refuse_held(config)
    from fastdqn.cli.progress import Progress

    progress = Progress(
        config.total_env_steps,
        title=f"{config.env_id}, seed {config.seed}",
        frame_skip=config.atari_frame_skip if config.env_id.startswith("ALE/") else 1,
    )
    with exit_on_signals(), progress:  # which gives the terminal back
        where = "" if config.run_dir is None else f", in {config.run_dir}"
        progress.announce(f"{start}{where}; loading torch ...")
        from fastdqn.training import train as training

        if chosen is not None:
            progress.message(_preset_row(chosen).rstrip())
        result = training.train_until_stopped(
            config,
            callbacks=[progress],
            signals=StopSignals(),
            own_process=True,
            lower_replay=not named_capacity,
        )
    try:
        print(closing(config, Path(result.run_dir), result.summary), flush=True)
    except OSError:  # nobody reads it, or its disk is full: the run is done; its exit code counts
        if not drop_stdout():
            raise
    return GO_ON_CODES.get(str(result.summary.get("stopped_by")), 0)


def _preset_row(chosen: str | None) -> str:
    """A row like those of the header, where a preset was chosen by the env."""
    return "" if chosen is None else f"{'preset':<12}{chosen}; name one to start from another\n"


def _refuse_runs_from_python(config: Config, args: list[str]) -> None:
    """What was passed to a run from Python is not to be had here, to repeat it or to go on."""
    if config.resume != "never" and config.run_dir is not None:
        refuse_to_train(Path(config.run_dir), resume=True)
    file = Path(next(iter(words_of(args, "--config")), "no file"))
    if file.is_dir() or file.name == "config.json":
        refuse_to_train(
            file if file.is_dir() else file.parent,
            resume=False,
            env_id=bool(words_of(args, "--env-id")),
            network=bool(words_of(args, "--network")),
        )


def _check_run_dir(config: Config) -> str | None:
    """Refuse a directory in use before torch is imported; what to say if its run is finished.

    A job that is requeued with the same command line may find nothing left to do. open_run_dir
    checks more.
    """
    if config.resume == "never" or config.run_dir is None:  # None goes with never only
        refuse_occupied(config)
        return None
    run_dir = Path(config.run_dir)
    try:
        summary = json.loads(read_bounded(run_dir / "summary.json"))
        stopped_by, env_steps = summary["stopped_by"], summary["env_steps"]
        before = Config.load(run_dir / "config.json")
        said = closing(config, run_dir, summary)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing there, or nothing readable: left to the trainer
    complete = stopped_by == "total_env_steps" and env_steps >= config.total_env_steps
    rules = ("stop_return", "stop_eval_return")
    reached = stopped_by in rules and getattr(before, stopped_by) == getattr(config, stopped_by)
    if not complete and not reached:
        return None
    check_same(before, config, run_dir)
    return f"this run is finished ({stopped_by} reached at {env_steps:,} env steps)\n{said}"


def _check_device(device: str) -> None:
    """Refuse CUDA before torch is imported where its very build has none; the rest comes later."""
    from importlib.metadata import PackageNotFoundError, version

    with contextlib.suppress(PackageNotFoundError):
        if device.startswith("cuda") and version("torch").endswith("+cpu"):
            raise ConfigError(
                f"device = {device!r} is not there: torch {version('torch')} is a build for CPUs; "
                f"use device = 'cpu' or install a CUDA build of torch."
            )

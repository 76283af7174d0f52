"""The ``fastdqn`` command: train, evaluate, and say what there is.

Arguments are checked before torch is imported, so that a typing error costs no waiting. Every
mistake of the user ends in one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fastdqn._version import __version__
from fastdqn.cli import compare, figures
from fastdqn.cli.arguments import options_in, parse, unknown, words_of
from fastdqn.cli.play_flags import PlayFlags, config_for
from fastdqn.config.config import Config
from fastdqn.config.env_ids import check_env_id
from fastdqn.config.presets import describe_presets, preset, presets
from fastdqn.config.seeds import eval_seed
from fastdqn.errors import (
    ConfigError,
    FastDQNError,
    TrainingError,
    nearest,
)
from fastdqn.runs.directory import check_same, refuse_held, refuse_occupied
from fastdqn.runs.record import refuse_to_train
from fastdqn.system.bounded_json import read_bounded
from fastdqn.system.file_systems import UNUSABLE_PATH
from fastdqn.system.signals import EXIT_CODES, Stopped, StopSignals, exit_at_once, exit_on_signals
from fastdqn.system.stopping import GO_ON_CODES
from fastdqn.training.warm_start import find_initial

DEFAULT_PRESET = "cartpole"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    A signal ends it at once, except where a command has something to clean up or to save.

    Args:
        argv: The arguments after the program's name; None: those of the process.

    Returns:
        The exit code: 0 done, 1 the run failed, 2 bad input, 124 max_wall_s, 130 Ctrl-C,
        143 SIGTERM, 138 SIGUSR1.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    # Closed by ">&-". tyro asks for stdout's encoding; print() would take stdout for a lost stderr.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        with exit_at_once(), _plain_warnings():
            code = _dispatch(args)
            sys.stdout.flush()  # here, where a reader that has gone can still be caught
            return code
    except FastDQNError as error:
        print(f"fastdqn: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, TrainingError) else 2
    except Stopped as signal:
        print(f"fastdqn: stopped by {signal}", file=sys.stderr)
        return signal.exit_code
    except KeyboardInterrupt:  # where main() runs in a thread of someone else's program
        print("fastdqn: stopped by SIGINT", file=sys.stderr)
        return EXIT_CODES["SIGINT"]
    except OSError as error:
        if error.errno in UNUSABLE_PATH and isinstance(error.filename, str):
            path = error.filename[-200:]
            print(f"fastdqn: error: {path} is of no use ({error.strerror}); name another.",
                  file=sys.stderr)  # fmt: skip
            return 2
        if not _drop_stdout():
            raise
        if isinstance(error, BrokenPipeError):  # "fastdqn presets | head -1": it has all it wanted
            return 0
        print(
            f"fastdqn: error: standard output cannot be written ({error.strerror}); make room, or "
            f"send it elsewhere.",
            file=sys.stderr,
        )
        return 1


def _drop_stdout() -> bool:
    """If stdout takes no more, let the rest go nowhere: Python would flush and complain at exit."""
    try:
        print(flush=True)  # an unbuffered one has nothing left to flush
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Our own warnings as one sentence each, like errors; those of others as Python shows them."""
    original = warnings.formatwarning
    ours = str(Path(__file__).parents[1])

    def plain(
        message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any
    ) -> str:
        if filename.startswith(ours):
            return f"fastdqn: warning: {' '.join(str(message).split())}\n"
        return original(message, category, filename, *rest, **more)

    warnings.formatwarning = plain  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.formatwarning = original


@dataclass(frozen=True)
class Command:
    """One row of the command table: takes the arguments after its name, returns an exit code."""

    run: Callable[[list[str]], int]
    usage: str
    line: str


def _dispatch(args: list[str]) -> int:
    name = args[0] if args else "--help"
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version"):
        print(f"fastdqn {__version__}")
        return 0
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        hint = nearest(name, [*COMMANDS, "--help", "--version"])
        if name in presets():
            hint = f" (did you mean 'fastdqn train {name}'?)"
        raise ConfigError(
            f"There is no {kind} {name!r}{hint}; the commands are {', '.join(COMMANDS)}."
        )
    try:
        return COMMANDS[name].run(args[1:])
    except SystemExit as leave:  # tyro's --help
        return leave.code if isinstance(leave.code, int) else 0


def _help() -> str:
    width = max(len(command.usage) for command in COMMANDS.values())
    rows = [f"  fastdqn {c.usage:<{width}}  {c.line}" for c in COMMANDS.values()]
    return "\n".join(
        [
            f"fastdqn {__version__}: DQN training limited by the hardware and by nothing else",
            "",
            "commands:",
            *rows,
            "",
            "examples:",
            "  fastdqn train                        solve CartPole in one to three minutes",
            "  fastdqn train --seed 2 --num-envs 16",
            "  fastdqn train dqn-atari --env-id ALE/Breakout-v5",
            "  fastdqn train dqn-atari --dry-run    the memory plan and schedule, no run",
            "  fastdqn eval runs/MY-RUN --episodes 20",
            "",
            "'fastdqn COMMAND --help' lists the options of a command.",
        ]
    )


# --- train -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _TrainFlags(Config):
    """The options of ``fastdqn train``: every field of Config, and these three."""

    preset: Annotated[
        tyro.conf.Positional[str | None],
        tyro.conf.arg(metavar="[PRESET]", help_behavior_hint=f"(default: {DEFAULT_PRESET})"),
    ] = None
    """Recipe to start from; 'fastdqn presets' lists them. The options below replace its fields."""
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE.json")] = None
    """Start from this file, or from the config.json of this run directory, instead."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the memory plan and the schedule, and do not run."""

    def __post_init__(self) -> None:
        """Check nothing: tyro would catch the error. Config does it, when it is made of this."""


def train_config(args: list[str]) -> tuple[Config, bool]:
    """What ``fastdqn train ARGS`` would run, and whether only to plan it."""
    # The defaults that the parser shows and fills in depend on two of its own arguments. A PRESET
    # at the front is kept from it: its help would leave out an argument that it has already got.
    name = args[0] if args and not args[0].startswith("-") else None
    words = args if name is None else args[1:]
    base, flags = _parse_train(words, name, next(iter(words_of(words, "--config")), None))
    if name is not None and flags.preset is not None:
        raise ConfigError(unknown(flags.preset, _TrainFlags, "fastdqn train"))
    if name is None and flags.preset is not None:  # it stood after some options
        base, flags = _parse_train(words, flags.preset, flags.config)
    typed = options_in(words)
    changes = {
        name: value
        for name, value in _config_fields(flags).items()
        if name in typed or value != getattr(base, name)
    }
    return base.replace(**changes), flags.dry_run


def _parse_train(
    words: list[str], name: str | None, file: str | None
) -> tuple[Config, _TrainFlags]:
    """What the options start from, and what they make of it."""
    base = _base(name, file)
    flags = parse(
        _TrainFlags,
        words,
        prog="fastdqn train",
        description=f"Train an agent. Defaults are those of {file or name or DEFAULT_PRESET}.",
        default=_TrainFlags(**_config_fields(base)),
    )
    return base, flags


def _config_fields(config: Config) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(Config)}


def _base(name: str | None, file: str | None) -> Config:
    if file is None:
        return preset(name or DEFAULT_PRESET)
    if name is not None:
        raise ConfigError(f"The preset {name!r} and --config exclude each other; drop one.")
    path = Path(file) / "config.json" if Path(file).is_dir() else Path(file)
    config = Config.load(path)
    # The record of an earlier run, maybe moved or copied: run it again, not into its files.
    own = config.run_dir is not None and Path(config.run_dir).resolve() == path.parent.resolve()
    own = own or (path.name == "config.json" and (path.parent / "metrics.csv").exists())
    return config.replace(run_dir=None, resume="never") if own else config


def _train(args: list[str]) -> int:
    config, dry_run = train_config(args)
    check_env_id(config.env_id)  # before torch is imported
    _check_device(config.device)
    _refuse_runs_from_python(config, args)
    find_initial(config)
    if dry_run:
        from fastdqn.training.build import describe

        print(describe(config))
        return 0
    if done := _check_run_dir(config):
        print(done)
        return 0
    refuse_held(config)
    from fastdqn.cli.progress import Progress
    from fastdqn.training import train as training

    progress = Progress(
        config.total_env_steps,
        title=f"{config.env_id}, seed {config.seed}",
        frame_skip=config.atari_frame_skip if config.env_id.startswith("ALE/") else 1,
    )
    with exit_on_signals(), progress:  # which gives the terminal back
        result = training.train_until_stopped(
            config, on_log=progress, signals=StopSignals(), own_process=True
        )
    try:
        print(_closing(config, Path(result.run_dir), result.summary), flush=True)
    except OSError:  # nobody reads it, or its disk is full: the run is done; its exit code counts
        if not _drop_stdout():
            raise
    return GO_ON_CODES.get(str(result.summary.get("stopped_by")), 0)


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
        closing = _closing(config, run_dir, summary)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing there, or nothing readable: left to the trainer
    complete = stopped_by == "total_env_steps" and env_steps >= config.total_env_steps
    rules = ("stop_return", "stop_eval_return")
    reached = stopped_by in rules and getattr(before, stopped_by) == getattr(config, stopped_by)
    if not complete and not reached:
        return None
    check_same(before, config, run_dir)
    return f"this run is finished ({stopped_by} reached at {env_steps:,} env steps)\n{closing}"


def _check_device(device: str) -> None:
    """Refuse CUDA before torch is imported where its very build has none; the rest comes later."""
    from importlib.metadata import PackageNotFoundError, version

    with contextlib.suppress(PackageNotFoundError):
        if device.startswith("cuda") and version("torch").endswith("+cpu"):
            raise ConfigError(
                f"device = {device!r} is not there: torch {version('torch')} is a build for CPUs; "
                f"use device = 'cpu' or install a CUDA build of torch."
            )


def _closing(config: Config, run_dir: Path, summary: Mapping[str, Any]) -> str:
    """What came out of a run, where it is, and how to go on."""
    lines = []
    if summary.get("eval_return_mean") is not None:
        score = _score(
            summary["eval_return_mean"],
            summary["eval_return_std"],
            summary["eval_episodes"],
            summary.get("eval_unfinished_episodes", 0),
            summary.get("eval_given_up", ""),
            config.eval_epsilon,
        )
        at = summary.get("eval_env_steps", summary["env_steps"])
        if at == summary["env_steps"]:
            score = _verdict(score, summary.get("reward_threshold"), summary.get("solved"))
        else:  # stopped since
            score = f"newest evaluation, at {at:,} env steps: {score}"
        lines.append(score)
    lines.append(
        f"{summary['env_steps']:,} env steps and {summary['updates']:,} updates in "
        f"{summary['wall_s']:.1f} s; while training {summary['env_steps_per_s']:,.0f} env steps/s, "
        f"{summary['updates_per_s']:,.0f} updates/s, replay ratio {summary['replay_ratio']:g}"
    )
    here = [name for name in ("returns.png", "metrics.csv", "evaluations.csv", "summary.json",
                               "checkpoints")
            if (run_dir / name).exists()]  # fmt: skip
    lines.append(f"files: {run_dir}" + (f" ({', '.join(here)})" if here else ""))
    path = shlex.quote(str(run_dir))
    if summary.get("stopped_by") in GO_ON_CODES:
        lines.append(f"stopped by {summary['stopped_by']}; to go on:")
        lines.append(f"  fastdqn train --config {path} --run-dir {path} --resume require")
    else:
        lines.append(f"evaluate again: fastdqn eval {path}")
    return "\n".join(lines)


def _score(
    mean: float, std: float, episodes: int, unfinished: int, given_up: str, epsilon: float
) -> str:
    kind = f"{episodes} greedy episodes" if epsilon == 0.0 else f"{episodes} episodes"
    tail = "" if epsilon == 0.0 else f" at epsilon {epsilon:g}"
    why = f": {given_up}" if given_up else ""
    cut = f" ({unfinished} of them cut short{why})" if unfinished else ""
    return f"{mean:.1f} +- {std:.1f} over {kind}{tail}{cut}"


def _verdict(score: str, threshold: float | None, solved: bool | None) -> str:
    if threshold is None:
        return f"return: {score}"
    return f"{'solved' if solved else 'not solved'}: {score}, threshold {threshold:g}"


# --- eval --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _EvalFlags(PlayFlags):
    """The options of ``fastdqn eval``."""

    episodes: int = 100
    """Rounded up to a multiple of the envs."""
    epsilon: float | None = None
    """Chance of a random action; None: the run's eval_epsilon."""
    num_envs: int | None = None
    """Envs that play side by side; None: the run's eval_num_envs."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print everything as JSON."""


def _eval(args: list[str]) -> int:
    flags = parse(_EvalFlags, args, prog="fastdqn eval", description="Evaluate a trained agent.")
    if flags.episodes < 1:
        raise ConfigError(f"episodes = {flags.episodes} is out of range; use 1 or more.")
    changes: dict[str, Any] = {"eval_episodes": flags.episodes}
    if flags.epsilon is not None:
        changes["eval_epsilon"] = flags.epsilon
    if flags.num_envs is not None:
        changes["eval_num_envs"] = flags.num_envs
    call = "fastdqn.evaluate({policy}, envs, episodes_per_env=10)"
    config = config_for(flags, "eval", call=call, **changes)
    num_envs, seed = min(config.eval_num_envs, flags.episodes), eval_seed(config, flags.seed)
    from fastdqn.acting import evaluation
    from fastdqn.training import build, playing

    with playing.playing(flags.run, config, num_envs=num_envs, checkpoint=flags.choice) as played:
        policy, envs, stop = played
        result = evaluation.evaluate(
            policy,
            envs,
            episodes_per_env=-(-flags.episodes // num_envs),
            epsilon=config.eval_epsilon,
            max_env_steps=config.eval_max_env_steps,
            patience_env_steps=build.eval_patience(config, envs),
            seed=seed,
            stop=stop,
        )
    if flags.json:
        report = {
            "run": flags.run,
            "env_id": config.env_id,
            "return_mean": float(result.mean),
            "return_std": float(result.std),
            "episodes": int(result.episodes),
            "unfinished_episodes": int(result.unfinished),
            "given_up": result.given_up,
            "epsilon": config.eval_epsilon,
            "returns": [float(value) for value in result.returns],
            "lengths": [int(value) for value in result.lengths],
        }
        print(json.dumps(report, indent=2))
    else:
        score = _score(
            result.mean,
            result.std,
            result.episodes,
            result.unfinished,
            result.given_up,
            config.eval_epsilon,
        )
        print(f"{config.env_id}: {score}")
    return 0


# --- presets and info --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _NoFlags:
    """No options."""


@dataclass(frozen=True, kw_only=True)
class _InfoFlags:
    """The options of ``fastdqn info``."""

    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print everything as JSON."""


def _presets(args: list[str]) -> int:
    parse(_NoFlags, args, prog="fastdqn presets", description="List the recipes.")
    lines = describe_presets()
    for name, config in presets().items():
        print(f"{name}\n    {lines[name]}")
        print(
            f"    {config.env_id}, {config.num_envs} envs, {config.total_env_steps:,} env steps, "
            f"replay {config.replay_capacity:,}, replay ratio {config.replay_ratio:g}"
        )
    print("\nrun one: fastdqn train PRESET   its fields: fastdqn train PRESET --help")
    return 0


def _info(args: list[str]) -> int:
    flags = parse(_InfoFlags, args, prog="fastdqn info", description="Versions and devices.")
    from fastdqn.system.info import environment

    found = environment()
    if flags.json:
        print(json.dumps(found, indent=2))
        return 0
    for name, version in found["versions"].items():
        print(f"{name:<14}{version or '-'}")
    print(f"{'commit':<14}{found['git_commit'] or '-'}")
    print(f"{'platform':<14}{found['platform']}")
    bf16 = {True: "yes", False: "no", None: "unknown"}
    print(
        f"{'CPU':<14}{found['cpu']}, {found['cpus_usable']} usable, "
        f"{found['torch_threads'] or '-'} torch threads, bf16 {bf16[found['bf16_cpu']]}"
    )
    print(
        f"{'memory':<14}{_gigabytes(found['memory_total_bytes'])}, "
        f"{_gigabytes(found['memory_available_bytes'])} available, "
        f"control group limit {_gigabytes(found['cgroup_limit_bytes'])}"
    )
    for index, gpu in enumerate(found["gpus"]):
        print(
            f"{f'cuda:{index}':<14}{gpu['name']}, {_gigabytes(gpu['memory_total_bytes'])}, "
            f"{_gigabytes(gpu['memory_free_bytes'])} free, compute capability "
            f"{gpu['compute_capability']}, bf16 {bf16[gpu['bf16']]}, driver {gpu['driver'] or '-'}"
        )
    if not found["gpus"]:
        print(f"{'GPU':<14}none that torch can use")
    atari = "yes" if found["ale"] else "no; pip install 'fastdqn[atari]' adds it"
    print(f"{'Atari (ALE)':<14}{atari}")
    numba = found["versions"].get("numba")
    loops = "yes" if numba else "no; pip install 'fastdqn[cpu]' makes the replay on a CPU faster"
    print(f"{'Numba loops':<14}{loops}")
    return 0


def _gigabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e9:.1f} GB"


def _bench(args: list[str]) -> int:
    from fastdqn.cli.bench import bench  # the options and cases are many, and need no torch

    return bench(args)


COMMANDS: dict[str, Command] = {
    "train": Command(_train, "train [PRESET] [--OPTION ...]", "train an agent"),
    "eval": Command(_eval, "eval RUN [--episodes N]", "play with a trained agent"),
    "presets": Command(_presets, "presets", "list the recipes"),
    "info": Command(_info, "info [--json]", "versions, devices, memory"),
    "bench": Command(_bench, "bench [--cases GLOB]", "measure this machine, part by part"),
    "plot": Command(figures.plot, "plot RUN [RUN ...] [--out FILE]", "draw curves of runs"),
    "compare": Command(compare.compare, "compare RUN RUN [RUN ...]", "show what differs"),
    "saliency": Command(figures.saliency, "saliency RUN [--out FILE]", "draw where it looks"),
}

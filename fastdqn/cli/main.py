"""The ``fastdqn`` command: which command is meant, and what its end means to the shell.

Arguments are checked before torch is imported, so that a typing error costs no waiting. Every
mistake of the user ends in one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastdqn._version import __version__
from fastdqn.cli import (
    compare,
    envs,
    export,
    info,
    plot,
    presets,
    push,
    record,
    report,
    saliency,
    train,
)
from fastdqn.cli import eval as eval_command
from fastdqn.cli.output import drop_stdout, plain_warnings
from fastdqn.config import presets as recipes
from fastdqn.errors import ConfigError, FastDQNError, TrainingError, nearest
from fastdqn.system.file_systems import UNUSABLE_PATH
from fastdqn.system.signals import EXIT_CODES, Stopped, exit_at_once


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
        with exit_at_once(), plain_warnings():
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
        if not drop_stdout():
            raise
        if isinstance(error, BrokenPipeError):  # "fastdqn presets | head -1": it has all it wanted
            return 0
        print(
            f"fastdqn: error: standard output cannot be written ({error.strerror}); make room, or "
            f"send it elsewhere.",
            file=sys.stderr,
        )
        return 1


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
        if name in recipes.presets():
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
            "  fastdqn train --env-id LunarLander-v3",
            "  fastdqn train dqn-atari --env-id ALE/Breakout-v5",
            "  fastdqn train dqn-atari --dry-run    the memory plan and schedule, no run",
            "  fastdqn eval runs/MY-RUN --episodes 20",
            "",
            "'fastdqn COMMAND --help' lists the options of a command.",
        ]
    )


def _bench(args: list[str]) -> int:
    from fastdqn.cli import bench  # its cases are many

    return bench.run(args)


COMMANDS: dict[str, Command] = {
    "train": Command(train.run, "train [PRESET] [--OPTION ...]", "train an agent"),
    "eval": Command(eval_command.run, "eval RUN [--episodes N]", "play with a trained agent"),
    "presets": Command(presets.run, "presets", "list the recipes"),
    "envs": Command(envs.run, "envs ENV_ID", "say what would be made of an env"),
    "info": Command(info.run, "info [--json]", "versions, devices, memory"),
    "bench": Command(_bench, "bench [--cases GLOB]", "measure this machine, part by part"),
    "plot": Command(plot.run, "plot RUN [RUN ...] [--out FILE]", "draw curves of runs"),
    "report": Command(report.run, "report RUN [RUN ...] [--out FILE]", "write a page about runs"),
    "compare": Command(compare.run, "compare RUN RUN [RUN ...]", "show what differs"),
    "saliency": Command(saliency.run, "saliency RUN [--out FILE]", "draw where it looks"),
    "record": Command(record.run, "record RUN [--out FILE]", "film it at play"),
    "export": Command(export.run, "export RUN [--out FILE]", "write the network as ONNX"),
    "push": Command(push.run, "push RUN USER/NAME", "a run to the Hugging Face Hub"),
}

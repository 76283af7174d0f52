"""The ``fastdqn`` command: which command is meant, and what its end means to the shell.

Arguments are checked before torch is imported, so that a typing error costs no waiting. Every
mistake of the user ends in one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastdqn._version import __version__
from fastdqn.cli.help import HelpWanted
from fastdqn.cli.output import drop_stdout, plain_warnings
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
    if name in ("-h", "--help", "--help-all", "help"):
        if len(args) < 2:
            print(_help())
            return 0
        name, args = args[1], [args[1], "--help"]  # "fastdqn help train"
    if name in ("-V", "--version"):
        print(f"fastdqn {__version__}")
        return 0
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        from fastdqn.config.presets import presets

        hint = nearest(name, [*COMMANDS, "--help", "--version"])
        if name in presets():
            hint = f" (did you mean 'fastdqn train {name}'?)"
        raise ConfigError(
            f"There is no {kind} {name!r}{hint}; the commands are {', '.join(COMMANDS)}."
        )
    try:
        return COMMANDS[name].run(args[1:])
    except HelpWanted as asked:
        print(asked.guide.page(every_option=asked.every_option))
        return 0


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
            "'fastdqn COMMAND --help' says what a command takes.",
        ]
    )


def _module(name: str) -> Callable[[list[str]], int]:
    """``run`` of a module here, which is imported when it is called: each has its own imports."""
    return lambda args: importlib.import_module(f"fastdqn.cli.{name}").run(args)


COMMANDS: dict[str, Command] = {
    "train": Command(_module("train"), "train [PRESET] [--OPTION ...]", "train an agent"),
    "eval": Command(_module("eval"), "eval RUN [--episodes N]", "play with a trained agent"),
    "presets": Command(_module("presets"), "presets", "list the recipes"),
    "envs": Command(_module("envs"), "envs ENV_ID", "say what would be made of an env"),
    "info": Command(_module("info"), "info [--json]", "versions, devices, memory"),
    "bench": Command(
        _module("bench"), "bench [--cases GLOB]", "measure this machine, part by part"
    ),
    "plot": Command(_module("plot"), "plot RUN [RUN ...] [--out FILE]", "draw curves of runs"),
    "report": Command(
        _module("report"), "report RUN [RUN ...] [--out FILE]", "write a page about runs"
    ),
    "compare": Command(_module("compare"), "compare RUN RUN [RUN ...]", "show what differs"),
    "saliency": Command(_module("saliency"), "saliency RUN [--out FILE]", "draw where it looks"),
    "record": Command(_module("record"), "record RUN [--out FILE]", "film it at play"),
    "export": Command(_module("export"), "export RUN [--out FILE]", "write the network as ONNX"),
    "push": Command(_module("push"), "push RUN USER/NAME", "a run to the Hugging Face Hub"),
    "completion": Command(_module("completion"), "completion SHELL", "complete words by TAB"),
}

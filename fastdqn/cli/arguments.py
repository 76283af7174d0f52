"""Parsing a command's options with tyro, and its complaints turned into one sentence each."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
import typing
from dataclasses import MISSING
from typing import Any, TypeVar

import tyro

from fastdqn.cli.json_argument import DICTS_ARE_JSON
from fastdqn.config.checks import check_type
from fastdqn.errors import ConfigError
from fastdqn.sharing.hub_client import PREFIX
from fastdqn.sharing.hub_run import local_run

# What other libraries call our options: only to point at ours.
_ELSEWHERE = {
    "env": "env-id",
    "lr": "learning-rate",
    "steps": "total-env-steps",
    "total-timesteps": "total-env-steps",
    "timesteps": "total-env-steps",
    "buffer-size": "replay-capacity",
    "train-freq": "update-period-env-steps",
    "train-frequency": "update-period-env-steps",
    "target-network-frequency": "target-period-updates",
    "target-update-interval": "target-period-updates",
    "exploration-fraction": "epsilon-duration-env-steps",
    "gpu": "device",
    "cuda": "device",
}

# How tyro.conf.Positional[...] marks a field.
_MARKS = set(typing.get_args(tyro.conf.Positional[str])[1:])

T = TypeVar("T")


def parse(
    kind: type[T], args: list[str], *, prog: str, description: str, default: T | None = None
) -> T:
    """Parse with tyro; turn its complaints, which are boxes of several lines, into one sentence."""
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            parsed, rest = tyro.cli(
                kind,
                args=args,
                prog=prog,
                description=description,
                return_unknown_args=True,
                default=tyro.MISSING_NONPROP if default is None else default,
                registry=DICTS_ARE_JSON,
            )
    except SystemExit as leave:
        if not leave.code:
            raise  # --help
        raise complaint(shown.getvalue(), kind, args, prog) from None
    if rest:
        raise ConfigError(unknown(rest[0], kind, prog))
    return _with_local_runs(parsed)


def _with_local_runs(parsed: T) -> T:
    """Runs of a hub as the directories that they are downloaded to: no command knows them else."""
    run = getattr(parsed, "run", None)
    runs = run if isinstance(run, tuple) else (run,)
    if not any(isinstance(each, str) and each.startswith(PREFIX) for each in runs):
        return parsed
    local = tuple(str(local_run(each)) for each in runs)
    return dataclasses.replace(parsed, run=local if isinstance(run, tuple) else local[0])  # type: ignore[type-var]


def unknown(word: str, kind: type, prog: str) -> str:
    """What to say of an argument that the command does not take."""
    if word.lower() in ("true", "false"):
        return (
            f"{prog} takes no argument {word!r}; switches take no value, and 'no-' in front of a "
            f"name turns one off."
        )
    if not word.startswith("-"):
        return f"{prog} takes no argument {word!r}; '{prog} --help' shows what it takes."
    name = word.lstrip("-").partition("=")[0].replace("_", "-")
    if name in _positional(kind):
        return (
            f"{prog!r} takes its {name.upper()} without '--{name}'; leave that out: "
            f"'{prog} {name.upper()}'."
        )
    known = [option for option in _options(kind) if option not in _positional(kind)]
    close = [_ELSEWHERE[name]] if _ELSEWHERE.get(name) in known else []
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '--{close[0]}'?" if close else f"'{prog} --help' lists the options."
    return f"{word.partition('=')[0]!r} is not an option of '{prog}'; {hint}"


def _options(kind: type) -> list[str]:
    """Names of the options, without dashes in front."""
    hints = _hints(kind)
    names = [name.replace("_", "-") for name in hints]
    return names + [f"no-{name}" for name in names if hints[name.replace("-", "_")] is bool]


def _hints(kind: type) -> dict[str, Any]:
    """The type of every option by its field's name; a group's options stand in its place."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind).items():
        is_group = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        found |= _hints(hint) if is_group else {name: hint}
    return found


def _positional(kind: type) -> list[str]:
    """Names of what stands without a name."""
    hints = typing.get_type_hints(kind, include_extras=True)
    marks = {name: typing.get_args(hint)[1:] for name, hint in hints.items()}
    return [name for name, mark in marks.items() if set(mark) & _MARKS]


def complaint(box: str, kind: type, args: list[str], prog: str) -> ConfigError:
    """The sentence for an error box of tyro: ours if it is about a value, else its first part."""
    paragraph: list[str] = []
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)  # colours, if stdout is a terminal
    for line in plain.splitlines()[1:]:  # the first one is the title
        text = line.strip("│ ")
        if set(text) <= set("─-╰╯"):  # a rule between two parts, or the frame
            if paragraph:
                break
            continue
        paragraph.append(text)
    said = " ".join(paragraph) or "The arguments cannot be understood."
    found = re.search(r"--([a-z][\w-]*)", said)
    name = found.group(1).replace("-", "_") if found else ""
    hints = _hints(kind)
    required = [
        field.name.upper()
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is MISSING and field.default_factory is MISSING
    ]
    if not name and required:
        return ConfigError(f"{prog} needs {' '.join(required)}; '{prog} --help' says more.")
    if name in hints:
        value = " ".join(words_of(args, f"--{name}"))
        if not value:
            return ConfigError(f"{name} needs a value; '{prog} --help' shows which.")
        try:
            check_type(name, value, hints[name])
        except ConfigError as error:
            return error
    return ConfigError(said)


def words_of(args: list[str], option: str) -> list[str]:
    """The words after the last ``--option``, or after its ``=``; empty if there are none."""
    words: list[str] = []
    for index, word in enumerate(args):
        name, equals, rest = word.partition("=")
        if name.replace("_", "-") == option.replace("_", "-"):
            after = itertools.takewhile(lambda w: not w.startswith("--"), args[index + 1 :])
            words = [rest] if equals else list(after)
    return words


def options_in(args: list[str]) -> set[str]:
    """The options that stand there, by their fields' names; a switch counts with its ``no``."""
    names = {
        word.partition("=")[0].lstrip("-").replace("-", "_")
        for word in args
        if word.startswith("--")
    }
    return names | {name.removeprefix("no_") for name in names}

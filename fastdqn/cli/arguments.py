"""Parsing a command's options with tyro, and its complaints turned into one sentence each."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
import typing
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any, TypeVar

import tyro

from fastdqn.cli.help import HELP, Guide, HelpWanted
from fastdqn.cli.json_argument import DICTS_ARE_JSON
from fastdqn.cli.options import Option, options_of
from fastdqn.config.checks import ELSEWHERE, check_type
from fastdqn.errors import ConfigError
from fastdqn.sharing.hub_client import PREFIX
from fastdqn.sharing.hub_run import local_run

T = TypeVar("T")


def parse(
    kind: type[T],
    args: list[str],
    *,
    prog: str,
    description: str,
    default: T | None = None,
    example: str = "",
    common: Mapping[str, str] | None = None,
    defaults_of: str = "",
) -> T:
    """Parse with tyro; turn its complaints, which are boxes of several lines, into one sentence.

    Args:
        kind: The dataclass of the command's options.
        args: The words after the command's name.
        prog: The command: ``fastdqn eval``.
        description: What it does, in a sentence or two.
        default: An instance with the defaults; None: those of the class.
        example: A command line, for its help.
        common: The options of its short help, each with a line; None: its help has one length.
        defaults_of: Whose values the defaults are, where that is worth a word in its help.

    Raises:
        HelpWanted: Where one of the words asks for help.
        ConfigError: Where they cannot be understood.
    """
    if any(word in HELP for word in args):
        options = options_of(kind, default)
        guide = Guide(prog, description, options, example, common or {}, defaults_of)
        raise HelpWanted(guide, every_option="--help-all" in args)
    _refuse_valued_switch(args, kind, prog)
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            parsed, rest = tyro.cli(
                kind,
                args=args,
                prog=prog,
                return_unknown_args=True,
                default=tyro.MISSING_NONPROP if default is None else default,
                registry=DICTS_ARE_JSON,
            )
    except SystemExit:
        for word in args:  # what is missing may be there under a wrong name
            if word.startswith("--") and not _is_option(word, kind):
                raise ConfigError(unknown(word, kind, prog)) from None
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
        return _no_value(word, prog)
    if not word.startswith("-"):
        return f"{prog} takes no argument {word!r}; '{prog} --help' shows what it takes."
    name = word.lstrip("-").partition("=")[0].replace("_", "-")
    if name in [option.word for option in options_of(kind) if option.positional]:
        return (
            f"{prog!r} takes its {name.upper()} without '--{name}'; leave that out: "
            f"'{prog} {name.upper()}'."
        )
    known = [*option_words(kind), "help", "help-all"]
    ours = ELSEWHERE.get(name.replace("-", "_"), "").replace("_", "-")
    close = [ours] if ours in known else []
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '--{close[0]}'?" if close else f"'{prog} --help-all' lists the options."
    return f"{word.partition('=')[0]!r} is not an option of '{prog}'; {hint}"


def _refuse_valued_switch(args: list[str], kind: type, prog: str) -> None:
    """``--double=yes``: tyro takes the value for a word of its own."""
    switches = {f"--{w}" for o in options_of(kind) if not o.metavar for w in o.words}
    for word in args:
        name, equals, value = word.partition("=")
        if equals and name.replace("_", "-") in switches:
            raise ConfigError(_no_value(value, prog))


def _no_value(word: str, prog: str) -> str:
    return (
        f"{prog} takes no argument {word!r}; switches take no value, and 'no-' in front of a name "
        f"turns one off."
    )


def _is_option(word: str, kind: type) -> bool:
    return word.partition("=")[0].lstrip("-").replace("_", "-") in option_words(kind)


def option_words(kind: type) -> list[str]:
    """The options as they may be typed, without dashes in front."""
    named = [option for option in options_of(kind) if not option.positional]
    return [word for option in named for word in option.words]


def _hints(kind: type) -> dict[str, Any]:
    """The type of every option by its field's name; a group's options stand in its place."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind).items():
        is_group = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        found |= _hints(hint) if is_group else {name: hint}
    return found


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
    missing = {
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is MISSING and field.default_factory is MISSING
    }
    required = [_called(option) for option in options_of(kind) if option.name in missing]
    choice = next((o for o in options_of(kind) if o.positional and o.choices), None)
    named = next((word for word in args if not word.startswith("-")), None)
    if not name and choice is not None and named is not None:
        name, args = choice.name, [f"--{choice.name}", named]
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
        if value.startswith("-"):
            return ConfigError(
                f"{name} = {value!r} begins with a dash, as options do; use "
                f"--{name.replace('_', '-')}={value}."
            )
    return ConfigError(said)


def _called(option: Option) -> str:
    """What usage calls an argument without a name: RUN, USER/NAME."""
    return option.metavar if re.fullmatch(r"[A-Z/]+", option.metavar) else option.name.upper()


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

"""The help of a command: its options by groups, as wide as the terminal."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastdqn.cli.status_line import is_terminal

if TYPE_CHECKING:
    from fastdqn.cli.options import Option  # tyro, which the list of commands does without

HELP = ("-h", "--help", "--help-all")
_WIDEST = 100  # columns; longer lines are hard to read
_MEANINGS_AT = 32  # column


@dataclass(frozen=True)
class Guide:
    """What there is to say of a command."""

    prog: str
    description: str
    options: Sequence[Option]
    example: str = ""
    common: Mapping[str, str] = field(default_factory=dict)
    """The options that its short help shows, each with a line; empty: all of them."""
    defaults_of: str = ""
    """Whose values the defaults are, where that is worth a word."""

    @property
    def usage(self) -> str:
        """One line: what it takes, and in which order."""
        words = [
            option.metavar if option.default is None or "[" in option.metavar
            else f"[{option.metavar}]"
            for option in self.options if option.positional
        ]  # fmt: skip
        named = [option for option in self.options if not option.positional]
        return " ".join([self.prog, *words, *(["[--OPTION ...]"] if named else [])])

    def page(self, *, every_option: bool = True) -> str:
        """The help as it is printed."""
        width = min(shutil.get_terminal_size((80, 24)).columns, _WIDEST)
        lines = [f"usage: {self.usage}", "", *_wrap(self._about(), width)]
        if not every_option and self.common:
            meaning: Mapping[str, str] = self.common
            shown = [option for option in self.options if option.name in meaning]
        else:
            meaning = {option.name: option.meaning for option in self.options}
            shown = list(self.options)
        spaced = len(shown) == len(self.options)
        for group, options in itertools.groupby(shown, key=lambda option: option.group):
            lines += ([""] if spaced or not group else []) + ([_bold(group)] if group else [])
            for option in options:
                lines += _row(option, meaning[option.name], width, brief=not spaced)
        if spaced:
            lines += ["", *_columns("-h, --help", "show this, and do nothing else", width)]
        if self.example:
            lines += ["", f"example: {self.example}"]
        if not spaced:
            lines += _wrap(
                f"'{self.prog} --help-all' shows all {len(self.options)} options.", width
            )
        return "\n".join(lines)

    def _about(self) -> str:
        brackets = f" In brackets: the values of {self.defaults_of}." if self.defaults_of else ""
        return f"{self.description}{brackets}"


class HelpWanted(Exception):
    """Somebody asked for the help of a command."""

    def __init__(self, guide: Guide, *, every_option: bool) -> None:
        super().__init__(guide.prog)
        self.guide = guide
        self.every_option = every_option


def guide_of(run: Callable[[list[str]], int]) -> Guide:
    """What a command says of itself, by what it does with ``--help-all``."""
    try:
        run(["--help-all"])
    except HelpWanted as asked:
        return asked.guide
    raise ValueError(f"{run} takes no --help-all")


def label(option: Option, *, brief: bool = False) -> str:
    """An option as it is typed: ``--seed INT``, ``--[no-]double``."""
    if option.positional:
        return option.metavar
    # A brief line has no room for a list of choices.
    metavar = "WORD" if brief and option.choices else option.metavar
    metavar += "|None" if option.takes_none and not brief else ""
    return f"--{'[no-]' if option.has_no else ''}{option.word} {metavar}".rstrip()


def _row(option: Option, meaning: str, width: int, *, brief: bool) -> list[str]:
    default = "" if option.default is None else f" [{option.default}]"
    if brief and option.default == "None":
        default = ""
    return _columns(label(option, brief=brief), f"{meaning}{default}", width)


def _columns(left: str, right: str, width: int) -> list[str]:
    """Two columns; a left part that is too long stands in lines of its own."""
    at = min(_MEANINGS_AT, width // 2)
    rows = _wrap(right, width, " " * at)
    if len(left) + 4 <= at and rows:
        return [f"  {left:<{at - 2}}{rows[0].lstrip()}", *rows[1:]]
    return [*_wrap(left.replace(",", ", ") if len(left) + 2 > width else left, width, "  "), *rows]


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text.replace("``", ""),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _bold(text: str) -> str:
    shown = is_terminal(sys.stdout)
    return f"\x1b[1m{text}\x1b[0m" if shown and "NO_COLOR" not in os.environ else text

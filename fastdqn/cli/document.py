"""Writes docs/cli.md from the commands: ``python -m fastdqn.cli.document > docs/cli.md``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from fastdqn.cli.help import Guide, guide_of, label
from fastdqn.cli.main import COMMANDS
from fastdqn.cli.options import Option

_HEAD = """\
# The command line

Written by `python -m fastdqn.cli.document > docs/cli.md`; edit the commands in `fastdqn/cli/`, and
`fastdqn/config/groups.py`.

`fastdqn COMMAND --help` shows the same on a terminal. `fastdqn train --help` is short;
`fastdqn train --help-all` shows everything. `--[no-]double` stands for `--double` and
`--no-double`. A number that may be None is typed so: `--reward-clip None`.
[Help, configuration files, completion](howto/command-line.md) says more.
"""

_GO_ON = "start again with `--resume auto`"
EXIT_CODES = {
    0: ("done, or nothing was left to do", ""),
    1: (
        "`train`: the run failed on its own (a number no longer finite, an env that raised or "
        "died, memory, a final checkpoint that could not be written); `bench`: a case failed; "
        "`export`: the file disagrees with the network; any: standard output cannot be written",
        "read the sentence on standard error; the last checkpoint is whole",
    ),
    2: (
        "bad input: an argument, an env that breaks its contract, a checkpoint that does not fit, "
        "a run that another process holds",
        "do what the sentence says",
    ),
    70: ("an env did not return within `--step-timeout-s`", _GO_ON),
    124: ("`train`: stopped and saved after `--max-wall-s`", _GO_ON),
    130: ("stopped by Ctrl-C; `train` has saved", _GO_ON),
    138: ("stopped by SIGUSR1; `train` has saved", _GO_ON),
    143: ("stopped by SIGTERM; `train` has saved", _GO_ON),
}


def document() -> str:
    """The whole page, in Markdown: a section for each command, and the exit codes."""
    rows = [_cells(f"`fastdqn {c.usage}`", c.line) for c in COMMANDS.values()]
    codes = [_cells(str(code), *said) for code, said in EXIT_CODES.items()]
    parts = [
        *(_HEAD, "| command | |", "|---|---|", *rows, ""),
        *(_section(name, guide_of(command.run)) for name, command in COMMANDS.items()),
        *("## Exit codes", "", "| code | meaning | what to do |", "|---|---|---|", *codes, ""),
    ]
    return "\n".join(parts)


def _section(name: str, guide: Guide) -> str:
    text = guide.description
    text += f" Defaults are those of {guide.defaults_of}." if guide.defaults_of else ""
    lines = [f"## {name}", "", text, "", f"`{guide.usage}`", ""]
    lines += ["```bash", guide.example, "```", ""] if guide.example else []
    for group, options in itertools.groupby(guide.options, key=lambda option: option.group):
        lines += [f"### {name}: {group}", ""] if group else []
        lines += _table(list(options))
    return "\n".join(lines)


def _table(options: Sequence[Option]) -> list[str]:
    rows = [_row(option) for option in options]
    return ["| option | default | meaning |", "|---|---|---|", *rows, ""]


def _row(option: Option) -> str:
    # A bar in a cell of code would show its backslash, and long lists of choices would not break.
    typed = label(option).replace("|None", " or None").replace(",", ", ")
    default = "" if option.default is None else f"`{option.default}`"
    meaning = option.meaning.replace("``", "`").replace("<", "&lt;")
    return _cells(f"`{typed}`", default, meaning)


def _cells(*cells: str) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


if __name__ == "__main__":
    print(document(), end="")

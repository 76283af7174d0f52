"""``fastdqn completion``: a script by which a shell completes words, and the words it asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fastdqn.cli.arguments import parse
from fastdqn.cli.help import Guide, guide_of
from fastdqn.cli.options import Option

DIRECTORIES, FILES = ":directories", ":files"
"""In the place of words: those are for the shell to list."""
_ASKED = "words"  # in front of those that a shell asks about

# Each asks fastdqn for the words at every TAB, so that they are those of the installed version.
_SCRIPTS = {
    "bash": """\
# eval "$(fastdqn completion bash)"
_fastdqn() {
    local IFS=$'\\n' word=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]/#\\~/$HOME}
    COMPREPLY=($("$program" completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    case ${COMPREPLY[0]} in
        :directories) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "${word#=}"));;
        :files) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "${word#=}"));;
    esac
}
complete -F _fastdqn fastdqn
""",
    "zsh": """\
# eval "$(fastdqn completion zsh)", after compinit
_fastdqn() {
    local -a found
    found=("${(@f)$(${~words[1]} completion words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    case $found[1] in
        :directories) _files -/ ;;
        :files) _files ;;
        *) compadd -- $found ;;
    esac
}
compdef _fastdqn fastdqn
""",
    "fish": """\
# fastdqn completion fish | source
function __fastdqn_words
    set -l before (commandline -opc)
    set -l word (commandline -ct)
    set -l found ($before[1] completion words $before[2..] "$word" 2>/dev/null)
    switch "$found[1]"
        case :directories
            __fish_complete_directories "$word"
        case :files
            __fish_complete_path "$word"
        case '*'
            string join -- \\n $found
    end
end
complete -c fastdqn -f -a '(__fastdqn_words)'
""",
}


@dataclass(frozen=True, kw_only=True)
class CompletionFlags:
    """The options of ``fastdqn completion``."""

    shell: Annotated[
        tyro.conf.Positional[Literal["bash", "zsh", "fish"]],
        tyro.conf.arg(metavar="{bash,zsh,fish}"),
    ]
    """The shell whose script is printed."""


def run(args: list[str]) -> int:
    """Print the script of a shell, or the words that it asks for; ``fastdqn completion``."""
    if args[:1] == [_ASKED]:
        print("\n".join(words_for(args[1:])))
        return 0
    flags = parse(
        CompletionFlags,
        args,
        prog="fastdqn completion",
        description="Print the script by which a shell completes fastdqn's words at TAB.",
        example='eval "$(fastdqn completion bash)"',
    )
    print(_SCRIPTS[flags.shell], end="")
    return 0


def words_for(words: Sequence[str]) -> list[str]:
    """What a word may become.

    Args:
        words: Those after ``fastdqn``, up to the one at the cursor, which may be empty.

    Returns:
        Words, or the one of :data:`DIRECTORIES` and :data:`FILES`.
    """
    from fastdqn.cli.main import COMMANDS

    *before, word = words or [""]
    if not before or before[0] == "help":
        return _beginning(word, [*COMMANDS, "--help", "--version"] if not before else COMMANDS)
    if before[0] not in COMMANDS:
        return []
    guide = guide_of(COMMANDS[before[0]].run)
    if word == "=":  # bash makes "--seed=3" three words
        word = ""
    elif before[-1] == "=":
        before.pop()
    name, equals, rest = word.partition("=")
    named = {f"--{o.word}": o for o in guide.options if not o.positional and o.metavar}
    if equals and name in named:
        found = _values(named[name], rest)
        return [f"{name}={value}" for value in found if not value.startswith(":")]
    if before[-1] in named:
        return _values(named[before[-1]], word)
    if word.startswith("-"):
        return _beginning(word, _options(guide))
    if more := [value for value in _more_values(before, named, word) if value not in before]:
        return more + _beginning(word, _options(guide))
    positional = [option for option in guide.options if option.positional]
    several = any("..." in option.metavar for option in positional)
    if positional and (several or len(before) == 1):
        return _values(positional[0], word) or _beginning(word, _options(guide))
    return _beginning(word, _options(guide))


def _more_values(before: Sequence[str], named: Mapping[str, Option], word: str) -> list[str]:
    """What may be one more value of the last option, where it takes several."""
    last = next((each for each in reversed(before) if each.startswith("-")), "")
    several = last in named and "..." in named[last].metavar
    return _values(named[last], word) if several else []


def _options(guide: Guide) -> list[str]:
    """Every option as it is typed."""
    named = [option for option in guide.options if not option.positional]
    return [f"--{word}" for option in named for word in option.words] + ["--help", "--help-all"]


def _values(option: Option, word: str) -> list[str]:
    """What the value of an option may become."""
    metavar = option.metavar
    if metavar.startswith("RUN") and (runs := _beginning(word, _runs())):
        return runs
    if metavar.startswith(("RUN", "DIR")):
        return [DIRECTORIES]
    if metavar.startswith("FILE") or metavar.endswith(".json"):
        return [FILES]
    known = {"DEVICE": ("auto", "cpu", "cuda"), "CHECKPOINT": ("best", "latest")}
    found: Iterable[str] = option.choices or known.get(metavar, ())
    if metavar == "PRESET":
        from fastdqn.config.presets import presets

        found = presets()
    elif metavar == "ENV_ID":
        from fastdqn.config.env_ids import known_env_ids

        found = known_env_ids()
    elif metavar == "GLOB":
        from fastdqn.bench.catalogue import cases

        found = cases()
    return _beginning(word, found)


def _runs() -> list[str]:
    """The run directories in ``runs``, where those go that nobody has named."""
    paths = (str(path.parent) for path in Path("runs").glob("*/config.json"))
    return sorted(path for path in paths if path.isprintable() and " " not in path)


def _beginning(word: str, words: Iterable[str]) -> list[str]:
    return [each for each in words if each.startswith(word)]

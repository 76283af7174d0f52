"""Every message of the package that proposes something, read from its source."""

import ast
import importlib
import inspect
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fastdqn

PACKAGE = Path(fastdqn.__file__).parent

# How a proposal begins. A verb that is missing here lets a proposal pass unseen: add it.
VERBS = (
    "add|adjust|ask|call|change|choose|clip|convert|copy|correct|declare|delete|did you mean|"
    "discretise|drop|edit|export|flatten|free|give|go on|import|increase|install|keep|leave|let|"
    "load|look for|lower|make|mend|move|name|omit|pass|pip install|provide|put|raise|reduce|"
    "register|remove|rename|replace|resume|return|run|scale|select|send|set|specify|start|stop|"
    "switch|take|try|turn|unset|update|upgrade|use|wait|wrap"
)
_CAPITAL = "|".join(verb.capitalize() for verb in VERBS.split("|"))
BEGINS = re.compile(
    r"(?:^|[;:,(] |\. |\bor |\band |\bso |[a-z] (?=pip install))"
    rf"(?=(?:{VERBS}|{_CAPITAL})\b(?! of\b))"
)
# What a line of figures says: no proposal.
_FIGURES = re.compile(r"(return|run|write)(:? (\{\}.*|per .*|priorities .*|back))?")


@dataclass(frozen=True)
class Message:
    """A sentence of the package; ``{}`` stands for what it is filled in with."""

    path: str
    line: int
    text: str
    subject: str = ""
    """The name that it begins with, or that the call it stands in begins with: ``"device"``."""
    parameters: frozenset[str] = field(default_factory=frozenset)
    """Of the functions it stands in."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"

    @property
    def clauses(self) -> list[str]:
        """Its proposals, one verb each."""
        starts = [match.end() for match in BEGINS.finditer(self.text)]
        parts = [self.text[a:b] for a, b in itertools.pairwise([*starts, len(self.text)])]
        clauses = [re.sub(r"[;,.:( ]*( or| and| so)?[;,.:( ]*$", "", cut(part)) for part in parts]
        return [clause for clause in clauses if not _FIGURES.fullmatch(clause)]


def cut(part: str) -> str:
    """Without the sentences after it."""
    return re.split(r"(?<=[a-z0-9')}])\. (?=[A-Z])|; ", part)[0]


def messages() -> list[Message]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        found += messages_of(path.read_text(encoding="utf-8"), name)
    return found


def messages_of(source: str, name: str) -> list[Message]:
    """All strings of more than a word that are no docstrings."""
    return list(_walk(ast.parse(source), name, "", frozenset()))


def _walk(node: ast.AST, name: str, subject: str, parameters: frozenset[str]) -> Iterator[Message]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        parameters |= {argument.arg for argument in every}
    if isinstance(node, ast.Call) and node.args and _is_text(node.args[0]):
        subject = node.args[0].value if re.fullmatch(r"[\w ]+", node.args[0].value) else subject
    text, inside = None, list(ast.iter_child_nodes(node))
    if isinstance(node, ast.JoinedStr):
        text = "".join(part.value if _is_text(part) else "{}" for part in node.values)
        inside = [part for part in node.values if not _is_text(part)]
    elif _is_text(node):
        text = re.sub(r"\{[^{}]*\}", "{}", node.value)
    if text is not None and " " in (text := " ".join(text.split())):
        own = re.match(r"(\w+) = ", text)
        yield Message(name, node.lineno, text, own[1] if own else subject, parameters)
    for child in inside:
        yield from _walk(child, name, subject, parameters)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def resolve(dotted: str) -> object:
    """What a dotted name means: a module, or something in one. AttributeError, ImportError."""
    words = dotted.split(".")
    for count in range(len(words), 0, -1):
        try:
            thing = importlib.import_module(".".join(words[:count]))
        except ModuleNotFoundError:
            continue
        for word in words[count:]:
            thing = getattr(thing, word)
        return thing
    raise ImportError(dotted)


def takes(function: object, names: list[str]) -> bool:
    """Whether it has parameters of these names."""
    known = inspect.signature(function).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in known.values())
    return anything or set(names) <= set(known)

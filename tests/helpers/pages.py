"""The pages of the documentation, and the blocks of code on them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
WRITTEN = [*PAGES, *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("benchmarks/*.md"))]

_BLOCK = re.compile(
    r"^(?P<marks>(?:<!--(?:(?!-->).)*-->\n)*)```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)
_MARK = re.compile(r"<!--\s*(.*?)\s*-->", re.S)
_COMMAND = re.compile(r"(?:^|\s)fastdqn (\w+)(?=\s|$)")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Comments straight above it, which no reader sees, say what else to know:
    ``<!-- delivery.py -->`` that it is this file; ``<!-- slow -->`` that it takes long;
    ``<!-- setup ... -->`` what stands before it in a program, in Python.
    """

    page: Path
    line: int
    language: str
    code: str
    marks: tuple[str, ...]

    @property
    def file(self) -> str | None:
        """The file that it is, if it is one."""
        return next((mark for mark in self.marks if re.fullmatch(r"[\w.-]+\.\w+", mark)), None)

    @property
    def slow(self) -> bool:
        """Whether it takes long."""
        return "slow" in self.marks

    @property
    def setup(self) -> str:
        """What stands before it in a program."""
        return "\n".join(m.removeprefix("setup") for m in self.marks if m.startswith("setup"))


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """All of a page, or those of a language."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, text.count("\n", 0, at.start("code")), at["language"], at["code"],
              tuple(_MARK.findall(at["marks"])))
        for at in _BLOCK.finditer(text)
    ]  # fmt: skip
    return [block for block in found if language in (None, block.language)]


def commands(page: Path) -> Iterator[list[str]]:
    """What follows ``fastdqn`` in a page's blocks of bash; the shell's variables are 1."""
    for block in blocks(page, "bash"):
        for line in block.code.replace("\\\n", " ").splitlines():
            if (at := _COMMAND.search(line)) and not line.startswith("#"):
                call = re.split(r"\s(?:&&|\||>>?)\s|;", line[at.start(1) :])[0]
                yield shlex.split(re.sub(r"\$\{?\w+\}?", "1", call), comments=True)


def name_of(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()

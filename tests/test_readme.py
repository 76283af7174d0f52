"""The README's Python examples run, in order, as one program; its commands exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.compile(r"^```python\n(.*?)^```", flags=re.M | re.S)
BLOCKS = CODE.findall(README)


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert BLOCKS
    scope: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(BLOCKS):
        code = compile(block, f"README.md, example {number}", "exec")
        exec(code, scope)


def test_every_public_name_is_shown():
    import fastdqn

    pages = [path.read_text(encoding="utf-8") for path in ROOT.glob("docs/**/*.md")]
    shown = " ".join([*BLOCKS, *(block for page in pages for block in CODE.findall(page))])
    errors = {name for name in fastdqn.__all__ if name.endswith(("Error", "Failure"))}
    missing = {
        name
        for name in fastdqn.__all__
        if name not in errors and name != "__version__" and not re.search(rf"\b{name}\b", shown)
    }
    assert missing == set()


@pytest.mark.parametrize("marker", ["train command", "test command"])
def test_the_set_up_commands_are_there(marker):
    block = re.search(rf"<!-- {marker} -->\n```[a-z]*\n(.*?)```", README, flags=re.S)
    assert block and ".venv/bin/" in block[1]


def test_commands_in_the_readme_parse():
    from fastdqn.cli.main import COMMANDS

    for name in re.findall(r"^(?:\.venv/bin/)?fastdqn (\w+)", README, flags=re.M):
        assert name in COMMANDS

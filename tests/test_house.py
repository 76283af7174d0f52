"""The picture and the tables of the packages name those that there are, floor by floor."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {path.parent.name for path in ROOT.glob("fastdqn/*/__init__.py")}


def _text(file):
    return (ROOT / file).read_text(encoding="utf-8")


def _floors(rows):
    """Packages from top to bottom, of rows of names."""
    names = [name for row in rows for name in re.findall(r"\w+", row)]
    return [name for name in names if name in PACKAGES]


def test_documents_name_every_package_in_the_order_of_the_contract():
    contract = tomllib.loads(_text("pyproject.toml"))["tool"]["importlinter"]["contracts"][0]
    expected = _floors(contract["layers"])
    assert set(expected) == PACKAGES and len(expected) == len(PACKAGES)
    drawn = re.findall(r'class="name"[^>]*>([^<]+)<', _text("docs/house.svg"))
    told = re.findall(r"^\| \d \| (.+?) \|", _text("docs/architecture.md"), flags=re.M)
    rules = re.findall(r"^\| (`.+?) \|", _text("CONTRIBUTING.md"), flags=re.M)
    assert _floors(drawn) == _floors(told) == _floors(rules) == expected


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_and_commands_that_documents_name_exist(document):
    text = _text(document)
    files = re.findall(r"`([\w./]+\.(?:py|md|svg))`", text)
    files += [f"docs/{name}" if "docs" in document else name for name in _links(text)]
    assert files
    for name in files:
        assert any((ROOT / base / name).exists() for base in ("", "fastdqn")), name
    for module in re.findall(r"\bbenchmarks(?:\.\w+)+", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def _links(text):
    return [name for name in re.findall(r"\]\(([\w./-]+)\)", text)]

"""docs/backend/: the examples are run and print what stands there, and links lead somewhere."""

import re
import warnings
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs" / "backend").glob("*.md"))
BLOCK = r"^```python\n(.*?)^```"


def test_the_examples_of_the_first_page_run(capsys, tmp_path, monkeypatch):
    """Those of the others stand beside a program around them: tests/integrations runs them."""
    monkeypatch.chdir(tmp_path)
    text = (PAGES[0].parent / "index.md").read_text(encoding="utf-8")
    blocks = re.findall(BLOCK, text, re.M | re.S)
    assert len(blocks) == 3
    scope = {"__name__": "backend"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, block in enumerate(blocks):
            exec(compile(block, f"index.md, example {number}", "exec"), scope)
    printed = capsys.readouterr().out
    said = re.findall(r"print\(.*\)  # (.*)", "\n".join(blocks))
    assert said and all(text in printed for text in said)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_files_and_names_of_a_page_are_there(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", text):
        assert (page.parent / link).exists(), link

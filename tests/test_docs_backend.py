"""docs/backend/: the examples of every page are run, and print what stands there."""

import re
import warnings
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs" / "backend").glob("*.md"))
BLOCK = r"^```python\n(.*?)^```"


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_examples_of_a_page_run(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(BLOCK, page.read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    scope = {"__name__": page.stem}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, block in enumerate(blocks):
            exec(compile(block, f"{page.name}, example {number}", "exec"), scope)
    printed = capsys.readouterr().out
    for said in re.findall(r"print\(.*\)  # (.*)", "\n".join(blocks)):
        assert said in printed


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_files_and_names_of_a_page_are_there(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", text):
        assert (page.parent / link).exists(), link

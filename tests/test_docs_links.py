"""Links of every page lead somewhere: files, headings, pictures, modules; no network is asked."""

import importlib.util
import re
import types
from urllib.parse import urlsplit

import pytest
from helpers.pages import DOCS, PAGES, ROOT, WRITTEN, name_of

LINK = re.compile(r"!?\[[^\]\[]*(?:\[[^\]]*\][^\]\[]*)*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
CODE = re.compile(r"`[^`\n]*`")


def prose(page):
    return CODE.sub("``", FENCE.sub("", page.read_text(encoding="utf-8")))


def links(page):
    return [first or second for first, second in LINK.findall(prose(page))]


def anchors(page):
    """Of its headings, as GitHub makes them; of the API's names."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = re.findall(r"^::: ([\w.]+)$", text, re.M)
    for heading in re.findall(r"^#+ (.+?)(?: \{.*\})?$", text, re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")
        found.append(slug)
    return found


def wrong(page):
    """The links of a page that lead nowhere."""
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            host = re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc)
            if parts.scheme not in ("https", "mailto") or (parts.scheme == "https" and not host):
                yield link
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        there = target.is_relative_to(ROOT) and target.exists()
        asks = parts.fragment if there and target.suffix == ".md" else ""
        if not there or (asks and asks not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_link_leads_somewhere(page):
    assert list(wrong(page)) == []


def test_wrong_links_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("test_docs_links.ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# A heading, `n` of them\n")
    page = tmp_path / "page.md"
    good = "[a](there.md) ![b](there.md#a-heading-n-of-them) [c](https://a.b/c) `[d](no.md)`"
    page.write_text(f"{good} [e](no.md) [f](there.md#no) [g](http:/a) [h](../x) [i](#none)\n")
    assert list(wrong(page)) == ["no.md", "there.md#no", "http:/a", "../x", "#none"]


@pytest.mark.parametrize(
    "page, link, there",
    [
        ("runs.md", "reliability.md#exit-codes", "reliability.md#exit-codes"),
        ("howto/slurm.md", "../runs.md", "../runs.md"),
        ("howto/slurm.md", "../../SECURITY.md#x", "../project/security.md#x"),
        ("project/contributing.md", "docs/architecture.md", "../architecture.md"),
        ("atari.md", "../benchmarks/results/atari.png", "results/atari.png"),
        ("atari.md", "../benchmarks/gpu.md", "https://a.b/blob/main/benchmarks/gpu.md"),
        ("index.md", "../examples", "https://a.b/tree/main/examples"),
        ("index.md", "no.md", "no.md"),
    ],
)
def test_links_on_the_site(page, link, there):
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site", DOCS / "_site" / "repository.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    shown = types.SimpleNamespace(file=types.SimpleNamespace(src_uri=page))
    config = {"extra": {"repository": "https://a.b"}}
    assert hook.on_page_markdown(f"[x]({link}) y", shown, config, None) == f"[x]({there}) y"


def test_modules_and_files_that_pages_name_exist():
    for page in [*PAGES, ROOT / "README.md"]:
        text = page.read_text(encoding="utf-8")
        for module in re.findall(r"python -m ((?:benchmarks|fastdqn)(?:\.\w+)+)", text):
            path = ROOT / module.replace(".", "/")
            exists = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
            assert exists, f"{name_of(page)}: {module}"


def test_every_page_has_one_title():
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        assert len(re.findall(r"^# ", text, re.M)) == 1, name_of(page)


def test_no_page_asks_another_host():
    """Pictures, styles and scripts lie beside the pages."""
    for page in PAGES:
        assert not re.search(r"!\[[^\]]*\]\(https?:|src=\"https?:", page.read_text()), page
    style = "".join(path.read_text() for path in DOCS.rglob("*.css"))
    assert "http" not in style and "@import" not in style

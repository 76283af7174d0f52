"""Files of the repository on the site, and where links to the others lead.

Pages link to files as they lie in the repository, so that they can be read there, too. On the site
CHANGELOG.md and its kind are pages, pictures are copied, and all else is a link to the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "LICENSE": "project/license.md",
}
PICTURE = re.compile(r"\]\(([^)\s]*benchmarks/results/[^)\s]+\.png)\)")
LINK = re.compile(r"\]\(([^):\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and pictures that lie beside ``docs/``."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source == "LICENSE":
            text = f"# Licence\n\n```text\n{text}```\n"
        files.append(File.generated(config, page, content=text))
    texts = [file.content_string for file in files.documentation_pages()]
    for name in sorted({found for text in texts for found in PICTURE.findall(text)}):
        path = posixpath.normpath(name.lstrip("./"))
        file = File.generated(config, _site_path(path), abs_src_path=str(ROOT / path))
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Turn links between files of the repository into links of the site."""
    return LINK.sub(lambda found: _link(found, page.file.src_uri, config), markdown)


def _link(found: re.Match[str], page: str, config: Any) -> str:
    target, anchor = found[1], found[2] or ""
    generated = {uri: source for source, uri in PAGES.items()}
    here = generated.get(page, f"docs/{page}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
    if not (ROOT / path).exists():
        return found[0]  # Brackets in code, or a mistake that the strict build reports.
    site = _site_path(path)
    if site is None:
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"]({config['extra']['repository']}/{kind}/main/{path}{anchor})"
    return f"]({posixpath.relpath(site, posixpath.dirname(page) or '.')}{anchor})"


def _site_path(path: str) -> str | None:
    """Where a file of the repository lies on the site; None: it does not."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith("benchmarks/results/") and path.endswith(".png"):
        return path.removeprefix("benchmarks/")
    return None

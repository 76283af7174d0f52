"""The page in a headless Chromium: nothing on its console, nothing asked for, no overflow."""

import pytest
from helpers.browser import CHROMIUM, Browser
from helpers.written_runs import write_run

from fastdqn.reporting.page import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    long = "CartPole-v1-with-a-name-that-goes-on-and-on-seed"
    runs = [write_run(path / f"{long}{k}", [k, 3 * k], seed=k) for k in range(3)]
    runs += [write_run(path / f"short{k}", [k, 2 * k], seed=k, n_step=1) for k in range(3)]
    runs += [write_run(path / "pong", [1], env_id="ALE/Pong-v5", frame_stack=4,
                       host={"cpu": "x" * 200})]  # fmt: skip
    (runs[0] / "films").mkdir()
    (runs[0] / "films" / "a.gif").write_bytes(
        b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
    )
    write_report(runs, path / "report.html")
    return (path / "report.html").as_uri()


@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_quiet_and_fits(browser, address, width):
    page = browser.open(address, width=width)
    assert page.messages == []
    assert page.requests == [address]
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate("document.images[0].naturalWidth") == 1
    # Nothing of a chart's text is outside of the window.
    assert page.evaluate(
        "[...document.querySelectorAll('.chart text')].every(text => {"
        " const box = text.getBoundingClientRect();"
        " return box.left >= 0 && box.right <= document.documentElement.clientWidth; })"
    )


def test_it_follows_light_and_dark(browser, address):
    read = "getComputedStyle(document.querySelector('{}')).{}"
    found = []
    for scheme in ("light", "dark"):
        page = browser.open(address, width=800, scheme=scheme)
        found.append([
            page.evaluate(read.format("body", "backgroundColor")),
            page.evaluate(read.format("body", "color")),
            page.evaluate(read.format(".chart .main", "stroke")),
        ])  # fmt: skip
    assert all(light != dark for light, dark in zip(*found, strict=True))
    assert found[0][0] == "rgb(255, 255, 255)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out(browser, address, scheme):
    """WCAG 2.1: 4.5 to 1 for text, 3 to 1 for lines."""
    page = browser.open(address, width=800, scheme=scheme)
    names = ["ink", "soft", "link", *(f"c{k}" for k in range(7))]
    values = page.evaluate(
        "(() => { const style = getComputedStyle(document.documentElement);"
        f" return {['paper', 'panel', *names]}.map("
        "name => style.getPropertyValue('--' + name).trim()); })()"
    )
    paper, panel, *others = values
    for name, value in zip(names, others, strict=True):
        for ground in (paper, panel):
            assert contrast(value, ground) >= (3 if name.startswith("c") else 4.5), (name, ground)


def contrast(one, other):
    def luminance(text):
        parts = [int(text[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)

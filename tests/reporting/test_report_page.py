"""write_report: what stands on the page, and what a forger's run cannot do to it."""

import base64
import json
import os
import re
import sys
from html.parser import HTMLParser

import pytest
from helpers.written_runs import write_run

from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.reporting import films
from fastdqn.reporting.facts import duration, names_of, number
from fastdqn.reporting.page import write_report
from fastdqn.reporting.protocol import algorithm

PONG = {"env_id": "ALE/Pong-v5", "frame_stack": 4, "reward_clip": 1.0}
KRULL = {**PONG, "env_id": "ALE/Krull-v5"}


VOID = {"meta", "link", "img", "path", "br"}


class Page(HTMLParser):
    """Texts, tags and tables of a page; fails where tags are not closed in turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words, self.rows = [], [], [], []
        self.feed(text)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        if {"td", "th"} & set(self.open) and self.rows and self.rows[-1]:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    def row(self, *start):
        """The row whose first cells are these."""
        return next(row for row in self.rows if tuple(row[: len(start)]) == start)

    def attributes(self, tag):
        return [attributes for found, attributes in self.tags if found == tag]


def page_of(tmp_path, *paths):
    out = tmp_path / "report.html"
    write_report(paths, out)
    assert sorted(file.name for file in tmp_path.glob("report.html*")) == ["report.html"]
    return Page(out.read_text(encoding="utf-8"))


def test_scores_protocol_speed_and_machine_are_those_of_the_files(tmp_path):
    paths = [write_run(tmp_path / f"r{k}", [k, 10 * k], seed=k) for k in (1, 2, 6)]
    page = page_of(tmp_path, *paths)
    assert page.row("CartPole-v1") == [
        "CartPole-v1", "30.0 [10.0, 60.0]", "20.0 [10.0, 60.0]", "30.0 [10.0, 60.0]", "3",
        "final evaluation at 200 env steps",
    ]  # fmt: skip
    assert page.row("Evaluation epsilon") == ["Evaluation epsilon", "0"]
    assert page.row("Episodes of the final evaluation")[1] == "10"
    assert page.row("Evaluations before")[1] == "1 a run, 10 episodes each"
    assert page.row("Training")[1] == "200 env steps"
    assert page.row("r6") == ["r6", "6", "complete", "60.0", "200", "50", "0:01:15", "1,234", "309",
                              "16"]  # fmt: skip
    assert page.row("device")[1] == "A GPU" and page.row("memory")[1] == "8.0 GB"
    assert page.row("commit")[1] == "0123456789ab" and page.row("fastdqn")[1] == "0.1.0"
    assert "Nothing that they have recorded, but for their seeds." in page.text
    assert "for seed in 1 2 6; do fastdqn train --config config.json" in page.text
    assert "r6: fastdqn train --seed 6" in page.text
    assert "trained for 200 env steps on CartPole-v1, with 3 seeds, by fastdqn 0.1.0" in page.text
    assert "counts as solved at 475" in page.text
    assert [each["aria-label"].split(";")[0] for each in page.attributes("svg") if "role" in each] \
        == ["Return per episode over env steps on CartPole-v1"]  # fmt: skip


def test_the_configuration_on_the_page_runs_again(tmp_path):
    path = write_run(tmp_path / "r", seed=5, gamma=0.5, run_dir=str(tmp_path), resume="auto")
    links = page_of(tmp_path, path).attributes("a")
    (link,) = [link for link in links if "download" in link]
    kind, _, data = link["href"].partition(",")
    assert (kind, link["download"]) == ("data:application/json;base64", "config.json")
    saved = Config.from_json(base64.b64decode(data).decode())
    assert saved == Config(total_env_steps=200, seed=5, gamma=0.5)


def test_games_have_an_axis_each_and_a_human_scale(tmp_path):
    pong = [write_run(tmp_path / f"p{k}", [-20.7 + 35.3 * k], seed=k, **PONG) for k in range(3)]
    krull = [write_run(tmp_path / f"k{k}", [2665.5], seed=k, **KRULL) for k in range(3)]
    page = page_of(tmp_path, *pong, *krull)
    assert "ALE/Pong-v5, ALE/Krull-v5" in page.text
    assert len([each for each in page.attributes("svg") if "role" in each]) == 2
    assert page.row("ALE/Pong-v5")[4] == "1.00 [0.00, 2.00]"
    assert page.row("ALE/Krull-v5")[1] == "2,666 [2,666, 2,666]"
    assert page.row("DQN, double, 3-step returns")[1] == "2"
    assert page.row("DQN, double, 3-step returns")[2].startswith("1.00 [")
    assert page.row("Sticky actions")[1] == "0.25 per frame"
    assert page.row("Training")[1] == "200 env steps = 800 frames"
    assert page.row("Lives")[1] == "episodes end at game over"
    assert "drawn within each game" in page.text and "without sticky actions" in page.text


def test_configurations_beside_each_other(tmp_path):
    paths = [
        write_run(tmp_path / "a", [1, 2]),
        write_run(tmp_path / "b", [3, 4], n_step=1, host={"cpu": "Another CPU"}),
    ]
    page = page_of(tmp_path, *paths)
    assert page.row("n_step settings")[1] == "3 a 1 b"
    assert page.row("CPU")[1] == "A CPU a Another CPU b"
    assert page.row("Algorithm") == ["Algorithm", "DQN, double, 3-step returns", "DQN, double"]
    assert page.row("CartPole-v1 n_step 1")[1] == "4.00"
    assert "fastdqn train --config config-2.json --seed 1" in page.text


@pytest.mark.parametrize("returns", [(), (1.0,), (1.0, 2.0)])
def test_a_run_in_progress_without_evaluations(tmp_path, returns):
    page = page_of(tmp_path, write_run(tmp_path / "r", returns=returns, finished=False))
    assert "1, 1 not finished" in page.text
    assert page.row("r")[2] == ("not finished, 100%" if returns else "not finished, 0%")
    assert ("No episode has ended yet." in page.text) is (not returns)
    if returns:
        assert page.row("CartPole-v1")[-1] == "training returns at 200 env steps"
    assert page.row("Evaluation")[1] == "none; scores are of training episodes"


def test_a_run_that_says_nothing_of_itself(tmp_path):
    path = write_run(tmp_path / "r", [3])
    for name in ("run.json", "summary.json"):
        (path / name).unlink()
    page = page_of(tmp_path, path)
    assert "The runs have not recorded them." in page.text
    assert "fastdqn of an unknown version" in page.text


def test_one_that_was_not_evaluated_is_counted_out(tmp_path):
    paths = [write_run(tmp_path / str(k), [k] if k else [], seed=k) for k in range(3)]
    assert page_of(tmp_path, *paths).row("CartPole-v1")[-2:] == [
        "2", "final evaluation at 200 env steps; 1 run without"
    ]  # fmt: skip


# --- what a run says of itself may be a forger's --------------------------------------------------


EVIL = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"


def test_nothing_that_a_run_says_becomes_markup(tmp_path):
    path = write_run(tmp_path / "<b>bold&", [1, 2], host={"cpu": EVIL}, env_id="A<i>/B-v1")
    record = json.loads((path / "run.json").read_text())
    record["envs"] |= {"name": EVIL, "class": EVIL, "action_space": EVIL, "made_from_config": False}
    record["sessions"][0] |= {"device": EVIL, "command": [EVIL], "git_commit": EVIL,
                              "versions": {EVIL: EVIL, "fastdqn": EVIL}}  # fmt: skip
    (path / "run.json").write_text(json.dumps(record))
    summary = json.loads((path / "summary.json").read_text())
    (path / "summary.json").write_text(json.dumps({**summary, "stopped_by": EVIL}))
    page = page_of(tmp_path, path, write_run(tmp_path / "other", [1, 2]))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "i", "b", "img", "iframe"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in page.text and "<script>alert(1)" in page.text
    text = (tmp_path / "report.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    inside = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {address[1:] for address in addresses if address[0] == "#"} <= inside
    assert text.count("http") == text.count("http-equiv") + text.count("https://github.com/fastdqn")


def test_what_goes_on_and_on_is_cut(tmp_path):
    path = write_run(tmp_path / "r", host={"cpu": "x" * 100_000})
    page_of(tmp_path, path)
    assert (tmp_path / "report.html").stat().st_size < 60_000


# --- films ----------------------------------------------------------------------------------------


def film(path, name="a.mp4", data=b"\0\0\0\x18ftypisom", at=1):
    (path / "films").mkdir(exist_ok=True)
    file = path / "films" / name
    file.write_bytes(data)
    os.utime(file, (at, at))
    return file


def test_the_newest_film_is_in_the_page(tmp_path):
    path = write_run(tmp_path / "r")
    film(path, at=1)
    film(path, "b.gif", b"GIF89a", at=3)
    film(path, "c.mp4", b"no film at all", at=9)
    page = page_of(tmp_path, path)
    (image,) = page.attributes("img")
    assert base64.b64decode(image["src"].partition(",")[2]) == b"GIF89a" and image["alt"]
    film(path, "d.mp4", at=5)
    page = page_of(tmp_path, path)
    (video,) = page.attributes("video")
    assert video["src"].startswith("data:video/mp4;base64,") and "r/films/d.mp4" in page.text
    assert page_of(tmp_path, write_run(tmp_path / "none")).attributes("video") == []


def test_links_are_no_films(tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"\0\0\0\x18ftypsecret")
    path = write_run(tmp_path / "r")
    (path / "films").mkdir()
    (path / "films" / "a.mp4").symlink_to(secret)
    assert page_of(tmp_path, path).attributes("video") == []
    other = write_run(tmp_path / "s")
    film(write_run(tmp_path / "t"))
    (other / "films").symlink_to(tmp_path / "t" / "films")
    assert page_of(tmp_path, other).attributes("video") == []


def test_films_that_are_too_large_are_named(tmp_path, monkeypatch):
    path = write_run(tmp_path / "r")
    film(path, data=b"\0\0\0\x18ftyp" + b"x" * 2_000_000)
    monkeypatch.setattr(films, "MOST_BYTES", 1_000_000)
    page = page_of(tmp_path, path)
    assert page.attributes("video") == []
    assert "r/films/a.mp4 has 2.0 MB and is left out; a page holds 1 MB of films." in page.text


# --- refused, and written whole or not at all -----------------------------------------------------


def test_without_jinja2_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigError, match=r"needs Jinja2; pip install 'fastdqn\[report\]'"):
        write_report([tmp_path], tmp_path / "report.html")


def test_no_runs(tmp_path):
    with pytest.raises(ConfigError, match="paths is empty"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(CheckpointError, match="holds no run"):
        write_report([tmp_path], tmp_path / "report.html")


def test_a_full_disk_leaves_the_old_page(tmp_path, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastdqn.reporting.page.replace", refuse)
    with pytest.raises(OSError, match="No space"):
        write_report([write_run(tmp_path / "r")], out)
    assert out.read_text() == "old"
    assert [file.name for file in tmp_path.glob("report*")] == ["report.html"]


# --- words and numbers ----------------------------------------------------------------------------


def test_numbers_by_hand():
    minus = "\N{MINUS SIGN}"
    shown = [number(value) for value in (1234.5, -13.66, 0.123, None, float("nan"))]
    assert shown == ["1,234", f"{minus}13.7", "0.12", "\N{EN DASH}", "\N{EN DASH}"]
    assert number(0.5, 3) == "0.500"
    assert [duration(s) for s in (5.2, 75.5, 3_661)] == ["5 s", "0:01:15", "1:01:01"]


def test_names_are_as_long_as_they_must_be(tmp_path):
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    assert names_of(paths) == ["a/run", "b/run"]
    assert names_of([tmp_path / "x", tmp_path / "y"]) == ["x", "y"]


def test_algorithms_in_the_words_of_papers():
    assert algorithm(Config(n_step=1, double=False)) == "DQN"
    rainbow = Config(head="c51", dueling=True, prioritized=True, noisy=True)
    assert algorithm(rainbow) == (
        "C51, double, dueling, prioritized replay, 3-step returns, noisy layers"
    )
    assert algorithm(Config(munchausen=True, head="iqn", n_step=1)) == "Munchausen IQN"

"""What the files beside the package say about it is what the package says."""

import re
import tomllib
from pathlib import Path

import fastdqn

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, flags=re.M) == [fastdqn.__version__]
    assert re.findall(r"^license: (.+)$", citation, flags=re.M) == [PROJECT["license"]]
    assert re.findall(r"^url: (.+)$", citation, flags=re.M) == [PROJECT["urls"]["Homepage"]]


def test_what_the_readme_installs_films_what_it_trains():
    """Gymnasium draws CartPole by pygame, and has that in an extra of its own."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"<!-- train command -->\n```bash\n(.+)\n```", readme)[1]
    names = re.search(r"pip install -q '\.\[([\w,]+)\]'", command)[1].split(",")
    brought = [line for name in names for line in PROJECT["optional-dependencies"][name]]
    assert any(line.startswith("av>") for line in brought)
    assert any(line.startswith("gymnasium[classic-control]") for line in brought)


def test_dev_brings_every_extra():
    extras = PROJECT["optional-dependencies"]
    named = next(line for line in extras["dev"] if line.startswith("fastdqn["))
    assert set(re.findall(r"[\w-]+", named)) == {"fastdqn", *extras} - {"dev"}

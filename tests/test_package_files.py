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


def test_dev_brings_every_extra():
    extras = PROJECT["optional-dependencies"]
    named = next(line for line in extras["dev"] if line.startswith("fastdqn["))
    assert set(re.findall(r"[\w-]+", named)) == {"fastdqn", *extras} - {"dev"}

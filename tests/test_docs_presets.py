"""docs/presets.md names every preset and real fields, and shows what the result files hold."""

import json
import re
from dataclasses import fields
from pathlib import Path

from benchmarks.learning.menu import BAR, MENU, table
from fastdqn import Config, presets

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")
MENU_JSON = ROOT / "benchmarks" / "results" / "menu.json"


def test_every_preset_is_named():
    assert [name for name in presets() if f"`{name}`" not in PAGE] == []


def test_fields_and_options_that_it_names_exist():
    of_train = re.sub(r"`(fastdqn bench|python -m) [^`]*`", "", PAGE)
    names = {field.name for field in fields(Config)}
    said = set(re.findall(r"`([a-z_]+) = ", PAGE))
    said |= {option.replace("-", "_") for option in re.findall(r"--([a-z][a-z-]+)", of_train)}
    assert len(said) > 8
    assert said <= names


def test_the_table_of_catch_is_that_of_the_result_file():
    rows = json.loads(MENU_JSON.read_text())["runs"]
    assert {row["task"] for row in rows} == set(MENU)
    assert table(rows) in PAGE
    assert f"The bar is {BAR:g}." in PAGE


def test_the_costs_are_those_of_the_result_file():
    record = json.loads((ROOT / "benchmarks" / "results" / "bench-menu.json").read_text())
    told = [line.split(" | ")[1:3] for line in PAGE.splitlines() if re.match(r"\| .* ms \| ", line)]
    found = []
    for case in record["cases"]:
        ratio = case.get("times_as_long_as", {}).get("update/menu/double", {"median": 1.0})
        found.append([f"{case['us']['median'] / 1000:.1f} ms", f"{ratio['median']:.2f}"])
    assert told == found

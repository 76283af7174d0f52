"""The short forms of the rows about faults: whole runs, broken from outside."""

import sys
from importlib import import_module
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and limits other processes")
@pytest.mark.parametrize(
    "row", ["bad_envs", "worker_kill", "disk_full", pytest.param("hang", marks=pytest.mark.slow)]
)
def test_the_short_form(row):
    if row == "hang":
        pytest.importorskip("ale_py")
    outcome = import_module(f"benchmarks.reliability.{row}").run(short=True)
    assert outcome.passed, (outcome.result, outcome.details)

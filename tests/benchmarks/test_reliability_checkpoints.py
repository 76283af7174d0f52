"""The short forms of the rows on checkpoints; the full ones are in benchmarks/reliability."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks is no part of the package

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


@pytest.mark.parametrize(
    "name",
    [
        "kill",
        "mutate",
        pytest.param("hostile", marks=needs_proc),
        "resume",
        pytest.param("lock", marks=pytest.mark.slow),
    ],
)
def test_short_row(name):
    outcome = importlib.import_module(f"benchmarks.reliability.{name}").run(short=True)
    assert outcome.passed, f"{outcome.result}\n{outcome.details}"


def test_the_command_line_says_in_a_sentence_that_it_goes_back(tmp_path):
    from benchmarks.reliability.mutate import _make_run

    _make_run(tmp_path)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    (newest / "state.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "fastdqn", "eval", str(tmp_path), "--episodes", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == (
        f"fastdqn: warning: {newest}/state.json is damaged: size or checksum differ from the "
        f"manifest. Going back to step_000000000800.\n"
    )


@needs_proc
def test_saving_and_loading_a_ring_hold_no_second_one():
    # 2 x 21 MB would show; no speed is asserted.
    outcome = importlib.import_module("benchmarks.reliability.save").run(short=True)
    assert outcome.details["growth_saving_bytes"] < 12e6, outcome.result
    assert outcome.details["growth_loading_bytes"] < 12e6, outcome.result

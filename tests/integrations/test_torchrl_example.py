"""The example runs, and its loop learns."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "torchrl_dqn.py"


def example():
    spec = importlib.util.spec_from_file_location("torchrl_dqn", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 80


@pytest.mark.parametrize("n_step", ["1", "3"])
def test_it_runs(n_step, capsys):
    assert example().main(["--steps", "2560", "--n-step", n_step, "--envs", "4"]) > 8
    assert "return" in capsys.readouterr().out


@pytest.mark.slow
def test_it_learns():
    assert example().main([]) > 150

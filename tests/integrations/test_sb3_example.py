"""The example for Stable-Baselines3 runs, short."""

import re
import runpy
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples/sb3_dqn.py"


def test_it_runs_both_ways(monkeypatch, capsys):
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 60
    monkeypatch.setattr(sys, "argv", ["sb3_dqn.py", "--steps", "1200", "--episodes", "2"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    said = capsys.readouterr().out
    returns = re.findall(r": ([\d.]+) \+- ", said)
    assert len(returns) == 2 and all(float(value) >= 8 for value in returns)

"""One of each signal into a real ``fastdqn train``, early and late; then the same command line.

Fifty at random moments, compiled runs among them: ``python -m benchmarks.reliability --only
signals``.
"""

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.reliability import configs, signals


@pytest.mark.parametrize(
    ("kind", "number", "delay"),
    [
        ("eager", signal.SIGINT, 0.4),  # while torch is imported
        ("eager", signal.SIGTERM, 3.0),
        ("workers", signal.SIGUSR1, 4.0),
    ],
)
def test_a_signal_leaves_what_the_same_command_goes_on_with(tmp_path, kind, number, delay):
    trial = signals.interrupt(kind, number, delay, tmp_path / "trial", tmp_path)
    assert trial.faults == []
    assert trial.came or delay > 2.5, "over in two seconds and a half?"


def test_malformed_configurations_in_short():
    outcome = configs.run(short=True)
    assert outcome.passed, outcome.details["faults"]

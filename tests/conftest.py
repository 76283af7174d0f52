"""One torch thread: two of them beside a busy process slow convolutions down tens of times."""

import os
import subprocess
import sys

import pytest
import torch
from matplotlib.figure import Figure

from fastdqn.system import loops

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread():
    """Whatever a test before has set: one that trains by hand would wait for a busy core."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["loops", "torch"])
def both_ways(request):
    """The replay on a CPU with Numba, and as it is on a GPU or without Numba."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr(loops, "choose_loops", lambda device, insist=None: False)
        yield request.param


@pytest.fixture
def in_torch(monkeypatch):
    """The replay as it is on a GPU."""
    monkeypatch.setattr(loops, "choose_loops", lambda device, insist=None: False)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    saved = []
    really = Figure.savefig

    def savefig(self, *args, **kwargs):
        saved.append(self)
        return really(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


@pytest.fixture
def run_python():
    """Runs a script in a process of its own; its output. None takes a variable away."""

    def run(script, **variables):
        env = {**os.environ, **{k: v for k, v in variables.items() if v is not None}}
        for name in (name for name, value in variables.items() if value is None):
            env.pop(name, None)
        return subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
        ).stdout

    return run


def pytest_collection_modifyitems(items):
    """On a GPU cuDNN and Inductor warn of what they try; only their results count there."""
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.filterwarnings("default"))


def pytest_terminal_summary(terminalreporter):
    """Print the launch tables that tests have made (``-m cuda_build``)."""
    # Handed over as a property of the test: workers of xdist have no terminal.
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, table in getattr(report, "user_properties", ()):
                if name == "launches" and report.when == "call":
                    terminalreporter.write_line(f"\n{table}")

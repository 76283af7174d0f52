"""Prints the launch tables that the tests have made, at the end of the run."""

import os
import subprocess
import sys

import pytest


def pytest_terminal_summary(terminalreporter):
    # Handed over as a property of the test: workers of xdist have no terminal.
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, table in getattr(report, "user_properties", ()):
                if name == "launches" and report.when == "call":
                    terminalreporter.write_line(f"\n{table}")


@pytest.fixture(scope="session")
def run(request):
    """Runs a module in a process of its own, for it patches torch; returns what it printed."""

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=request.config.rootpath, capture_output=True, text=True, timeout=280,
            env={**os.environ, "PYTHONPATH": str(request.config.rootpath), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.stdout, done.stderr
        return done.stdout, done.stderr

    return run

"""What counts launches runs in processes of its own."""

import os
import subprocess
import sys

import pytest


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

"""The ladder's Triton kernels in Triton's interpreter, each check in a process of its own."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.kernel_twins import CHECKS

ROOT = Path(__file__).parents[2]


needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")


def run(*arguments, **variables):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=250,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_triton
@pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
def test_kernels_are_their_twins(check):
    assert run("tests/kernel_twins.py", check, TRITON_INTERPRET="1") == "done\n"


@needs_triton
def test_kernels_compile_for_a_gpu_that_is_not_here():
    assert run("tests/helpers/kernel_compiles.py", TRITON_INTERPRET="0") == "done\n"


def test_only_kernels_import_triton():
    script = (
        "import importlib, pkgutil, sys, benchmarks.gpu as b\n"
        "sys.modules['triton'] = None\n"  # whoever imports it fails
        "names = [m.name for m in pkgutil.walk_packages(b.__path__, 'benchmarks.gpu.')]\n"
        "names = [n for n in names if not n.endswith(('_kernels', '__main__'))]\n"
        "[importlib.import_module(n) for n in names]\n"
        "assert 'benchmarks.gpu.ladder.block_sums' in names"
    )
    run("-c", script)


def test_the_package_does_not_import_benchmarks():
    for file in (ROOT / "fastdqn").rglob("*.py"):
        assert not re.search(r"(from|import) benchmarks", file.read_text(encoding="utf-8")), file

"""``python -m benchmarks.gpu``: its steps name cases that exist, and it survives what they do."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from fastdqn.bench.catalogue import select
from fastdqn.bench.ladder.rungs import RUNGS

ROOT = Path(__file__).parents[1]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=250,
    )  # fmt: skip


@pytest.mark.parametrize("smoke", [False, True])
def test_every_step_names_cases_that_exist(smoke):
    measured = set()
    for part in gpu.BUDGET_S:
        for step in gpu.steps(part, smoke):
            if step.is_bench and "--cases" in step.arguments:
                pattern = step.arguments[step.arguments.index("--cases") + 1]
                for one in pattern.split(","):
                    measured |= {case.name for case in select([one], "cuda")}
    if not smoke:
        for batch, rung in ((b, r) for b in (32, 256) for r in RUNGS):
            assert f"update/nature_per/B{batch}/ladder/{rung}/K16" in measured


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_sentence_and_exit_code_2(tmp_path):
    done = run("--out", str(tmp_path))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "No CUDA device" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_smoke_run_saves_each_step(tmp_path):
    done = run("--smoke", "--part", "bench", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    saved = json.loads((tmp_path / "gpu-bench.json").read_text())
    assert [step["status"] for step in saved["steps"]] == ["ok"] * len(gpu.steps("bench", True))
    for step in saved["steps"]:
        assert step["name"] in done.stdout
        assert {case["status"] for case in step["result"]["cases"]} <= {"ok", "skipped"}
    (only,) = tmp_path.iterdir()
    assert only.name == "gpu-bench.json"


def test_failures_and_overruns_are_recorded_and_survived(tmp_path):
    plan = [
        gpu.Step("wrong", ("fastdqn", "nonsense")),
        gpu.Step("slow", ("http.server", "0", "--bind", "127.0.0.1")),
        gpu.Step("late", ("this",)),
    ]
    began = time.monotonic()
    records = gpu.run_part("bench", plan, 6.0, tmp_path)
    assert time.monotonic() - began < 60
    assert records[0]["status"] == "failed with exit code 2"
    assert any("nonsense" in line for line in records[0]["said"])
    assert records[1]["status"].startswith("stopped: no time left")
    assert records[2]["status"] == "not started: no time left"
    assert json.loads((tmp_path / "gpu-bench.json").read_text())["steps"] == records


def test_a_step_that_stops_takes_its_children_along(tmp_path):
    parent = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "child.wait()\n"
    )
    record = gpu.run_step(gpu.Step("parent", ("timeit", "-n1", "-r1", parent)), 5.0)
    assert record["status"].startswith("stopped")
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not _alive(pid):
            return
        time.sleep(0.1)
    raise AssertionError("the child lives on")


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"

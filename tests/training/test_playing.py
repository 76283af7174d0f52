"""``fastdqn eval`` and ``saliency`` in a process, with envs that hang and signals from outside."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.reliability import faulty
from fastdqn.cli.main import main


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    """Where the envs of ``orders / "run"`` look for orders."""
    path = tmp_path_factory.mktemp("orders")
    kwargs = f'{{"orders": "{path}"}}'
    args = ["train", "--env-id", faulty.ENV_ID, "--env-kwargs", kwargs, *faulty.FLAGS]
    args += ["--total-env-steps", "300", "--eval-num-envs", "2", "--torch-threads", "1"]
    assert main([*args, "--run-dir", str(path / "run"), "--env-vectorization", "async"]) == 0
    assert main([*args, "--run-dir", str(path / "sync")]) == 0
    return path


@pytest.fixture
def order(orders):
    """Give one order, and take it back at the end."""
    given = []

    def give(what):
        given.append(orders / what)
        given[-1].touch()

    yield give
    for path in [*given, *orders.glob("eval-pid-*"), *orders.glob("eval-*-began")]:
        path.unlink(missing_ok=True)


def command(*args, cwd):
    search = os.pathsep.join([str(faulty.ROOT), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-m", "fastdqn", *args, "--allow-env-import"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process):
    """The exit code and stderr; no process of its group may be left."""
    try:
        _, err = process.communicate(timeout=60)
    finally:
        for _ in range(500):
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.01)
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()  # or the next test gets its warning
            raise AssertionError("processes are left")
    return process.returncode, err


@pytest.mark.parametrize(
    ("name", "what"), [("eval", "eval-hang-step"), ("saliency", "eval-hang-reset")]
)
def test_envs_that_hang_end_it_with_their_stacks(orders, order, tmp_path, name, what):
    order(what)
    run = str(orders / "sync")
    code, err = finish(command(name, run, "--step-timeout-s", "0.5", cwd=tmp_path))
    assert code == 70, err
    assert "most recent call first" in err and "faulty.py" in err
    last = err.strip().splitlines()[-1]
    assert "Faulty-v0 does not return (step_timeout_s = 0.5 is over)" in last
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "number", "code"),
    [
        ("eval", signal.SIGINT, 130),
        ("eval", signal.SIGTERM, 143),
        ("saliency", signal.SIGUSR1, 138),
    ],
)
def test_a_signal_to_the_group_stops_it_with_its_workers(
    orders, tmp_path, order, name, number, code
):
    order("eval-slow-step")
    more = ["--episodes", "100_000"] if name == "eval" else ["--max-env-steps", "1_000_000"]
    process = command(name, str(orders / "run"), *more, cwd=tmp_path)
    while process.poll() is None and not (orders / "eval-pid-0").exists():
        time.sleep(0.01)
    os.killpg(process.pid, number)
    got, err = finish(process)
    assert got == code, err
    asked = f"{number.name}: stopping after this step; again to quit at once\n"
    assert err == f"{asked}fastdqn: stopped by {number.name}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_signal_ends_a_hang_before_its_time(orders, order, tmp_path):
    order("eval-hang-step")
    process = command("eval", str(orders / "sync"), "--step-timeout-s", "1000", cwd=tmp_path)
    while process.poll() is None and not (orders / "eval-hang-began").exists():
        time.sleep(0.01)
    process.terminate()
    code, err = finish(process)
    assert code == 143, err
    assert "does not return (SIGTERM wants to stop the run)" in err

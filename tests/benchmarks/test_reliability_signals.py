"""One of each signal into a real ``fastdqn train``, early and late; then the same command line.

Fifty at random moments, compiled runs among them: ``python -m benchmarks.reliability --only
signals``.
"""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.reliability import configs, faulty, signals


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


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_sigterm_to_the_group_while_workers_start(tmp_path):
    number = signal.SIGTERM
    trial = signals.Trial("workers", number.name, 0.0)
    process = signals.start("workers", tmp_path, tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and len(children.read_text().split()) < 2:
        time.sleep(0.01)
    time.sleep(0.3)  # the resource tracker and the fork server: their children come next
    os.killpg(process.pid, number)
    trial.code, _, err = signals.finish(process)
    assert trial.code == 128 + number, err
    signals.look(trial, number, tmp_path / "run", err)
    code, _, err = signals.finish(signals.start("workers", tmp_path, tmp_path))
    assert code == 0, err
    signals.look_at_the_end(trial, tmp_path / "run")
    assert [fault for fault in trial.faults if fault != "no checkpoint"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.slow
def test_a_signal_to_the_group_within_the_first_reset_of_a_run_and_of_its_resumption(tmp_path):
    args = ["--env-vectorization", "async", "--resume", "auto"]
    for checkpoints in (False, True):
        process = faulty.Run(tmp_path, *args)
        for order in ("hang-reset", "eval-hang-reset"):  # seeds of a resumption may be large
            process.order(order)
        process.wait_for(lambda: len(list((tmp_path / "orders").glob("*pid-*"))) == 3)
        process.signal_all(signal.SIGTERM)
        assert process.end() == 143, process.stderr()
        assert process.orphans() == 0 and "Traceback" not in process.stderr()
        assert bool(process.checkpoints()) == checkpoints
        process.take_back_orders()
        process = faulty.Run(tmp_path, *args)
        before = process.checkpoints()
        process.wait_for(lambda run=process, old=before: run.checkpoints() != old)
        process.signal_all(signal.SIGTERM)
        assert process.end() == 143, process.stderr()
        assert process.orphans() == 0 and process.checkpoint_fault() is None
        process.take_back_orders()


def test_malformed_configurations_in_short():
    outcome = configs.run(short=True)
    assert outcome.passed, outcome.details["faults"]

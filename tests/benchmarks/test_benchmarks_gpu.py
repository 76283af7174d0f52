"""``python -m benchmarks.gpu``: limits that hold, results that survive, numbers compared."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import report
from benchmarks.gpu.driver import Driver, Task, python
from benchmarks.gpu.session import Session
from benchmarks.gpu.stage import DEVICE_LOST
from benchmarks.gpu.stage_file import StageFile
from benchmarks.gpu.stages import STAGES, gpu_tests, learn
from benchmarks.gpu.targets import PREDICTIONS, TARGETS, Prediction, Target, entry
from fastdqn.bench.workload import UnavailableError

ROOT = Path(__file__).parents[2]

# --- the driver, on stages made up ---------------------------------------------------------------

HEAD = """
import subprocess, sys, time
from pathlib import Path
from benchmarks.gpu.stage_file import FINISHED, StageFile
path = Path(sys.argv[1])
retry = "--retry" in sys.argv
limit_s = float(sys.argv[sys.argv.index("--limit") + 1])
file = StageFile(path)
file.record["status"] = "running"

def keep(key, value):
    file.record["entries"][key] = value
    file.save()

def end():
    file.record["status"] = FINISHED
    file.save()
"""


def task(name, body, limit_s=60.0):
    return Task(name, limit_s, (sys.executable, "-c", HEAD + textwrap.dedent(body)))


def driver(tmp_path, total_s=200.0, **kwargs):
    return Driver(tmp_path / "folder", tmp_path / "out", total_s, **kwargs)


def results(tmp_path):
    return json.loads((tmp_path / "out" / "results.json").read_text())


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # it ends while we look
        return False


def gone(pid):
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.1)
    return False


def test_results_and_logs_of_all_stages_lie_in_two_files(tmp_path):
    one = task("one", "keep('a', 1.5); print('said by one'); end()")
    two = task("two", "keep('b', [2]); print('said by two', file=sys.stderr); end()")
    told = []
    driving = driver(
        tmp_path,
        head={"date": "today"},
        summarise=lambda records: {"sum": len(records)},
        tell=lambda name, records: told.append((name, records[name]["status"])),
    )
    assert driving.run([one, two])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["logs.txt", "results.json"]
    found = results(tmp_path)
    assert found["date"] == "today" and found["sum"] == 2
    assert found["stages"]["one"]["entries"] == {"a": 1.5}
    assert found["stages"]["two"]["entries"] == {"b": [2]}
    logs = (tmp_path / "out" / "logs.txt").read_text()
    assert "##### one\nsaid by one" in logs and "##### two\nsaid by two" in logs
    assert told == [("one", "finished"), ("two", "finished")]


def test_a_stage_over_its_limit_ends_with_its_children_and_keeps_its_entries(tmp_path):
    slow = task(
        "slow",
        f"""
        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'])
        keep('before', 1)
        Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
        time.sleep(120)
        """,
        limit_s=5.0,
    )
    began = time.monotonic()
    assert not driver(tmp_path).run([slow, task("next", "end()")])
    assert time.monotonic() - began < 60
    stages = results(tmp_path)["stages"]
    assert stages["slow"]["status"] == "stopped at its limit of 5 s"
    assert stages["slow"]["entries"] == {"before": 1}
    assert stages["next"]["status"] == "finished"
    assert gone(int((tmp_path / "pid").read_text()))


def test_workers_that_outlive_their_stage_are_ended(tmp_path):
    body = f"""
    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'])
    Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
    end()
    """
    assert driver(tmp_path).run([task("one", body)])
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_stage_knows_its_time_and_ends_before_it(tmp_path):
    body = "keep('limit_s', limit_s); end()"
    assert driver(tmp_path, total_s=40.0).run([task("a", body, 20.0), task("b", body, 100.0)])
    stages = results(tmp_path)["stages"]
    assert 10 < stages["a"]["entries"]["limit_s"] < 20
    assert 20 < stages["b"]["entries"]["limit_s"] < 40  # what is left of all


def test_what_no_longer_fits_is_not_started(tmp_path):
    late = task("late", "keep('a', 1); end()")
    assert not driver(tmp_path, total_s=5.0).run([late])
    record = results(tmp_path)["stages"]["late"]
    assert record["status"] == "not started: 5 s left" and record["entries"] == {}
    assert driver(tmp_path).run([late])  # with more time it is


def test_a_finished_stage_is_passed_over_unless_it_is_wanted_again(tmp_path):
    count = tmp_path / "count"
    count.write_text("")
    counted = task("one", f"open({str(count)!r}, 'a').write('x'); keep('a', 1); end()")
    assert driver(tmp_path).run([counted])
    assert driver(tmp_path).run([counted])
    assert count.read_text() == "x"
    assert results(tmp_path)["stages"]["one"]["entries"] == {"a": 1}
    assert driver(tmp_path).run([counted], again=True)
    assert count.read_text() == "xx"


def test_results_hold_what_earlier_calls_found_of_other_stages(tmp_path):
    assert driver(tmp_path).run([task("one", "keep('a', 1); end()")])
    assert driver(tmp_path).run([task("two", "keep('b', 2); end()")])
    stages = results(tmp_path)["stages"]
    assert {name: record["entries"] for name, record in stages.items()} == {
        "one": {"a": 1}, "two": {"b": 2}
    }  # fmt: skip


def test_a_stage_cut_short_goes_on_where_it_stood(tmp_path):
    body = """
    if "a" in file.record["entries"]:
        keep('b', 2); end()
    else:
        keep('a', 1); time.sleep(120)
    """
    assert not driver(tmp_path).run([task("one", body, limit_s=3.0)])
    assert driver(tmp_path).run([task("one", body)])
    record = results(tmp_path)["stages"]["one"]
    assert record["entries"] == {"a": 1, "b": 2} and record["status"] == "finished"


def test_results_are_written_while_a_stage_runs(tmp_path):
    body = f"""
    keep('early', 1)
    print('said early', flush=True)
    results, logs = (Path({str(tmp_path / "out")!r}) / n for n in ('results.json', 'logs.txt'))
    while not (results.exists() and '"early"' in results.read_text()
               and 'said early' in logs.read_text()):
        time.sleep(0.1)
    end()
    """
    assert driver(tmp_path).run([task("one", body, limit_s=30.0)])


def test_a_stage_that_fails_is_recorded_and_the_next_one_runs(tmp_path):
    wrong = task("wrong", "keep('a', 1); raise ValueError('the reason')")
    assert not driver(tmp_path).run([wrong, task("next", "end()")])
    stages = results(tmp_path)["stages"]
    assert stages["wrong"]["status"] == "failed with exit code 1"
    assert stages["wrong"]["entries"] == {"a": 1}
    assert stages["next"]["status"] == "finished"
    assert "ValueError: the reason" in (tmp_path / "out" / "logs.txt").read_text()


def test_an_entry_that_failed_makes_no_clean_run(tmp_path):
    assert not driver(tmp_path).run([task("one", "file.record['errors']['a'] = 'why'; end()")])
    assert results(tmp_path)["stages"]["one"]["status"] == "finished"


def test_a_stage_that_lost_the_device_goes_on_in_a_new_process(tmp_path):
    body = """
    starts = file.record["entries"].get("starts", 0) + 1
    keep("starts", starts)
    keep(f"retry {starts}", retry)
    if starts < ENOUGH: sys.exit(LOST)
    end()
    """.replace("LOST", str(DEVICE_LOST))
    assert driver(tmp_path).run([task("one", body.replace("ENOUGH", "3"))])
    entries = results(tmp_path)["stages"]["one"]["entries"]
    assert entries == {"starts": 3, "retry 1": True, "retry 2": False, "retry 3": False}
    assert not driver(tmp_path).run([task("two", body.replace("ENOUGH", "9"))])
    record = results(tmp_path)["stages"]["two"]
    assert record["status"] == "stopped: its processes lost the device"
    assert record["entries"]["starts"] == 3


# --- a session -----------------------------------------------------------------------------------


def session(tmp_path, limit_s=100.0, **kwargs):
    kwargs = {"smoke": True, "retry": True, "device": "cpu", **kwargs}
    return Session(tmp_path / "stage.json", time.monotonic() + limit_s, **kwargs)


def saved(tmp_path):
    return StageFile(tmp_path / "stage.json").record


def test_an_entry_that_fails_stops_no_other(tmp_path, capsys):
    running = session(tmp_path)
    assert running.measure("bad", lambda: 1 / 0) is None
    assert running.measure("good", lambda: {"us": 3.0}) == {"us": 3.0}
    running.end()
    record = saved(tmp_path)
    assert record["status"] == "finished" and record["entries"] == {"good": {"us": 3.0}}
    assert record["errors"] == {"bad": "ZeroDivisionError('division by zero')"}
    assert "Traceback" in capsys.readouterr().err


def test_what_cannot_be_measured_here_is_no_failure(tmp_path):
    def find():
        raise UnavailableError("needs a thing")

    running = session(tmp_path)
    assert running.measure("a", find) is None
    assert saved(tmp_path)["entries"] == {"a": {"unavailable": "needs a thing"}}
    assert saved(tmp_path)["errors"] == {}


def test_without_time_entries_are_left_out_and_the_stage_is_not_finished(tmp_path):
    running = session(tmp_path, limit_s=20.0)
    running.measure("short", lambda: 1, needs_s=5.0)
    running.measure("long", lambda: 2, needs_s=50.0)
    running.end()
    record = saved(tmp_path)
    assert record["entries"] == {"short": 1} and list(record["left_out"]) == ["long"]
    assert record["status"] == "1 left out for want of time"
    again = session(tmp_path)
    again.measure("short", lambda: pytest.fail("known"), needs_s=5.0)
    again.measure("long", lambda: 2, needs_s=50.0)
    again.end()
    assert saved(tmp_path)["entries"] == {"short": 1, "long": 2}
    assert saved(tmp_path)["status"] == "finished" and saved(tmp_path)["left_out"] == {}


def test_what_failed_is_tried_again_by_the_next_call_but_not_after_a_lost_device(tmp_path):
    session(tmp_path).measure("a", lambda: 1 / 0)
    session(tmp_path, retry=False).measure("a", lambda: pytest.fail("tried again"))
    assert "a" in saved(tmp_path)["errors"]
    session(tmp_path).measure("a", lambda: 1)
    assert saved(tmp_path)["entries"] == {"a": 1} and saved(tmp_path)["errors"] == {}


def test_what_is_no_number_is_null(tmp_path):
    session(tmp_path).keep("curve", [[1, float("nan")], [2, float("inf")]])
    assert saved(tmp_path)["entries"] == {"curve": [[1, None], [2, None]]}


def test_a_call_of_several_updates_is_timed_per_update(tmp_path, monkeypatch):
    running = session(tmp_path)
    monkeypatch.setattr("fastdqn.bench.timer.DeviceTimer.__call__", lambda *_: 8e-6)
    assert running.time(lambda: None) == {"us": 8.0, "p10": 8.0, "p90": 8.0}
    assert running.time(lambda: None, units=4)["us"] == 2.0
    assert running.kernels(lambda: None) is None


# --- the stages ----------------------------------------------------------------------------------


def test_the_tests_are_those_of_files_that_hold_gpu_tests(tmp_path):
    files = gpu_tests.gpu_files()
    assert "tests/test_gpu.py" in files and "tests/replay/test_sum_tree.py" in files
    assert "tests/learning/test_losses.py" not in files
    command, variables = gpu_tests.pytest_command(False, tmp_path)
    assert variables["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    at = command.index("-W")
    assert command[at : at + 4] == ["-W", "default", "-p", "no:cacheprovider"]
    assert command[command.index("-m", 3) + 1] == "gpu"


@pytest.mark.parametrize("workers", [True, False])
def test_outcomes_are_read_from_what_pytest_says(workers):
    outcomes = [("a.py::one", "PASSED"), ("a.py::two[x y]", "FAILED"), ("b.py::T::c", "SKIPPED")]
    lines = ["collected 3 items\n", "[gw0] ready\n"]
    for name, outcome in outcomes:
        if workers:
            lines += [f"tests/{name} \n", f"[gw0] [ 33%] {outcome} tests/{name} \n"]
        else:
            lines += [f"tests/{name} {outcome}      [ 33%]\n"]
    lines += ["FAILED tests/a.py::two[x y] - assert PASSED\n", "1 failed, 1 passed\n"]
    assert gpu_tests.count(lines, lambda _: None) == {
        "passed": 1, "failed": 1, "skipped": 1, "failures": ["tests/a.py::two[x y]"]
    }  # fmt: skip
    kept = []
    gpu_tests.count(lines[:-2] * 4, kept.append)
    assert len(kept) == 2  # of 12 outcomes


def test_a_bare_pytest_runs_them(tmp_path):
    """Without pytest-timeout the option that pyproject.toml gives it is unknown."""
    command, variables = gpu_tests.pytest_command(True, tmp_path)
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=250,
        env={**os.environ, **variables, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Unknown config option: timeout" in done.stdout
    found = gpu_tests.count(done.stdout.splitlines(), lambda _: None)
    assert found["passed"] > 5 and found["failures"] == []


def test_the_run_that_learns_keeps_no_checkpoint(tmp_path):
    for smoke in (False, True):
        config = learn.make_config(smoke, tmp_path / "run")
        assert config.save_final_checkpoint is False
        assert config.checkpoint_period_env_steps is None and config.eval_episodes == 0
        assert config.run_dir == str(tmp_path / "run")


# --- the report ----------------------------------------------------------------------------------


def test_a_miss_is_the_ratio_to_the_nearer_bound():
    def verdict(value, low=100.0, high=200.0):
        predicted = Prediction("s", "it", low, high, "us", entry("s", "it"))
        return report.verdict(predicted, value)

    assert verdict(150.0) == "150 us, predicted 100 to 200: as predicted"
    assert verdict(50.0) == "50 us, predicted 100 to 200: 0.50 x"
    assert verdict(300.0) == "300 us, predicted 100 to 200: 1.50 x"
    assert verdict(48_000.0, 54_000, 54_000) == "48,000 us, predicted 54,000: 0.89 x"


def test_a_stage_s_lines_hold_its_entries_and_its_predictions():
    record = {
        "entries": {"a": {"us": 12.34, "p10": 11.0, "p90": 14.0, "K4": {"us": 3.0}, "n": 7}},
        "errors": {"b": "why"},
        "left_out": {"c": "2 s left"},
    }
    found = {"s": record["entries"]}
    predicted = (
        Prediction("s", "the a", 10, 12, "us", entry("s", "a", "us")),
        Prediction("s", "the z", 10, 12, "us", entry("s", "z", "us")),  # not measured
        Prediction("t", "the a", 10, 12, "us", entry("s", "a", "us")),  # of another stage
    )
    assert report.stage_lines("s", record, found, predicted) == [
        "a: 12.3 us (11 .. 14), K4 3 us, n 7",
        "b failed: why",
        "c left out: 2 s left",
        "the a: 12.3 us, predicted 10 to 12: 1.03 x",
    ]


def test_targets_are_met_or_missed_either_way():
    targets = (
        Target("speed", 10, 20, "x", entry("s", "speed")),
        Target("cost", 10, 5, "us", entry("s", "cost"), at_most=True),
        Target("other", 1, None, "x", entry("s", "other")),
    )
    rows = report.target_rows({"s": {"speed": 15.0, "cost": 4.0}}, targets)
    assert [(r["measured"], r["met"], r["aim_met"]) for r in rows] == [
        (15.0, True, False), (4.0, True, True), (None, None, None)
    ]  # fmt: skip
    table = report.target_table(rows).splitlines()
    assert [line.split()[0] for line in table] == ["target", "speed", "cost", "other"]
    assert table[1].endswith("15 x      met") and "met, the aim too" in table[2]
    assert table[3].endswith(report.NOT_RUN)
    (slow,) = report.target_rows({"s": {"speed": 9.0}}, targets[:1])
    assert slow["met"] is False and "missed" in report.target_table([slow])


def test_targets_come_from_what_the_stages_call_their_entries():
    update = {"K1": {"us": 250.0}, "K4": {"us": 200.0}, "K16": {"us": 210.0}}
    found = {
        "ladder32": {"2_graph": update, "7_fused": {"K1": {"us": 90.0}}},
        "peers": {"plain/B32/tf32": {"us": 1500.0}, "plain/B32/fp32": {"us": 1600.0},
                  "lean/B32/fp32": {"us": 300.0}},
        "e2e": {"A/pong/N64": {"frames_per_s": 66_000}, "B/pong/N64": {"frames_per_s": 150_000}},
        "probe": {"pong/N64": {"frames_per_s": 160_000}},
        "parts": {"tree/1M/B256/graph": {"us": 50.0}, "tree/1M/B256/cumsum": {"us": 100.0}},
    }  # fmt: skip
    measured = {row["target"]: row["measured"] for row in report.target_rows(found)}
    name = "Nature double DQN with PER, batch 32"
    assert measured[name] == pytest.approx(5000.0)
    assert measured[f"{name}, over plain eager torch"] == pytest.approx(7.5)
    assert measured[f"{name}, over LeanRL-like"] == pytest.approx(1.5)
    assert measured["Nature double DQN with PER, batch 256"] is None
    assert measured["PER draw and write-back, 2^20 leaves, batch 256"] == 50.0
    ratios = [row["measured"] for row in report.target_rows(found) if row["unit"] == "x"]
    assert pytest.approx(0.9375) in ratios and 2.0 in ratios
    assert {p.stage for p in PREDICTIONS} <= set(STAGES)


# --- the command ---------------------------------------------------------------------------------


def run(*arguments, timeout=250):
    return subprocess.run(
        [*python("benchmarks.gpu"), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_sentence_and_exit_code_2(tmp_path):
    done = run("--out", str(tmp_path / "out"))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "No CUDA device" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_smoke_run_of_a_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = run("--smoke", "--only", "peers")
    assert done.returncode == 0, done.stdout + done.stderr
    out = Path(done.stdout.splitlines()[-1]).parent
    assert list(tmp_path.iterdir()) == [out]  # not in the checkout, and nothing else is left
    assert sorted(p.name for p in out.iterdir()) == ["logs.txt", "results.json"]
    found = json.loads((out / "results.json").read_text())
    record = found["stages"]["peers"]
    assert record["status"] == "finished" and record["entries"]["plain/B32/fp32"]["us"] > 0
    assert found["environment"]["versions"]["torch"]
    assert {row["measured"] for row in found["targets"]} == {None}  # tiny: not to be compared
    assert len(found["targets"]) == len(TARGETS) and report.NOT_RUN in done.stdout


def test_a_call_that_is_ended_ends_its_stage(tmp_path):
    with subprocess.Popen(
        [*python("benchmarks.gpu"), "--smoke", "--only", "learn", "--out", str(tmp_path)],
        cwd=ROOT, stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        for _ in range(600):
            if stages := [int(pid) for pid in children.read_text().split() if _is_stage(pid)]:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert len(stages) == 1 and gone(stages[0])


def _is_stage(pid):
    try:
        return b"benchmarks.gpu.stage" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # another child, and it ends while we look
        return False


@pytest.mark.slow
def test_a_smoke_run_of_all_stages(tmp_path):
    done = run("--smoke", "--out", str(tmp_path), timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = json.loads((tmp_path / "results.json").read_text())["stages"]
    assert list(stages) == list(STAGES)
    found = {name: record["entries"] for name, record in stages.items()}
    # Of a CPU all but what is captured, and the loops that a smoke run passes over.
    unknown = {target.line for target in TARGETS if target.find(found) is None}
    assert unknown == {
        target.line for target in TARGETS
        if "LeanRL" in target.line or "PER draw" in target.line or "over the envs" in target.line
    }  # fmt: skip


@pytest.mark.slow
def test_tests_that_take_too_long_are_interrupted_and_say_what_failed(tmp_path, monkeypatch, capfd):
    file = tmp_path / "test_two.py"
    file.write_text(
        "import time\ndef test_a(): assert 1 == 2\ndef test_b(): time.sleep(60)\n", "utf-8"
    )
    command = [sys.executable, "-m", "pytest", str(file), "-vv", "-p", "no:cacheprovider"]
    monkeypatch.setattr(gpu_tests, "pytest_command", lambda *_: (command, {}))
    monkeypatch.setattr(gpu_tests, "_FOR_THE_SUMMARY_S", 93.0)
    found = gpu_tests._outcomes(session(tmp_path, limit_s=100.0))
    assert found["exit"] == 2  # interrupted
    assert "assert 1 == 2" in capfd.readouterr().out

import json
import sys
import time
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.peers.__main__ import (
    PEERS,
    chosen_groups,
    chosen_jobs,
    is_done,
    main,
    parse,
)
from benchmarks.peers.cycle import Drawn, measure_cycles
from benchmarks.peers.measure import MARK, Pace, Work, interleaved_s
from benchmarks.peers.rows import GROUPS, PUBLISHED, ROWS, Group, Job
from benchmarks.peers.runner import (
    JobFailedError,
    Runner,
    full_label,
    merge,
    run_group,
    run_in_turns,
    schedule,
)
from benchmarks.peers.settings import EPISODE, TASKS, transitions
from benchmarks.peers.table import (
    median_ratio,
    number,
    row_table,
    spread,
    tables,
    worst_ratio,
)

# --- arithmetic -----------------------------------------------------------------------------------


def test_ratio_of_speeds_by_hand():
    ours, peer = [30.0, 50.0, 40.0], [10.0, 16.0, 8.0]
    assert median_ratio(ours, peer, True) == 4.0  # 40 / 10
    assert worst_ratio(ours, peer, True) == 1.875  # 30 / 16: not 30 / 8, not 40 / 16


def test_ratio_of_times_by_hand():
    ours, peer = [100.0, 125.0, 80.0], [300.0, 250.0, 200.0]
    assert median_ratio(ours, peer, False) == 2.5  # 250 / 100
    assert worst_ratio(ours, peer, False) == 1.6  # 200 / 125: their fastest, our slowest


def test_even_number_of_rounds_takes_the_middle_two():
    assert median_ratio([10.0, 20.0], [5.0, 10.0], True) == 2.0  # 15 / 7.5


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.735, "0.73"), (5.649, "5.65"), (44.04, "44.0"), (144.6, "145"), (10_253.4, "10,253")],
)
def test_number(value, text):
    assert number(value) == text


def test_spread():
    assert spread([3.0, 1.0, 2.0]) == "2.00 (1.00-3.00)"
    assert spread([5.649]) == "5.65"


def test_table_of_crafted_results():
    results = {
        "SB3": {"values": [8_000.0, 10_000.0, 9_000.0]},
        "TorchRL": {"failed": "no such wheel"},
        "fastdqn": {"values": [36_000.0, 27_000.0, 45_000.0]},
    }
    lines = row_table("cartpole-16", results).splitlines()
    assert lines[2:] == [
        "| system | env steps/s, median (min-max) | fastdqn: 36,000 (27,000-45,000) |",
        "|---|---|---|",
        "| SB3 | 9,000 (8,000-10,000) | 4.00x (worst 2.70x) |",
        "| TorchRL | failed: no such wheel | |",
    ]


def test_table_of_bytes_counts_less_as_better():
    results = {"SB3": {"values": [5.65]}, "fastdqn": {"values": [0.7]}}
    assert "| SB3 | 5.65 | 8.07x (worst 8.07x) |" in row_table("memory-100k", results)


def test_tables_come_in_the_order_of_the_rows():
    one = {"results": {"fastdqn": {"values": [1.0]}}}
    text = tables({"memory-100k": one, "update-32": one})
    assert text.index("update-32") < text.index("memory-100k")
    assert "pong" not in text


# --- pace -----------------------------------------------------------------------------------------


class FakeClock:
    def __init__(self):
        self.s = 100.0

    def __call__(self):
        return self.s


def test_pace_counts_from_the_first_warm_tick():
    clock = FakeClock()
    pace = Pace(2.0, 10, warm_updates=5, now=clock)
    ticks = [(10, 1), (50, 5), (150, 15), (250, 25)]  # one tick a second, warm at the second
    stops = []
    for steps, updates in ticks:
        assert pace.counting == (steps > 50)
        stops.append(pace.tick(steps, updates))
        clock.s += 1.0
    assert stops == [False, False, False, True]
    found = pace.result()
    assert (found["env_steps"], found["updates"], found["seconds"]) == (200, 20, 2.0)
    assert found["env_steps_per_s"] == 100.0
    assert found["updates_per_s"] == 10.0


@pytest.mark.parametrize(
    ("updates", "accepted"), [(98, True), (102, True), (97, False), (103, False)]
)
def test_pace_refuses_a_replay_ratio_off_by_more_than_two_percent(updates, accepted):
    clock = FakeClock()
    pace = Pace(1.0, 10, warm_updates=0, now=clock)
    pace.tick(0, 0)
    clock.s += 1.0
    pace.tick(1_000, updates)
    if accepted:
        assert pace.result()["updates"] == updates
    else:
        with pytest.raises(RuntimeError, match=f"{updates} updates in 1000 env steps"):
            pace.result()


def test_pace_without_a_warm_loop_has_no_result():
    pace = Pace(1.0, 10, warm_updates=5)
    pace.tick(10, 1)
    with pytest.raises(RuntimeError, match="before it was warm"):
        pace.result()


def test_windows_are_taken_in_turn():
    calls = []

    def slow(name):
        calls.append(name)
        time.sleep(0.02)

    found = interleaved_s({"a": lambda: slow("a"), "b": lambda: slow("b")}, 0.02)
    assert calls[-10:] == ["a", "b"] * 5  # one call a window: five windows of each
    assert set(found) == {"a", "b"}
    assert all(seconds >= 0.02 for seconds in found.values())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({}, None),
        ({"weight": np.ones((2, 1))}, None),
        ({"observation": np.zeros((3, 4))}, "observations of shape"),
        ({"next_observation": np.zeros((2, 5))}, "observations of shape"),
        ({"index": np.array([0, 7, 3])}, "3 rows and 2 weights, not 2"),
        ({"index": np.array([0, 8])}, "rows 0 to 8 of 8"),
        ({"index": np.array([-1, 3])}, "rows -1 to 3 of 8"),
        ({"weight": np.array([1.0])}, "2 rows and 1 weights, not 2"),
        ({"weight": np.array([1.0, 0.0])}, "importance weight"),
        ({"weight": np.array([np.nan, 1.0])}, "importance weight"),
        ({"weight": np.array([1.0, np.inf])}, "importance weight"),
    ],
)
def test_a_wrong_batch_of_a_replay_is_not_timed(fault, message):
    whole = {
        "observation": np.zeros((2, 4)),
        "next_observation": np.zeros((2, 4)),
        "index": np.array([0, 7]),
        "weight": np.array([0.5, 1.0]),
    }

    def cycle(batch_size, priority):
        assert priority.shape == (batch_size,) == (2,)
        return {**whole, **fault}

    def measure():
        work = Work("per-vector", "", 0.001, "cpu", 1, 1.0)
        return measure_cycles(work, cycle, [2], (4,), rows=8, read=lambda batch: Drawn(**batch))

    if message is None:
        found = measure()
        assert list(found) == ["per-vector-2"] and found["per-vector-2"][""] > 0
    else:
        with pytest.raises(RuntimeError, match=message):
            measure()


# --- what is run, in which order ------------------------------------------------------------------


def test_schedule_runs_each_job_once_a_round():
    a, b, c = Job("a", "x"), Job("b", "x", rounds=1), Job("c", "x")
    order = [(number, job.label) for number, job in schedule([a, b, c], 2)]
    assert order == [(0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "c")]


def test_every_row_belongs_to_one_group_and_every_job_to_a_module():
    filled = [row for group in GROUPS.values() for row in group.rows]
    assert sorted(filled) == sorted(ROWS)
    systems = {job.system for group in GROUPS.values() for job in group.jobs}
    assert systems == {"ours", *PEERS}
    for group in GROUPS.values():
        assert len({job.label for job in group.jobs}) == len(group.jobs)
    assert set(TASKS) == {
        name
        for name in GROUPS
        if name in ("cartpole-16", "cartpole-64", "pong-8", "sb3-buffer-pong")
    }
    assert all(PUBLISHED.values())


def test_a_row_of_a_shared_process_chooses_its_group():
    assert chosen_groups(["memory-100k", "update-32"]) == ["update-32", "pixels"]
    assert chosen_groups(None) == list(GROUPS)


def test_peers_are_chosen_and_fastdqn_always_runs():
    assert {job.system for job in chosen_jobs("pixels", ["cpprb"])} == {"cpprb", "ours"}
    assert {job.system for job in chosen_jobs("cartpole-16", [])} == {"ours"}
    labels = [job.label for job in chosen_jobs("cartpole-64", [])]
    assert "fastdqn eager (huber, clip 10, 1 thread)" in labels


def test_a_field_that_config_lacks_leaves_its_jobs_out(monkeypatch):
    jobs = (
        Job("fastdqn", "ours", "mode=eager"),
        Job("fastdqn new", "ours", "mode=eager nonsense=8"),
    )
    monkeypatch.setitem(GROUPS, "pong-8", Group(("pong-8",), jobs))
    assert [job.label for job in chosen_jobs("pong-8", [])] == ["fastdqn"]


def test_on_a_gpu_fastdqn_and_the_lean_update_are_captured():
    cartpole = {job.label: job.variant for job in chosen_jobs("cartpole-16", PEERS, "cuda")}
    assert cartpole["fastdqn graph (huber, clip 10, 1 thread)"] == "mode=graph"
    assert cartpole["fastdqn eager (huber, clip 10, 1 thread)"] == "mode=eager"
    assert cartpole["LeanRL-like captured (mse, 1 env)"] == "lean"
    assert not any("compile" in label for label in cartpole)
    pong = {job.label: job.variant for job in chosen_jobs("pong-8", [], "cuda")}
    assert pong["fastdqn graph (huber, clip 10, bf16)"] == "mode=graph precision=bf16"
    assert not any("malloc" in job.label for job in chosen_jobs("pong-8", PEERS, "cuda"))
    assert [job.label for job in chosen_jobs("update-32", PEERS, "cuda")] == [""]
    replays = [job.label for job in chosen_jobs("per-vector", PEERS, "cuda")]
    assert replays == ["cpprb (CPU)", "Tianshou (CPU)", "TorchRL", "fastdqn"]


def test_arguments():
    args = parse([])
    assert (args.rounds, args.only, args.device) == (3, None, "cpu")
    assert list(args.peers) == list(PEERS)
    args = parse(["--only", "pong-8", "memory-100k", "--peers", "sb3", "--rounds", "2"])
    assert (args.only, args.peers, args.rounds) == (["pong-8", "memory-100k"], ["sb3"], 2)
    assert parse(["--peers"]).peers == []
    for wrong in (["--only", "pong"], ["--peers", "dopamine"], ["--rounds", "many"]):
        with pytest.raises(SystemExit):
            parse(wrong)


def test_command_runs_peers_in_their_environment(tmp_path):
    runner = Runner(tmp_path, seconds=1.5, threads=1)
    command = runner.command("pong-8", Job("SB3", "sb3", "optimized"))
    assert command[:4] == [str(tmp_path / "bin/python"), "-m", "benchmarks.peers.sb3", "pong-8"]
    assert command[command.index("--variant") + 1] == "optimized"
    assert command[command.index("--seconds") + 1] == "1.5"
    assert runner.command("pong-8", Job("f", "ours"))[0] == sys.executable


# --- results --------------------------------------------------------------------------------------

PAIR = Group(
    ("update-32", "update-256"), (Job("SB3", "sb3"), Job("", "ours"), Job("+ malloc", "ours"))
)


def test_values_of_all_rounds_are_kept_by_row_and_label():
    speeds = {"SB3": 10.0, "": 40.0, "+ malloc": 50.0}
    order = []

    def measure(group, job):
        order.append(job.label)
        value = speeds[job.label] + len(order)
        suffix = "" if job.label == "SB3" else "fastdqn eager"
        return {"values": {"update-32": {suffix: value}}, "mode": "eager", "versions": {"a": "1"}}

    rows = run_group("pair", PAIR, PAIR.jobs, 2, measure, lambda line: None)
    assert order == ["SB3", "", "+ malloc", "SB3", "", "+ malloc"]
    found = {label: result["values"] for label, result in rows["update-32"].items()}
    assert found == {
        "SB3": [11.0, 14.0],
        "fastdqn eager": [42.0, 45.0],
        "fastdqn eager + malloc": [53.0, 56.0],
    }
    assert rows["update-32"]["SB3"]["details"] == [{"mode": "eager"}] * 2
    assert rows["update-32"]["SB3"]["versions"] == {"a": "1"}
    assert rows["update-256"] == {}


def test_a_failure_is_recorded_and_stops_nobody_else():
    tried = []

    def measure(group, job):
        tried.append(job.label)
        if job.label == "SB3":
            raise JobFailedError("no module named stable_baselines3")
        return {"values": {"update-32": {"fastdqn": 1.0}}}

    said = []
    rows = run_group("pair", PAIR, PAIR.jobs[:2], 2, measure, said.append)
    assert tried == ["SB3", "", ""]  # not tried again
    assert rows["update-32"]["SB3"] == {
        "system": "sb3",
        "failed": "no module named stable_baselines3",
    }
    assert rows["update-32"]["fastdqn"]["values"] == [1.0, 1.0]
    assert "failed: no module named" in said[0]


def test_a_process_that_fails_says_why_in_one_line(tmp_path):
    with pytest.raises(JobFailedError, match="--install"):
        Runner(tmp_path).measure("pong-8", Job("SB3", "sb3"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    with pytest.raises(JobFailedError, match=r"No module named.*exit code 1"):
        Runner(tmp_path).measure("pong-8", Job("nobody", "nobody"))


@pytest.mark.parametrize(
    ("label", "suffix", "whole"),
    [
        ("SB3", "", "SB3"),
        ("cpprb", "+ malloc", "cpprb + malloc"),
        ("", "fastdqn eager", "fastdqn eager"),
        ("+ malloc", "fastdqn eager", "fastdqn eager + malloc"),
    ],
)
def test_labels(label, suffix, whole):
    assert full_label(label, suffix) == whole


def test_merging_replaces_labels_measured_anew_and_keeps_the_others():
    old = {
        "pong-8": {
            "date": "then",
            "results": {"SB3": {"values": [1.0]}, "fastdqn": {"values": [2.0]}},
        },
        "update-32": {"date": "then", "results": {}},
    }
    new = {"pong-8": {"date": "now", "results": {"fastdqn": {"values": [3.0]}}}}
    merged = merge(old, new)
    assert merged["pong-8"]["date"] == "now"
    assert merged["pong-8"]["results"] == {"SB3": {"values": [1.0]}, "fastdqn": {"values": [3.0]}}
    assert merged["update-32"] == old["update-32"]
    assert old["pong-8"]["results"]["fastdqn"] == {"values": [2.0]}  # not changed in place


def test_a_row_is_done_after_as_many_rounds_as_long_with_the_same_peers():
    args = parse(["--rounds", "2", "--seconds", "3"])
    row = {"rounds": 2, "seconds": 3.0, "peers": sorted(PEERS), "results": {}}
    both = {"per-vector-256": row, "per-vector-1024": row}
    assert is_done(both, "per-vector", args)
    assert not is_done({"per-vector-256": row}, "per-vector", args)
    assert not is_done({**both, "per-vector-1024": {**row, "rounds": 1}}, "per-vector", args)


def test_frame_stream_shifts_one_frame_a_step():
    pairs = list(transitions(EPISODE + 2))
    for (before, after, done), (following, _, _) in pairwise(pairs):
        assert (before[1:] == after[:-1]).all()
        if not done:
            assert (after == following).all()
    assert [step for step, (_, _, done) in enumerate(pairs) if done] == [EPISODE - 1]


# --- whole processes, tiny ------------------------------------------------------------------------


def run(tmp_path, *arguments):
    out = tmp_path / "peers.json"
    code = main([*arguments, "--short", "--seconds", "0.2", "--threads", "1", "--out", str(out)])
    return code, json.loads(out.read_text(encoding="utf-8")) if out.exists() else None


def test_fastdqn_alone_end_to_end(tmp_path, monkeypatch, capsys):
    eager = tuple(job for job in GROUPS["cartpole-16"].jobs if "eager" in job.label)
    broken = Job("SB3", "sb3")
    group = Group(("cartpole-16",), (broken, *eager))
    monkeypatch.setitem(GROUPS, "cartpole-16", group)
    code, body = run(tmp_path, "--only", "cartpole-16", "--peers", "sb3", "--venv", str(tmp_path))
    assert code == 1  # one peer is not installed there
    row = body["rows"]["cartpole-16"]
    assert row["results"]["SB3"]["failed"].endswith("--install")
    ours = row["results"][eager[0].label]
    assert ours["values"][0] > 0
    detail = ours["details"][0]
    assert detail["env_steps_per_update"] == pytest.approx(10, rel=0.2)
    assert detail["mode"] == "eager"
    assert detail["torch_threads"] == 1
    assert ours["versions"]["torch"]
    assert row["protocol"].endswith("1 torch threads unless stated")
    assert {"date", "command", "environment", "published"} <= body.keys()
    assert eager[0].label in capsys.readouterr().out


def test_update_row_measures_both_in_one_process(tmp_path, monkeypatch):
    monkeypatch.setitem(GROUPS, "update-32", Group(("update-32",), (Job("", "ours"),)))
    code, body = run(tmp_path, "--only", "update-32", "--peers")
    assert code == 0
    results = body["rows"]["update-32"]["results"]
    assert set(results) == {
        "CleanRL-like eager, fp32",
        "fastdqn eager, fp32",
        "fastdqn eager, bf16",
    }
    assert all(result["values"][0] > 0 for result in results.values())


def test_short_run_leaves_no_file_and_claims_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.peers.__main__.RESULTS", tmp_path)
    monkeypatch.setattr(
        Runner,
        "measure",
        lambda self, group, job: {"values": {"tensordict-write": {"fastdqn": 1.0}}},
    )
    assert main(["--short", "--only", "tensordict"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_result_line_is_the_last_marked_one(tmp_path, monkeypatch):
    script = f"print('noise'); print({MARK!r} + '{{\"values\": {{}}}}')"
    monkeypatch.setattr(Runner, "command", lambda self, group, job: [sys.executable, "-c", script])
    assert Runner(tmp_path).measure("pong-8", Job("x", "sb3")) == {"values": {}}


LOOP = """
import json, sys, time
from benchmarks.peers.measure import MARK, Pace
pace, steps = Pace(0.05, 10, warm_updates=1, slack_updates=2), 0
while True:
    steps += 10
    time.sleep(0.002)
    if pace.tick(steps, steps // 10):
        break
found = pace.result()
print(MARK + json.dumps({"values": {"cartpole-16": {"": found["env_steps_per_s"] / 2}}, **found}))
"""


def test_loops_take_turns_in_processes_that_stop_themselves():
    class Loops(Runner):
        def command(self, group, job):
            script = LOOP if job.label != "broken" else "raise SystemExit('no such luck')"
            return [sys.executable, "-c", script]

    jobs = [Job(label, "ours") for label in ("one", "broken", "two")]
    said = []
    rows = run_in_turns("cartpole-16", jobs, 3, Loops().measure_in_turns, said.append)
    found = rows["cartpole-16"]
    assert "no such luck" in found["broken"]["failed"]
    for label in ("one", "two"):
        (details,) = found[label]["details"]
        windows = details["windows_env_steps_per_s"]
        assert len(windows) == 3 and all(100 < speed < 5_000 for speed in windows)
        assert found[label]["values"] == pytest.approx([speed / 2 for speed in windows])
        # Seconds while the others ran do not count.
        assert 0.15 <= details["seconds"] < 0.5
    assert [line for line in said if "warm" in line] == [
        "cartpole-16, one: warm", "cartpole-16, two: warm",
    ]  # fmt: skip

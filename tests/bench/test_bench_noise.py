"""Whether a comparison calls what has changed, and seldom what has not; who else uses the CPUs."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdqn.bench import compare, load, noise
from fastdqn.errors import ConfigError

US = st.floats(1e-2, 1e7)


def within(t, freedom):
    """How probable it is that Student's t is between -t and t: his density, summed up."""
    x = np.linspace(-t, t, 20_001)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    scale = math.exp(log_scale) / (freedom * math.pi) ** 0.5
    density = scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    return float(((density[1:] + density[:-1]) / 2).sum() * (x[1] - x[0]))


def called(old, new):
    return noise.change(old, new).verdict != "within noise"


# --- the interval ------------------------------------------------------------------------------


def test_the_interval_by_hand():
    # logs 0, 0.2 and 0.3, 0.5: means 0.1 and 0.4; s^2 = (0.02 + 0.02) / 2, so s = 0.1414;
    # half width 4.303 * 0.1414 * sqrt(1/2 + 1/2)
    changed = noise.change(np.exp([0.0, 0.2]).tolist(), np.exp([0.3, 0.5]).tolist())
    half = 4.303 * 0.02**0.5
    assert np.log([changed.ratio, changed.low, changed.high]) == pytest.approx(
        [0.3, 0.3 - half, 0.3 + half]
    )
    assert changed.verdict == "within noise"


@given(st.lists(US, min_size=1, max_size=6), st.lists(US, min_size=2, max_size=6))
def test_the_interval_is_student_s(old, new):
    changed = noise.change(old, new)
    freedom = len(old) + len(new) - 2
    a, b = np.log(old), np.log(new)
    pooled = (((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / freedom
    error = max(noise.SMALLEST_SD, pooled**0.5) * (1 / len(old) + 1 / len(new)) ** 0.5
    half = np.log(changed.high / changed.low) / 2
    assert within(half / error, freedom) == pytest.approx(0.95, abs=1e-3)
    assert np.log(changed.ratio) == pytest.approx(b.mean() - a.mean(), abs=1e-9)
    swapped = noise.change(new, old)
    assert swapped.ratio == pytest.approx(1 / changed.ratio)
    words = {"faster": "slower", "slower": "faster", "within noise": "within noise"}
    assert swapped.verdict == words[changed.verdict]


@given(US, US)
def test_one_round_each_says_nothing_of_noise(a, b):
    assert noise.change([a], [b]) is None


def test_rounds_that_agree_by_chance_are_not_taken_for_a_quiet_machine():
    assert not called([10.0, 10.0], [10.2, 10.2])
    assert called([10.0, 10.0], [12.0, 12.0])


@pytest.mark.parametrize("rounds", [2, 3, 5])
@pytest.mark.parametrize("sd", [0.002, 0.02, 0.2])
def test_what_has_not_changed_is_called_changed_once_in_twenty_times(sd, rounds):
    """Simulated A/A pairs."""
    rng = np.random.default_rng(0)
    pairs = 4_000
    times = 100 * np.exp(sd * rng.standard_normal((pairs, 2, rounds)))
    share = np.mean([called(*pair) for pair in times.tolist()])
    assert share < 0.05 + 4 * (0.05 * 0.95 / pairs) ** 0.5
    skewed = 100 * (1 + sd * rng.exponential(size=(pairs, 2, rounds)))  # as times are
    assert np.mean([called(*pair) for pair in skewed.tolist()]) < 0.07


@pytest.mark.parametrize(
    ("sd", "rounds", "least"), [(0.01, 2, 0.99), (0.03, 2, 0.8), (0.05, 4, 0.95)]
)
def test_a_fifth_slower_is_called_slower(sd, rounds, least):
    rng = np.random.default_rng(1)
    times = 100 * np.exp(sd * rng.standard_normal((2_000, 2, rounds)))
    times[:, 1] *= 1.2
    verdicts = [noise.change(*pair).verdict for pair in times.tolist()]
    assert verdicts.count("slower") > least * len(verdicts)
    assert "faster" not in verdicts


def test_windows_of_one_stretch_would_call_more_than_one_in_twenty():
    """Why rounds are apart in time: within one stretch the machine is of one mood."""
    rng = np.random.default_rng(2)
    mood = 0.05 * rng.standard_normal((2_000, 2, 1))
    windows = 100 * np.exp(mood + 0.01 * rng.standard_normal((2_000, 2, 10)))
    assert np.mean([called(*pair) for pair in windows.tolist()]) > 0.5


def test_the_quantiles_are_student_s():
    for freedom in range(1, 11):
        assert within(noise.student(freedom), freedom) == pytest.approx(0.95, abs=1e-4)
    assert within(noise.student(50), 50) > 0.95


# --- other processes ---------------------------------------------------------------------------


def _stat(path, own, other=10_000):
    """A /proc/stat where each CPU that we may use has ``own`` busy hundredths of a second."""
    cpus = ""
    for n in range(max(os.sched_getaffinity(0)) + 2):
        busy = own if n in os.sched_getaffinity(0) else other
        cpus += f"cpu{n} {busy} 0 0 {9 * own} {own} 0 0 0 {own} 0\n"  # idle, iowait and guest, too
    (path / "proc").mkdir(exist_ok=True)
    (path / "proc/stat").write_text(f"cpu  1 2 3 4\n{cpus}intr 5\n")


@pytest.fixture
def clocks(monkeypatch):
    now = {"wall": 0.0, "ours": 0.0}
    monkeypatch.setattr(load.time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(load.time, "process_time", lambda: now["ours"])
    return now


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux counts")
def test_others_are_the_busy_time_of_our_cpus_less_our_own(tmp_path, clocks):
    cpus = len(os.sched_getaffinity(0))
    tick = os.sysconf("SC_CLK_TCK")
    _stat(tmp_path, 1_000)
    watch = load.CpuWatch(tmp_path)
    _stat(tmp_path, 1_000 + 2 * tick, other=90_000)  # 2 s of each of our CPUs in 4 s
    clocks.update(wall=4.0, ours=1.0)
    assert watch.lap() == pytest.approx((2 * cpus - 1) / 4)
    clocks.update(wall=4.1)
    assert watch.lap() is None  # too short for the kernel's clock
    clocks.update(wall=9.0, ours=3.0)
    assert watch.lap() == 0.0


def test_where_nobody_counts_nothing_is_said(tmp_path, clocks):
    watch = load.CpuWatch(tmp_path)
    clocks["wall"] = 5.0
    assert watch.lap() is None
    assert load.load_average(tmp_path) is None and load.said_before(tmp_path) is None
    assert not load.is_busy(None)


def test_a_busy_machine_is_named_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "usable_cpus", lambda: 4)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/loadavg").write_text("3.21 2.0 1.0 4/99 1234\n")
    assert "a load of 3.2 over the last minute on 4 CPUs" in load.said_before(tmp_path)
    (tmp_path / "proc/loadavg").write_text("0.31 2.0 1.0 4/99 1234\n")
    assert load.said_before(tmp_path) is None
    assert load.is_busy(0.41) and not load.is_busy(0.39)


# --- two results -------------------------------------------------------------------------------


def case(name, rounds, others=(0.0, 0.0), status="ok"):
    record = {"name": name, "status": status, "reason": "gone"}
    if status == "ok":
        record["us"] = {"p10": min(rounds), "median": float(np.median(rounds)), "p90": max(rounds)}
        record |= {"rounds_us": list(rounds), "other_cpus": list(others)}
    return record


def result(*cases, smoke=False, **fingerprint):
    return {
        "format_version": 1,
        "kind": "fastdqn bench",
        "date": "2026-01-01",
        "settings": {"smoke": smoke},
        "fingerprint": {"cpu": "one", "versions": {"torch": "2.13"}, "gpus": [], **fingerprint},
        "cases": list(cases),
    }


def test_each_case_has_a_ratio_an_interval_and_a_verdict():
    old = result(*(case(name, (10.0, 10.2)) for name in "abcd"), case("e", (), status="skipped"))
    new = result(
        case("a", (5.0, 5.1)), case("b", (10.1, 10.3)), case("c", (20.0, 20.4)),
        case("d", (12.0, 12.2), others=(0.0, 99.0)), case("e", (1.0, 1.0)),
    )  # fmt: skip
    a, b, c, d = compare.ratios(old, new)
    assert [row["verdict"] for row in (a, b, c, d)] == [
        "faster",
        "within noise",
        "slower",
        "slower",
    ]
    assert [row["doubtful"] for row in (a, b, c, d)] == [False, False, False, True]
    assert a["ratio"] == pytest.approx(0.5) and a["low"] < 0.5 < a["high"] < 1
    text = "\n".join(compare.lines(old, new, "old.json"))
    assert "time now / time then, interval of 95 %" in text
    assert "2 slower, 1 faster, 1 within noise" in text
    (line,) = (line for line in text.splitlines() if line.startswith("d "))
    assert line.endswith("  SLOWER, but the machine was busy")
    assert "one looks changed by chance" in text


def test_results_of_one_round_have_no_interval():
    old, new = result(case("a", (10.0,))), result(case("a", (5.0,)))
    del old["cases"][0]["rounds_us"]  # of an older fastdqn
    (row,) = compare.ratios(old, new)
    assert (row["ratio"], row["low"], row["verdict"]) == (0.5, None, "noise unknown")
    text = "\n".join(compare.lines(old, new, "old.json"))
    assert "1 noise unknown" in text and "measure both with --rounds 2" in text
    (row,) = compare.ratios(old, result(case("a", (5.0, 5.1))))
    assert row["low"] is not None  # the noise of one of them is known


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cases": None}, "lacks cases"),
        ({"cases": None, "settings": 3}, "lacks cases and settings"),
        ({"cases": [{"name": "a", "status": "ok"}]}, "lacks times of its cases"),
        ({"cases": [3]}, "lacks times of its cases"),
        ({"cases": [case("a", (0.0, 1.0))]}, "lacks times of its cases"),
    ],
)
def test_a_file_that_has_lost_its_parts_is_refused(tmp_path, change, message):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**result(), **change}))
    with pytest.raises(ConfigError, match=message):
        compare.load(str(path))


def test_results_of_before_are_read():
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    for path in results.glob("bench-*.json"):
        assert compare.names(compare.load(str(path)))

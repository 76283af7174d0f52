"""The bench's own arithmetic: percentiles, turns, floors, names, ratios, tables."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from fastdqn.bench import (
    case_list,
    catalogue,
    columns,
    compare,
    estimate,
    figures,
    screen,
    table,
)
from fastdqn.bench.fingerprint import differences
from fastdqn.bench.floors import floor_seconds, impala_work, mlp_work, nature_work
from fastdqn.bench.harness import (
    measure,
    percentile,
    repeats_per_window,
    summarise,
    together,
    warm_up,
)
from fastdqn.bench.runner import _add_ratios
from fastdqn.bench.workload import Floor, Workload
from fastdqn.errors import ConfigError

# --- harness -----------------------------------------------------------------------------------


def test_percentiles_are_numpys():
    values = np.random.default_rng(0).exponential(size=37).tolist()
    for percent in (0, 10, 50, 90, 100):
        assert percentile(values, percent) == pytest.approx(np.percentile(values, percent))
    assert percentile([3.0], 90) == 3.0


def test_a_window_becomes_microseconds_per_unit():
    # 10 repeats of 8 updates in 4, 6 and 5 ms: 50, 75 and 62.5 us per update
    timing = summarise([4e-3, 6e-3, 5e-3], repeats=10, units=8)
    assert timing.median == pytest.approx(62.5)
    assert timing.p10 == pytest.approx(52.5)  # 50 + 0.2 * 12.5
    assert timing.p90 == pytest.approx(72.5)
    assert (timing.windows, timing.repeats) == (3, 10)


def test_windows_of_all_rounds_count_alike():
    rounds = [summarise(seconds, 1, 1) for seconds in ([1e-6, 2e-6, 3e-6], [9e-6])]
    both = together(rounds)
    assert both == summarise([1e-6, 2e-6, 3e-6, 9e-6], 1, 1)
    assert (both.median, both.windows) == (2.5, 4)


def test_repeats_fill_a_window_and_are_at_least_one():
    assert repeats_per_window(1e-3, 0.1) == 100
    assert repeats_per_window(5.0, 0.1) == 1


def _workload(name, log, **kwargs):
    return Workload(
        run=lambda repeats: log.append((name, repeats)),
        check=lambda: None,
        unit="turn",
        **kwargs,
    )


class FakeTimer:
    """So many seconds per repeat, on a clock that goes only while something runs."""

    def __init__(self, monkeypatch, seconds):
        self.seconds, self.now = seconds, 0.0
        monkeypatch.setattr("fastdqn.bench.harness.time.perf_counter", lambda: self.now)

    def __call__(self, workload, repeats):
        workload.run(repeats)
        taken = repeats * self.seconds[id(workload)]
        self.now += taken
        return taken


def test_windows_of_a_family_take_turns(monkeypatch):
    log = []
    a, b = (_workload(name, log, begin=lambda n=name: log.append((n, "begin"))) for name in "ab")
    timer = FakeTimer(monkeypatch, {id(a): 1e-3, id(b): 1e-2})
    timings = measure({"a": a, "b": b}, timer, seconds=2.0)
    begin = log.index(("a", "begin"))
    assert log[begin + 1] == ("b", "begin")
    windows = log[begin + 2 :]
    assert windows == [("a", 100), ("b", 10)] * 20
    assert timings["a"].median == pytest.approx(1e3)
    assert timings["b"].median == pytest.approx(1e4)


def test_a_slow_workload_gets_fewer_windows_but_five(monkeypatch):
    log = []
    a, b = _workload("a", log), _workload("b", log)
    timer = FakeTimer(monkeypatch, {id(a): 0.25, id(b): 10.0})
    timings = measure({"a": a, "b": b}, timer, seconds=2.0)
    assert (timings["a"].windows, timings["a"].repeats) == (8, 1)
    assert (timings["b"].windows, timings["b"].repeats) == (5, 1)
    assert [name for name, _ in log[-13:]] == ["a", "b"] * 5 + ["a"] * 3


def test_warming_up_lasts_and_tells_the_time_of_one_repeat(monkeypatch):
    log = []
    a = _workload("a", log)
    timer = FakeTimer(monkeypatch, {id(a): 1e-3})
    assert warm_up(a, timer, 0.5) == pytest.approx(1e-3)
    assert timer.now >= 0.5
    assert log[-1][1] >= 32  # long enough a stretch for the clock


def test_smoke_runs_twice_without_warming_up(monkeypatch):
    log = []
    a = _workload("a", log)
    measure({"a": a}, FakeTimer(monkeypatch, {id(a): 1.0}), seconds=2.0, smoke=True)
    assert log == [("a", 1), ("a", 1)]


# --- floors, counted by hand -------------------------------------------------------------------


def test_nature_work_is_what_the_layers_say():
    work = nature_work(18)
    macs = 20 * 20 * 32 * 256 + 9 * 9 * 64 * 512 + 7 * 7 * 64 * 576 + 3136 * 512 + 512 * 18
    assert work.forward_flop == 2 * macs
    assert work.forward_flop / 1e6 == pytest.approx(18.70, abs=0.01)
    assert work.backward_flop / 1e6 == pytest.approx(30.8, abs=0.1)
    double = work.update(1, double=True, precision="fp32")
    single = work.update(1, double=False, precision="fp32")
    assert double.flop / 1e6 == pytest.approx(87.0, abs=0.1)
    assert single.flop / 1e6 == pytest.approx(68.3, abs=0.1)


def test_dueling_and_parameters_are_those_of_the_networks():
    from fastdqn.networks.make import make_network

    for dueling in (False, True):
        work = nature_work(18, dueling=dueling)
        network = make_network(
            (84, 84), 18, kind="nature", frame_stack=4, hidden_sizes=(512,), dueling=dueling
        )
        # The head's streams are half as wide as the layer before them.
        assert work.parameters == sum(p.numel() for p in network.parameters())
    assert work.update(1, double=True, precision="fp32").flop / 1e6 == pytest.approx(103, abs=0.5)
    mlp = make_network((4,), 2, kind="mlp", hidden_sizes=(120, 84))
    assert mlp_work(4, (120, 84), 2).parameters == sum(p.numel() for p in mlp.parameters())


def test_mlp_work_by_hand():
    work = mlp_work(4, (3,), 2)
    assert work.forward_flop == 2 * (12 + 6)
    # weights' gradients 12 + 6, the gradient of the hidden layer 6, in multiply-adds
    assert work.backward_flop == 2 * (12 + 6 + 6)
    assert work.parameters == 12 + 3 + 6 + 2
    floor = work.update(10, double=True, precision="fp32")
    assert floor.flop == 10 * (3 * 36 + 48)
    assert floor.bytes == 2 * 10 * 16 + 28 * 23


@pytest.mark.parametrize(
    ("width", "millions", "mflop"), [(1, 2.09, 110), (2, 4.36, 418), (4, 9.49, 1_622)]
)
def test_residual_networks_have_the_parameters_and_flop_of_their_layers(width, millions, mflop):
    """What torch counts, forward and backward, beside the bench's floors and round figures."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from fastdqn.networks.make import make_network

    network = make_network(
        (84, 84), 18, kind="impala", frame_stack=4, hidden_sizes=(512,), impala_width=width
    ).double()  # float32 products are an operator of our own, which torch does not count
    with FlopCounterMode(display=False) as forward:
        q = network(torch.zeros(1, 4, 84, 84, dtype=torch.uint8))
    with FlopCounterMode(display=False) as backward:
        q.sum().backward()
    work = impala_work(18, width)
    assert work.parameters == sum(p.numel() for p in network.parameters())
    assert work.parameters / 1e6 == pytest.approx(millions, abs=0.005)
    assert work.forward_flop == forward.get_total_flops()
    assert work.forward_flop / 1e6 == pytest.approx(mflop, abs=1)
    assert work.backward_flop == backward.get_total_flops()


@pytest.mark.parametrize(
    ("net", "options", "mflop"),
    [
        ("nature", {"head": "c51"}, 19.6),
        ("nature", {"head": "qr", "dueling": True}, 25.8),
        ("nature", {"head": "iqn"}, 247.9),
        ("nature", {"noisy": True, "dueling": True}, 28.4),
        ("nature", {"padding": "same"}, 32.0),
        ("der", {"head": "c51", "dueling": True, "noisy": True}, 4.7),
    ],
)
def test_options_of_a_network_have_the_parameters_and_flop_of_their_layers(net, options, mflop):
    """What torch counts, forward and backward, beside the bench's floors and round figures."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from fastdqn.bench.context import Context, network_work

    network = Context("cpu", smoke=True).network(net, **options).double()
    implicit = options.get("head") == "iqn"
    randoms = {
        name: torch.zeros(draw.shape, dtype=torch.float64)
        for name, draw in network.random_shapes(1, 64).items()
    }
    with FlopCounterMode(display=False) as forward:
        output = network(torch.zeros(1, 4, 84, 84, dtype=torch.uint8), randoms)
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    work = network_work(net, **options, fractions=64 if implicit else None)
    assert work.parameters == sum(p.numel() for p in network.parameters())
    assert work.forward_flop == forward.get_total_flops()
    assert work.forward_flop / 1e6 == pytest.approx(mflop, abs=0.1)
    assert work.backward_flop == backward.get_total_flops()


def test_forwards_of_an_update_that_differ():
    trained, other = mlp_work(4, (3,), 2), mlp_work(4, (5,), 2)
    floor = trained.update_beside([other, other], 10, "fp32")
    assert floor.flop == 10 * (2 * 60 + 36 + 48)
    assert floor.bytes == 2 * 10 * 16 + 28 * trained.parameters


@pytest.mark.parametrize(
    ("width", "double", "single", "megabytes"),
    [(1, 544, 434, 59 + 14), (2, 2_071, 1_654, 122 + 14), (4, 8_076, 6_454, 266 + 14)],
)
def test_updates_of_the_residual_network(width, double, single, megabytes):
    """In MFLOP per sample, and bytes at B = 256: 28 per parameter and 2 stacks per sample."""
    work = impala_work(18, width)
    floor = work.update(256, double=True, precision="bf16")
    assert floor.flop / 256e6 == pytest.approx(double, abs=0.5)
    plain = work.update(256, double=False, precision="bf16")
    assert plain.flop / 256e6 == pytest.approx(single, abs=0.5)
    assert floor.bytes / 1e6 == pytest.approx(megabytes, abs=1)
    first = 84 * 84 * 16 * width * 4 * 9  # the gradient of whose input nobody needs
    assert work.layer_macs[0] == first
    assert work.backward_flop == 2 * (work.forward_flop - first)


def test_bytes_of_a_nature_update_are_those_of_perfect_fusion():
    floor = nature_work(18).update(32, double=True, precision="bf16")
    assert floor.bytes == 32 * 8 * 7056 + 28 * nature_work(18).parameters
    assert floor.bytes / 1e6 == pytest.approx(49, abs=0.5)


def test_the_floor_is_the_larger_of_both_times():
    ceilings = {"bytes_per_s": 100.0, "fp32": 1000.0}
    assert floor_seconds(Floor(5000, 100), ceilings) == 5.0
    assert floor_seconds(Floor(1000, 300), ceilings) == 3.0
    assert floor_seconds(Floor(1000, 300, "bf16"), ceilings) is None
    assert floor_seconds(Floor(0, 300, "bf16"), ceilings) == 3.0
    assert floor_seconds(Floor(1, 1), {}) is None


# --- catalogue ---------------------------------------------------------------------------------


def test_names_are_distinct_lines_are_there_and_groups_known():
    known = catalogue.cases()
    assert list(dict.fromkeys(case.group for case in known.values())) == list(catalogue.GROUPS)
    assert all(case.line and re.fullmatch(r"[\w./]+", case.name) for case in known.values())
    for device in ("cpu", "cuda"):
        default = catalogue.select([], device)
        assert {case.group for case in default} == set(catalogue.GROUPS)
    assert not any("graph" in case.name for case in catalogue.select([], "cpu"))


def test_the_residual_networks_are_in_the_default_set_of_cuda_alone_and_few():
    def default(device):
        names = [case.name for case in catalogue.select([], device)]
        return [name for name in names if "impala" in name or name.startswith("e2e/C")]

    assert default("cpu") == []
    assert default("cuda") == [
        "net/fwdbwd/impala2/B256/bf16",
        *(f"update/impala2/B256/{mode}/K1" for mode in ("eager", "compile", "graph")),
        *(f"e2e/C/{env}/N64" for env in ("synthetic", "pong")),
    ]
    everything = list(catalogue.cases())
    for net, batch in [(f"impala{width}", batch) for width in (1, 2, 4) for batch in (32, 256)]:
        assert f"update/{net}/B{batch}/graph/K1" in everything
        assert f"net/fwd/{net}/B{batch}/bf16" in everything
        assert f"adam/flat/{net}" in everything
    tiny = [case.name for case in catalogue.one_of_each(catalogue.select(["*"], "cpu"))]
    assert {name.split("/")[2] for name in tiny if "impala" in name and "net/" in name} == {
        "impala1"
    }


def test_patterns_are_names_globs_and_groups_with_commas():
    def names(*patterns):
        return [case.name for case in catalogue.select(list(patterns), "cpu")]

    known = list(catalogue.cases())
    assert names("ceil/copy") == ["ceil/copy"]
    assert names("env") == names("env/*") == [name for name in known if name.startswith("env/")]
    assert names("update/nature/B32") == names("update/nature/B32/*")
    # In the catalogue's order, each once.
    assert names("ceil/gemm_fp32,ceil/copy", "ceil/co*") == ["ceil/copy", "ceil/gemm_fp32"]
    assert names("*") == known


@pytest.mark.parametrize("pattern", ["ceil/cpy", "nothing/*", "Update/*", "e2e/A/pong"])
def test_a_pattern_without_a_case_is_refused(pattern):
    if pattern == "e2e/A/pong":  # a prefix of whole parts is fine, a part of a part is not
        assert catalogue.select([pattern], "cpu")
        pattern = "e2e/A/po"
    with pytest.raises(ConfigError, match="matches none of the"):
        catalogue.select([pattern], "cpu")


def test_the_nearest_name_is_offered():
    with pytest.raises(ConfigError, match=r"did you mean 'ceil/copy'\?"):
        catalogue.select(["ceil/cpy"], "cpu")


def test_families_hold_what_is_compared_together():
    chosen = catalogue.select(["update/nature/B32/eager/K1", "peer", "ceil/copy"], "cpu")
    grouped = [[case.name for case in family] for family in catalogue.families(chosen)]
    assert ["ceil/copy"] in grouped
    assert ["update/nature/B32/eager/K1", "peer/eager_like/nature/B32"] in grouped


def test_options_of_the_algorithm_are_set_beside_double_q_learning():
    cases = catalogue.select(["update/menu"], "cpu")
    (family,) = catalogue.families(cases)
    assert family[0].name == "update/menu/double" and len(family) == 11
    assert {case.against for case in family[1:]} == {"update/menu/double"}

    us = {"median": 2.0, "p10": 1.0, "p90": 4.0}
    record = {"group": "update", "status": "ok", "rates": {}, "details": {}, "us": us}
    records = {
        "a": {**record, "name": "a"},
        "b/c": {**record, "name": "b/c", "us": {"median": 3.0, "p10": 2.0, "p90": 5.0}},
        "d": {**record, "name": "d", "status": "failed"},
    }
    _add_ratios(records, {"a": "b/c", "b/c": "", "d": "b/c"})
    assert records["a"]["times_as_long_as"] == {"b/c": {"median": 2 / 3, "low": 0.2, "high": 2.0}}
    assert "times_as_long_as" not in {**records["b/c"], **records["d"]}
    beside = columns.COLUMNS["beside"].show
    assert beside(records["a"]) == "time 0.67 (0.20 .. 2.00) x c"
    assert beside(records["b/c"]) is None
    _add_ratios(records, {"a": "d", "b/c": "gone", "d": ""})
    assert "times_as_long_as" not in records["b/c"]


def test_one_of_each_drops_sizes_only():
    chosen = catalogue.select(["gather/pixels,gather/vector", "update/mlp"], "cpu")
    kept = [case.name for case in catalogue.one_of_each(chosen)]
    assert kept[:4] == [f"gather/{net}/B32/n{n}" for net in ("pixels", "vector") for n in (1, 3)]
    assert kept[4:] == [case.name for case in chosen if case.group == "update"]


def test_numbers_in_names():
    assert case_list.number("1e6") == 1_000_000
    assert case_list.number("1.6e7") == 16_000_000


# --- comparison --------------------------------------------------------------------------------


def _case(name, p10, median, p90, status="ok"):
    us = {"p10": p10, "median": median, "p90": p90}
    return {"name": name, "status": status, "us": us, "reason": "gone"}


def _result(cases, **fingerprint):
    return {
        "format_version": 1,
        "kind": "fastdqn bench",
        "date": "2026-01-01",
        "settings": {"smoke": False},
        "fingerprint": {"cpu": "one", "versions": {"torch": "2.13"}, "gpus": [], **fingerprint},
        "cases": cases,
    }


def test_a_comparison_warns_of_another_machine_and_of_lost_cases():
    old = _result([_case("a", 1, 1, 1), _case("b", 1, 1, 1)])
    new = _result(
        [_case("a", 1, 1, 1), _case("b", 1, 1, 1, status="skipped"), _case("c", 1, 1, 1)],
        cpu="two",
        versions={"torch": "2.14"},
    )
    text = "\n".join(compare.lines(old, new, "old.json"))
    assert "cpu: one -> two" in text
    assert "torch version: 2.13 -> 2.14" in text
    assert "b was measured before and is now skipped" in text
    assert "c " not in text
    assert differences(old["fingerprint"], old["fingerprint"]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "is no result"),
        ('{"kind": "fastdqn bench", "format_version": 99}', "format_version 99"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path, text, message):
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        compare.load(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        compare.load(str(tmp_path / "none.json"))


# --- table -------------------------------------------------------------------------------------


def test_numbers_for_people():
    assert figures.duration(0.1234) == "0.12 us"
    assert figures.duration(999.4) == "999 us"
    assert figures.duration(999.9) == "1.00 ms"
    assert figures.duration(1.5e6) == "1.50 s"
    assert figures.span(1_500, 900, 12_000) == "0.90 .. 12.0"  # all in ms
    assert figures.rate(9_876) == "9,876"
    assert figures.rate(98_760) == "98.8 k"
    assert figures.rate(1.25e6) == "1.25 M"
    assert figures.rate(4.3e12) == "4.30 T"
    assert [figures.wall(s) for s in (0.2, 40, 170, 9_000)] == [
        "1 s", "40 s", "3 minutes", "2.5 hours"
    ]  # fmt: skip


def _record(name, **more):
    return {
        **_case(name, 1, 2, 3), "group": name.partition("/")[0], "unit": "vector step",
        "rates": {"env_steps_per_s": 8e6}, "details": {}, "other_cpus": [0.0], **more,
    }  # fmt: skip


def test_rows_are_aligned_before_the_next_is_known():
    chosen = catalogue.select(["env/cartpole,env/native/cartpole/N1024,peer/gymnasium"], "cpu")
    tables = table.Tables(chosen)
    title, header = tables.head("env")
    assert title == "env: environments alone"
    ratio = {"median": 1.5, "low": 1.2, "high": 1.9}
    rows = [
        _record("env/cartpole/N16"),
        _record("env/native/cartpole/N1024/compiled_step", other_cpus=[None, 99.0],
                times_as_fast_as={"peer/gymnasium/cartpole/N1024": ratio}),
        _record("peer/gymnasium/cartpole/N1024"),
    ]  # fmt: skip
    shown = [tables.row(record) for record in rows]
    for column, cell in (("median", "2.00 us"), ("per", "vector step"), ("env steps/s", "8.00 M")):
        end = header.index(column) + len(column)
        assert {line[: end + 1].split()[-1] for line in shown} <= {cell.split()[-1], "us!"}
        assert shown[0][:end].endswith(cell)
    assert "2.00 us!" in shown[1] and "!" not in shown[0] + shown[2]
    assert shown[1].endswith("speed 1.50 (1.20 .. 1.90) x gymnasium")
    assert tables.group_of(rows[2]) == "env", "a peer stands among what it is timed with"
    failed = {"name": "env/cartpole/N16", "status": "failed", "reason": "boom"}
    assert tables.row(failed).split(None, 1)[1] == "FAILED: boom"


def test_columns_that_do_not_fit_are_left_out_and_named():
    chosen = catalogue.select(["update/nature/B32"], "cpu")
    name = max(len(case.name) for case in chosen)
    tables = table.Tables(chosen, width=80)
    assert len(tables.head("update")[1]) <= 80
    assert tables.head("update")[1].split()[:2] == ["case", "median"]
    assert {"memory", "beside"} <= set(tables.left_out) and "updates/s" not in tables.left_out
    assert "beside" not in table.Tables(chosen, width=120).left_out  # but memory is
    assert table.Tables(chosen).left_out == []
    assert "median" in table.Tables(chosen, width=name).head("update")[1]  # never nothing


def test_the_legend_explains_what_was_shown():
    record = _record("env/cartpole/N16")
    tables = table.Tables(catalogue.select(["env/cartpole"], "cpu"))
    assert tables.shown([record]) == ["median", "p10 .. p90", "per", "env steps/s"]
    lines = columns.legend(tables.shown([record]), marked=False)
    assert [line.split("  ")[0] for line in lines] == tables.shown([record])
    assert columns.legend([], marked=True) == [
        "!  other processes took more than a tenth of the CPUs: doubtful"
    ]
    assert all(column.meaning for column in columns.COLUMNS.values())


def test_without_ceilings_there_is_no_column_of_floors():
    for patterns, shown in (("ceil,adam", True), ("adam", False)):
        header = table.Tables(catalogue.select([patterns], "cpu")).head("adam")[1]
        assert ("% of floor" in header) == shown


@pytest.mark.parametrize("group", catalogue.GROUPS)
def test_every_group_has_a_title_and_columns(group):
    assert table.TITLES[group] and set(columns.columns_of(group, ceilings=True)) <= set(
        columns.COLUMNS
    )


def test_cases_of_one_reason_are_named_together():
    skipped = [{"name": f"c{i}", "status": "skipped", "reason": "no GPU"} for i in range(6)]
    assert table.unmeasured(skipped, "skipped") == ["skipped: c0, c1, c2, c3 and 2 more: no GPU"]
    assert table.unmeasured(skipped, "failed") == []


def test_records_are_plain_json():
    timing = summarise([1.0], 1, 1)
    assert json.loads(json.dumps(timing.to_json())) == {"median": 1e6, "p10": 1e6, "p90": 1e6}


# --- how long it takes -------------------------------------------------------------------------


def _seconds(patterns, device="cpu", **effort):
    chosen = catalogue.select(patterns, device)
    return estimate.bench_seconds(chosen, device, estimate.Effort(**{"seconds": 2.0, **effort}))


def test_the_wait_is_the_sum_over_cases_and_rounds():
    case = catalogue.select(["per/sample/sumtree/N1e5/B32"], "cpu")
    effort = estimate.Effort(2.0, rounds=2)
    # made and checked twice; windows of one second each, and 30 % of them to warm up
    assert estimate.costs(case, "cpu", effort) == pytest.approx([0.2 + 1.3] * 2)
    assert estimate.bench_seconds(case, "cpu", effort) == pytest.approx(estimate.IMPORT_S + 3.0)
    assert _seconds(["update/mlp/B128/graph/K8"]) == estimate.IMPORT_S  # skipped without CUDA
    assert _seconds(["update/mlp/B128/graph/K8"], "cuda") > 20
    compiled = estimate.costs(
        catalogue.select(["update/mlp/B128/compile/K8"], "cpu"), "cpu", effort
    )
    assert compiled[0] > 2 * compiled[1]  # the compiler's cache is warm
    assert _seconds(["update/impala4/B256/eager"]) > 200  # a repeat takes half a minute


@pytest.mark.parametrize("name", ["bench-cpu", "bench-cpu-avx2", "bench-menu"])
def test_the_wait_is_about_what_it_was(name):
    """On an idle machine of two cores, by the results that are kept."""
    path = Path(__file__).parents[2] / "benchmarks" / "results" / f"{name}.json"
    result = json.loads(path.read_text())
    known = catalogue.cases()
    done = [known[case["name"]] for case in result["cases"] if case["status"] == "ok"]
    effort = estimate.Effort(result["settings"]["seconds"])
    expected = estimate.bench_seconds(done, "cpu", effort)
    assert 0.7 < expected / result["wall_s"] < 1.4


# --- what is seen ------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_rows_stand_above_what_is_being_timed(monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("TERM", "xterm")
    out, err = Terminal(), Terminal()
    seen = screen.Screen(out, err, [4.0, 36.0])
    assert seen.width == 90
    with seen:
        seen.tell(0, 2, "per/sample")
        seen.write("a row", "bold")
        seen.tell(1, 2, "per/[update]")
        seen.write("another row")
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "[1/2] per/sample, about 40 s left" in said
    assert "[2/2] per/[update], about 36 s left" in said
    assert said.index("a row") < said.index("[2/2]") < said.index("another row")
    assert err.getvalue() == ""


def test_with_rows_in_a_file_the_terminal_shows_progress_alone():
    out, err = io.StringIO(), Terminal()
    seen = screen.Screen(out, err)
    with seen:
        seen.tell(0, 2, "per/sample")
        seen.write("a row", "bold")
    assert seen.width is None and out.getvalue() == "a row\n"
    assert "per/sample" in err.getvalue() and "a row" not in err.getvalue()


def test_time_left_follows_the_time_taken(monkeypatch):
    now = 0.0
    monkeypatch.setattr("fastdqn.bench.screen.time.perf_counter", lambda: now)
    seen = screen.Screen(io.StringIO(), io.StringIO(), [10.0, 30.0])
    now = 20.0  # twice as long as expected
    assert seen._left(1, now) == 60.0

"""``fastdqn bench``: what its cases run on, that their checks catch faults, and the command."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from fastdqn.bench import catalogue, chart, harness, runner
from fastdqn.bench.cases import adam, e2e, update
from fastdqn.bench.checks import expect_close, expect_distribution, expect_transitions
from fastdqn.bench.context import Context
from fastdqn.bench.random_replay import fill_random, rows_near_resets
from fastdqn.bench.synthetic_envs import SyntheticPixelEnvs
from fastdqn.bench.workload import CheckError, UnavailableError, Workload
from fastdqn.cli.main import main
from fastdqn.envs import make_envs
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.types import TimeStep


def _replay(rows=100, num_envs=3, **kwargs):
    kwargs = {"frame_stack": 4, "n_step": 2, **kwargs}
    space = Box(0, 255, (5, 6), np.uint8)
    return ReplayBuffer(rows * num_envs, num_envs, space, **kwargs)


# --- random replays ----------------------------------------------------------------------------


@pytest.mark.parametrize("prioritized", [False, True])
def test_a_filled_replay_is_one_to_which_the_same_rows_were_added(prioritized, monkeypatch):
    monkeypatch.setattr("fastdqn.bench.random_replay.MEAN_EPISODE_LENGTH", 10)
    filled = _replay(prioritized=prioritized)
    fill_random(filled, num_actions=6)
    filled.tree.check_valid()
    added = _replay(prioritized=prioritized)
    rows, storage = filled.rows, filled.ring.storage
    newest = int(filled.cursor[0])
    added._rows_added = 1  # its first row, too, is in mid-episode
    for age in range(rows - 1, -1, -1):
        row = storage[(newest - age) % rows]
        names = ("observation", "reward", "terminated", "truncated", "first")
        added.add(TimeStep(*(row.get(name) for name in names)), row.get("action"))
    shift = (newest + 1) % rows
    leaves = filled.tree.leaves.view(rows, -1).roll(-shift, dims=0)
    assert torch.equal(leaves > 0, added.tree.leaves.view(rows, -1) > 0)
    for name, tensor in storage.items():
        assert torch.equal(tensor.roll(-shift, dims=0), added.ring.storage.get(name)), name
    assert filled.sample(8).observation.shape == (8, 4, 5, 6)
    if prioritized:
        top = (filled.max_priority + filled.priority_epsilon) ** filled.alpha
        assert 0.5 * top < filled.tree.leaves.max() <= top * (1 + 1e-6)


def test_bytes_and_episodes_are_random():
    replay = _replay(rows=1000)
    fill_random(replay, num_actions=6)
    frames = replay.ring.storage.get("observation")
    counts = torch.bincount(frames.view(-1).long(), minlength=256)
    assert counts.min() > 0.7 * counts.max()
    assert set(replay.ring.storage.get("action").unique().tolist()) == set(range(6))
    assert 0 < int(replay.ring.storage.get("first").sum()) < 30
    assert not torch.equal(frames[:500], frames[500:])


def test_rows_near_resets_are_drawable_and_meet_one():
    replay = _replay(rows=1000)
    fill_random(replay, num_actions=6)
    index = rows_near_resets(replay, 8)
    assert 0 < index.numel() <= 8
    assert bool((replay.tree.get(index) > 0).all())
    first = replay.ring.storage.get("first").view(-1)
    for i in index.tolist():
        window = [(i + k * 3) % 3000 for k in range(-3, 4)]
        assert bool(first[window].any())


# --- the synthetic env -------------------------------------------------------------------------


def test_synthetic_envs_are_a_stream_of_random_frames_and_fixed_episodes():
    envs = make_envs(SyntheticPixelEnvs(3, episode_length=5), frame_stack=4)
    assert (envs.num_envs, envs.num_actions, envs.frame_stack) == (3, 6, 4)
    step = envs.reset(seed=0)
    steps = [step]
    for _ in range(40):
        envs.send(np.zeros(3, dtype=np.int64))
        steps.append(envs.recv())
    first = np.stack([s.first for s in steps])
    terminated, truncated = (
        np.stack([getattr(s, n) for s in steps]) for n in steps[0]._fields[2:4]
    )
    assert first[0].all()
    assert np.array_equal(first[1:], (terminated | truncated)[:-1])
    assert not (terminated & truncated).any()
    for env in range(3):
        ends = np.flatnonzero((terminated | truncated)[:, env])
        assert ends[0] == 5 - env  # staggered
        assert set(np.diff(ends)) == {6}  # five steps and the row of the reset
        kinds = terminated[ends, env]
        assert np.array_equal(kinds[1:], ~kinds[:-1])
    frames = np.stack([s.observation for s in steps[:16]])
    assert frames.dtype == np.uint8 and frames.shape == (16, 3, 84, 84)
    assert len({frame.tobytes() for row in frames for frame in row}) == 48
    assert set(np.unique([s.reward for s in steps])) == {-1.0, 0.0, 1.0}


# --- the checks catch what they are there for ------------------------------------------------


def test_transitions_are_compared_with_the_rows():
    replay = _replay(rows=300, n_step=3)
    fill_random(replay, num_actions=6)
    batch = replay.sample(16)
    expect_transitions(replay, batch)
    wrong = {
        "observation": batch.observation ^ 1,
        "action": batch.action + 1,
        "reward": batch.reward + 0.1,
        "discount": batch.discount * 0.9,
        "next_observation": batch.next_observation.roll(1, dims=1),
    }
    for name, value in wrong.items():
        with pytest.raises(CheckError, match="transition 0"):
            expect_transitions(replay, batch._replace(**{name: value}))


def test_draws_are_compared_with_the_leaves():
    generator = torch.Generator().manual_seed(0)
    leaves = torch.rand(6400, generator=generator)
    leaves[:100] = 0.0
    exact = torch.multinomial(leaves, 20_000, replacement=True, generator=generator)
    expect_distribution(exact, leaves)
    even = torch.randint(100, 6400, (20_000,), generator=generator)
    steep = leaves * torch.arange(6400)
    with pytest.raises(CheckError, match="standard deviations"):
        expect_distribution(even, steep)
    with pytest.raises(CheckError, match="value 0"):
        expect_distribution(torch.zeros_like(even), leaves)


def test_closeness_is_relative_and_nan_is_not_close():
    one = torch.ones(4)
    expect_close(one * 1.009, one, 0.01, "x")
    for bad in (one * 1.02, one * float("nan"), torch.ones(5)):
        with pytest.raises(CheckError, match="x"):
            expect_close(bad, one, 0.01, "x")


def _run(*patterns):
    context = Context("cpu", smoke=True)
    chosen = catalogue.one_of_each(catalogue.select(list(patterns), "cpu"))
    told = []
    records = runner.run_cases(chosen, context, seconds=1.0, tell=lambda *args: told.append(args))
    assert told[-1][0] == told[-1][1] == len(records) == len(chosen)
    return {record["name"]: record for record in records}


@pytest.mark.parametrize("fault", ["gradients", "one update too few"])
def test_a_wrong_update_is_not_timed(monkeypatch, fault):
    if fault == "gradients":

        def tampered(function, mode, backend):
            def call(*args):
                first, *rest = function(*args)  # a gradient, or the parameters after a launch
                return ([-p for p in first] if isinstance(first, list) else -first, *rest)

            return function if mode == "eager" else call

        monkeypatch.setattr("fastdqn.learning.learner.compile_pure", tampered)
    else:
        original = update.Learner.update_from

        def short(self, replay, times=1, **kwargs):
            fewer = times - 1 if self.mode == "compile" and times > 1 else times
            return original(self, replay, fewer, **kwargs)

        monkeypatch.setattr(update.Learner, "update_from", short)
    records = _run("update/mlp/B128/compile/*", "update/mlp/B128/eager/*")
    bad = records["update/mlp/B128/compile/K8"]
    assert bad["status"] == "failed" and "us" not in bad
    assert "wrong result" in bad["reason"]
    assert records["update/mlp/B128/eager/K8"]["status"] == "ok"


# What auto chooses is the CPU's matter, and more is allowed in bfloat16.
@pytest.mark.parametrize(
    ("bf16", "named"), [(True, "change of the parameters"), (False, "TD errors")]
)
@pytest.mark.parametrize("fault", [None, "noise of another update", "another network"])
def test_an_option_that_does_something_else_is_not_timed(monkeypatch, fault, bf16, named):
    monkeypatch.setattr("fastdqn.system.devices.has_bf16", lambda device: bf16)
    if fault == "noise of another update":
        original = update.Learner.__init__

        def advanced(self, *args, **options):
            original(self, *args, **options)
            if options.get("precision") is None:
                self._draws.draw(4, self.generator)

        monkeypatch.setattr(update.Learner, "__init__", advanced)
    elif fault:
        made = Context.network

        def without_noise(self, net, **options):
            return made(self, net, **{**options, "noisy": False})

        monkeypatch.setattr(Context, "network", without_noise)
    (record,) = _run("update/menu/der").values()
    assert record["status"] == ("failed" if fault else "ok"), record.get("reason")
    if fault == "another network":
        assert record["reason"].endswith("wrong result: 598,953 parameters, not 1,143,410")
    elif fault:
        assert f"wrong result: {named}" in record["reason"]


def test_a_residual_network_with_a_wrong_layer_is_not_timed(monkeypatch):
    right = _run("net/fwdbwd/impala1/B32/fp32", "adam/flat/impala1", "update/impala1/B32/eager")
    assert [record["status"] for record in right.values()] == ["ok"] * 3
    parameters = right["adam/flat/impala1"]["details"]["parameters"]
    assert parameters == pytest.approx(2.09e6, rel=1e-3)

    def without_its_skip(self, x):
        return self.conv2(torch.relu(self.conv1(torch.relu(x))))

    monkeypatch.setattr("fastdqn.networks.impala.ResidualBlock.forward", without_its_skip)
    (record,) = _run("net/fwd/impala1/B32/fp32").values()
    assert record["status"] == "failed" and "wrong result: Q" in record["reason"]


def test_a_tree_that_ignores_its_leaves_is_not_timed(monkeypatch):
    def even(self, uniform):
        index = (uniform[0] * self.capacity).long()
        return index, self.get(index)

    monkeypatch.setattr("fastdqn.replay.sum_tree.SumTree.sample", even)
    records = _run("per/sample/sumtree/N1e5/B32", "per/sample/cumsum/N1e5/B32")
    assert records["per/sample/sumtree/N1e5/B32"]["status"] == "failed"
    assert records["per/sample/cumsum/N1e5/B32"]["status"] == "ok"


def test_a_stack_that_reaches_into_the_episode_before_is_not_timed(monkeypatch, in_torch):
    def whole(self, index):
        return torch.full_like(index, self._frame_stack - 1)

    monkeypatch.setattr("fastdqn.replay.gather_torch.GatherInTorch._age", whole)
    (record,) = _run("gather/pixels/B32/n3").values()
    assert record["status"] == "failed"
    assert "observation" in record["reason"] or "next" in record["reason"]


# --- the runner --------------------------------------------------------------------------------


def _planted(error):
    def make(context, **_):
        if not isinstance(error, CheckError):
            raise error

        def check():
            raise error

        return Workload(run=lambda repeats: None, check=check, unit="nothing")

    return make


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (CheckError("3 is not 4"), "failed", 1),
        (RuntimeError("boom"), "failed", 1),
        (UnavailableError("needs a lathe"), "skipped", 0),
        (torch.OutOfMemoryError("too much"), "skipped", 0),
    ],
)
def test_what_fails_makes_the_exit_code_and_what_is_missing_does_not(
    monkeypatch, capsys, tmp_path, error, status, code
):
    monkeypatch.setattr(adam, "make", _planted(error))
    path = tmp_path / "r.json"
    arguments = ["bench", "--cases", "adam/flat/mlp,ceil/copy", "--smoke", "--json", str(path)]
    assert main(arguments) == code
    said = capsys.readouterr().out
    assert ("FAILED: adam/flat/mlp" if code else "skipped: adam/flat/mlp") in said
    cases = {case["name"]: case for case in json.loads(path.read_text())["cases"]}
    assert cases["adam/flat/mlp"]["status"] == status
    assert cases["ceil/copy"]["status"] == "ok"


def test_an_env_that_is_not_registered_is_skipped(monkeypatch):
    from fastdqn.bench.cases import env

    monkeypatch.setattr(env.gymnasium, "registry", {})
    (record,) = _run("env/native/catch").values()
    assert record["status"] == "skipped"
    assert record["reason"] == "fastdqn/Catch-v0 is not registered with gymnasium"


def test_cartpoles_beside_gymnasium_s():
    """Every form of ours has a ratio to theirs; that of pixels is per frame, whatever N."""
    records = _run("env/native/cartpole/N1024,env/native/cartpole_pixels,peer/gymnasium")
    assert [record["status"] for record in records.values()] == ["ok"] * len(records)
    peers = {name: record for name, record in records.items() if record["group"] == "peer"}
    assert list(peers) == ["peer/gymnasium/cartpole/N1024", "peer/gymnasium/cartpole_render"]
    for name, record in records.items():
        if record["group"] == "env":
            frames = "pixels" in name
            peer = list(peers.values())[frames]
            assert record["unit"] == peer["unit"] == ("frame" if frames else "vector step")
            ratio = peer["us"]["median"] / record["us"]["median"]
            assert record["times_as_fast_as"][peer["name"]]["median"] == pytest.approx(ratio)
            steps = 1 if frames else 4  # N is 4 in a smoke run
            assert record["rates"]["env_steps_per_s"] == pytest.approx(
                steps * 1e6 / record["us"]["median"]
            )


@pytest.mark.parametrize("case", ["N1024", "N1024/compiled_step"])
def test_a_cartpole_that_falls_otherwise_is_not_timed(monkeypatch, case):
    from fastdqn.envs.native import cartpole

    right = cartpole.cartpole_step
    monkeypatch.setattr(cartpole, "cartpole_step", lambda state, a: right(state, a) + 1e-5)
    monkeypatch.setattr(torch._inductor, "compile", lambda graph, examples: graph)
    record = _run(f"env/native/cartpole/{case}")[f"env/native/cartpole/{case}"]
    assert record["status"] == "failed" and "a step differs from Gymnasium's" in record["reason"]


def test_a_bare_step_is_checked_itself(monkeypatch):
    """That of the compiled env, which the stream beside it has nothing to do with."""
    made = torch._inductor.compile
    count = 0

    def compile_wrongly_the_second_time(graph, examples):
        nonlocal count
        count += 1
        if count == 1:
            return graph
        return lambda *tensors: [x + 1 if x.is_floating_point() else x for x in graph(*tensors)]

    monkeypatch.setattr(torch._inductor, "compile", compile_wrongly_the_second_time)
    (record,) = _run("env/native/cartpole/N1024/compiled_step").values()
    assert count == 2 and made is not torch._inductor.compile
    assert record["status"] == "failed" and "a step differs from Gymnasium's" in record["reason"]


def test_pictures_that_differ_are_not_timed(monkeypatch):
    from fastdqn.bench.cases import gymnasium_cartpole
    from fastdqn.envs.native import cartpole

    class Upside(gymnasium_cartpole.CartPoleScreen):
        def __call__(self, x, theta):
            return super().__call__(x, -theta - 0.2)

    monkeypatch.setattr(gymnasium_cartpole, "CartPoleScreen", Upside)
    (record,) = _run("peer/gymnasium/cartpole_render").values()
    assert record["status"] == "failed" and "native frames differ by" in record["reason"]

    class Dim(cartpole.CartPoleScreen):
        def __call__(self, x, theta):
            return super().__call__(x, theta) // 2 * 2 + (len(x) == 8)  # two frames of 4 envs

    monkeypatch.setattr(cartpole, "CartPoleScreen", Dim)
    name = "env/native/cartpole_pixels/difference/N16"
    record = _run(name)[name]
    assert record["status"] == "ok", "an offset of both frames is none of their difference"
    monkeypatch.setattr(Dim, "__call__", lambda self, x, theta: self._runs[: len(x)])
    assert _run(name)[name]["status"] == "failed"


def test_without_a_compiler_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    records = _run("env/native/cartpole/N1024")
    assert {name.rpartition("/")[2]: r["status"] for name, r in records.items()} == {
        "N1024": "ok",
        "compiled": "skipped",
        "compiled_step": "skipped",
    }
    assert records["env/native/cartpole/N1024/compiled"]["reason"] == "needs a C++ compiler"


def test_without_pygame_its_case_is_skipped(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    (record,) = _run("peer/gymnasium/cartpole_render").values()
    assert record["status"] == "skipped" and "needs pygame" in record["reason"]


def test_without_ale_its_cases_are_skipped(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    records = _run("env/ale/pong,e2e/dqn/pong")
    assert len(records) == 2
    for record in records.values():
        assert (record["status"], record["reason"]) == (
            "skipped",
            "needs ale-py: pip install 'fastdqn[atari]'",
        )


def test_rates_floors_and_ratios_come_from_the_medians():
    records = _run("ceil/copy,ceil/gemm_fp32,update/mlp/B128/eager/K8,peer/eager_like/mlp")
    ours = records["update/mlp/B128/eager/K8"]
    us = ours["us"]["median"]
    assert ours["rates"]["updates_per_s"] == pytest.approx(1e6 / us)
    assert ours["rates"]["samples_per_s"] == pytest.approx(4e6 / us)  # B is 4 in a smoke run
    assert ours["floor_percent"] == pytest.approx(100 * ours["floor_us"] / us)
    theirs = records["peer/eager_like/mlp/B128"]["us"]
    ratio = ours["times_as_fast_as"]["peer/eager_like/mlp/B128"]
    assert ratio["median"] == pytest.approx(theirs["median"] / us)
    assert ratio["low"] == pytest.approx(theirs["p10"] / ours["us"]["p90"])
    assert ours["peak_bytes"] > 0


def test_without_ceilings_there_is_no_floor():
    (record,) = _run("gather/vector/B32/n1").values()
    assert record["status"] == "ok" and "floor_us" not in record


def test_portions_of_the_loop_are_the_loop():
    """Running the trainer's loop in pieces, metered, changes no number of it."""

    def parameters(portions):
        context = Context("cpu", smoke=True)
        workload = e2e.make(context, recipe="A", env="synthetic", num_envs=4)
        try:
            loop = workload.run.__self__
            for turns in portions:
                workload.run(turns)
            meter = loop.read_meter()
            assert loop._trainer.env_steps == 4 * sum(portions)
            assert loop._trainer.learner.updates == sum(portions) - 1  # one per turn, a turn later
            assert meter["env_s"] > 0 and meter["learn_s"] > 0
            assert meter["overlap"] == pytest.approx(
                (meter["env_s"] + meter["learn_s"]) / meter["wall_s"]
            )
            assert meter["overlap"] <= 1  # on a CPU
            return loop._trainer.learner.flat.data.clone()
        finally:
            workload.close()

    assert torch.equal(parameters([7]), parameters([2, 1, 4]))


def test_every_recipe_is_a_configuration():
    context = Context("cpu")
    ratios = {"cartpole": 12.8, "dqn": 8.0, "A": 8.0, "B": 4.0, "B2": 16.0, "C": 4.0, "C2": 4.0}
    ratios["D"] = 32.0
    for recipe, ratio in ratios.items():
        config = e2e.make_config(context, recipe, 8)
        assert config.replay_ratio == ratio
        assert config.learning_starts_env_steps == 8 * (config.n_step + 2)
    for recipe, width in (("C", 2), ("C2", 1)):
        config = e2e.make_config(context, recipe, 8)
        assert (config.network, config.impala_width) == ("impala", width)
        assert (config.double, config.prioritized, config.n_step) == (True, True, 3)
        assert (config.batch_size, config.update_period_env_steps) == (256, 64.0)


# --- the command -------------------------------------------------------------------------------

ONE_OF_EACH_GROUP = (
    "ceil/copy,env/cartpole,env/synthetic,act/mlp,per/cycle/vector,gather/vector,net/fwd/mlp,"
    "adam/flat/mlp,update/mlp,e2e/cartpole,e2e/A/synthetic,peer/eager_like/mlp"
)


def _cli(*args, timeout=120):
    return subprocess.run(
        [sys.executable, "-m", "fastdqn", "bench", *args],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.slow
def test_smoke_of_every_group_through_a_pipe(tmp_path):
    path, picture = tmp_path / "new.json", tmp_path / "new.png"
    arguments = ["--smoke", "--cases", ONE_OF_EACH_GROUP, "--json", str(path)]
    done = _cli(*arguments, "--chart", str(picture))
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(path.read_text())
    status = {case["name"]: case["status"] for case in result["cases"]}
    for group in catalogue.GROUPS:
        assert any(s == "ok" for n, s in status.items() if n.startswith(group + "/")), group
        assert f"\n{group} " in done.stdout
    skipped = {case["name"]: case["reason"] for case in result["cases"] if "reason" in case}
    assert skipped["update/mlp/B128/graph/K8"] == "needs a CUDA device"
    assert "skipped: update/mlp/B128/graph/K1, update/mlp/B128/graph/K8: needs a CUDA device" in (
        done.stdout
    )
    assert "[1/" in done.stderr and "\x1b" not in done.stdout + done.stderr
    machine = result["fingerprint"]
    assert machine["versions"]["torch"] and machine["cpus_usable"] >= 1 and machine["cpu"]
    assert result["command"].startswith("fastdqn bench --smoke --cases ceil/copy,")
    assert picture.stat().st_size > 10_000


@pytest.mark.slow
def test_smoke_of_everything():
    done = _cli("--smoke", timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_table_and_a_comparison(tmp_path, capsys):
    path = tmp_path / "old.json"
    arguments = ["--seconds", "0.05", "--json", str(path)]
    assert main(["bench", "--cases", "adam/*/mlp", *arguments]) == 0
    said = capsys.readouterr().out
    assert "adam: the optimizer alone" in said and "updates/s" in said
    rows = [line for line in said.splitlines() if line.startswith("adam/flat/mlp ")]
    assert len(rows) == 2, "one in each round"
    assert said.index("round 1 of 2") < said.index(rows[0]) < said.index("round 2 of 2")
    assert "\nupdates/s   gradient steps\n" in said
    assert "\nmeasured 3 of 3 cases in " in said
    old = json.loads(path.read_text())
    assert old["complete"] and old["settings"]["rounds"] == 2
    for case in old["cases"]:
        assert len(case["rounds_us"]) == len(case["other_cpus"]) == 2
        case["us"] = {name: value * 1e9 for name, value in case["us"].items()}
        case["rounds_us"] = [value * 1e9 for value in case["rounds_us"]]
    path.write_text(json.dumps(old))
    # Without --cases those of the old result are measured.
    assert main(["bench", "--seconds", "0.05", "--compare", str(path)]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if line.startswith("adam/flat/mlp ")]
    assert "time now / time then" in said and "0 slower, 3 faster, 0 within noise" in said
    assert "  faster" in rows[-1] and "warning" not in said


def test_a_slower_case_is_called_slower_and_the_others_are_not(tmp_path, monkeypatch, capsys):
    """From the command line to the verdict, on clocks of our own: rounds differ by 2 %."""
    path = tmp_path / "old.json"
    turns = {"adam/flat/mlp": 1.0}
    call = 0

    def timings(ready, timer, **_):
        nonlocal call
        call += 1
        wobble = 1.01 if call % 2 else 0.99
        return {
            name: harness.summarise([1e-3 * wobble * turns.get(name, 1.0)] * 5, 1, 1)
            for name in ready
        }

    monkeypatch.setattr(runner, "measure", timings)
    arguments = ["bench", "--cases", "adam/*/mlp"]
    assert main([*arguments, "--json", str(path)]) == 0
    assert main([*arguments, "--compare", str(path)]) == 0
    assert "0 slower, 0 faster, 3 within noise" in capsys.readouterr().out
    turns["adam/flat/mlp"] = 1.2
    assert main([*arguments, "--compare", str(path)]) == 0
    said = capsys.readouterr().out
    assert "1 slower, 0 faster, 2 within noise" in said
    row = [line for line in said.splitlines() if line.startswith("adam/flat/mlp ")][-1]
    assert row.split()[1] == "1.200" and "SLOWER" in row


def test_rounds_make_everything_anew(monkeypatch):
    made = []
    original = adam.make
    monkeypatch.setattr(adam, "make", lambda *a, **k: made.append(k) or original(*a, **k))
    context = Context("cpu", smoke=True)
    chosen = catalogue.select(["adam/flat/mlp,gather/vector/B32/n1"], "cpu")
    heard, told = [], []
    (_, record) = runner.run_cases(
        chosen, context, seconds=1.0, rounds=3, tell=lambda *a: told.append(a),
        ended=lambda fresh, so_far, number: heard.append((number, fresh[0]["name"], len(so_far))),
    )  # fmt: skip
    assert len(made) == 3
    assert record["windows"] == 3 * 2 and len(record["rounds_us"]) == 3
    assert [number for number, _, _ in heard] == [0, 0, 1, 1, 2, 2]
    assert [count for _, _, count in heard] == [1, 2, 2, 2, 2, 2]
    assert told[-1][:2] == (6, 6) and told[3][:2] == (3, 6)


def test_what_failed_once_is_not_tried_again_and_keeps_its_reason(monkeypatch):
    tried = []
    original = adam.make

    def make(context, *, kind, net):
        if kind == "foreach":
            tried.append(kind)
            raise RuntimeError("boom")
        return original(context, kind=kind, net=net)

    monkeypatch.setattr(adam, "make", make)
    chosen = catalogue.select(["adam/*/mlp"], "cpu")
    context = Context("cpu", smoke=True)
    records = runner.run_cases(chosen, context, seconds=1.0, rounds=2, tell=lambda *args: None)
    assert len(tried) == 1
    by_name = {record["name"]: record for record in records}
    assert by_name["adam/foreach/mlp"]["reason"] == "RuntimeError: boom"
    assert len(by_name["adam/flat/mlp"]["rounds_us"]) == 2


def test_what_was_measured_is_on_disk_before_the_next_family(tmp_path, monkeypatch, capsys):
    """A machine that is lent for some minutes may end the process at any time."""
    path = tmp_path / "bench.json"
    kept = []
    run_family = runner._run_family

    def watched(family, *rest):
        kept.append(len(json.loads(path.read_text())["cases"]) if path.exists() else 0)
        if len(kept) == 3:
            raise KeyboardInterrupt
        return run_family(family, *rest)

    monkeypatch.setattr(runner, "_run_family", watched)
    cases = "ceil/copy,gather/vector/B32/n1,adam/flat/mlp"
    assert main(["bench", "--smoke", "--cases", cases, "--json", str(path)]) == 130
    assert kept == [0, 1, 2]
    result = json.loads(path.read_text())
    assert (len(result["cases"]), result["cases_planned"], result["complete"]) == (2, 3, False)
    assert "stopped: measured 2 of 3 cases in " in capsys.readouterr().out
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_ctrl_c_leaves_the_rows_and_the_result_so_far(tmp_path, number):
    path, picture = tmp_path / "r.json", tmp_path / "c.svg"
    bench = subprocess.Popen(
        [sys.executable, "-m", "fastdqn", "bench", "--cases", "adam/*/mlp,update/mlp/B128/eager/K1",
         "--seconds", "600", "--rounds", "1", "--json", str(path), "--chart", str(picture)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in bench.stderr:
        if line.startswith("[1/"):  # nothing is measured yet
            break
    bench.send_signal(number)
    out, err = bench.communicate(timeout=100)
    assert bench.returncode == 128 + number, err
    assert "stopped: measured 0 of 4 cases in " in out and "stopped by SIG" in err
    assert json.loads(path.read_text())["complete"] is False and picture.exists()


def test_a_pipe_gets_one_result():
    done = subprocess.run(
        [sys.executable, "-m", "fastdqn", "bench", "--smoke", "--cases",
         "ceil/copy,gather/vector/B32/n1", "--json", "/dev/stderr"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr.count('"format_version"') == 1


def test_an_error_within_a_capture_is_named_and_not_what_the_capture_says():
    with pytest.raises(RuntimeError) as caught:
        try:
            raise ValueError("the reason")
        finally:
            raise RuntimeError("operation not permitted when stream is capturing")
    assert runner._said(caught.value) == "ValueError: the reason"


@pytest.mark.parametrize("file", ["README.md", "docs/performance.md", "docs/bench.md"])
def test_cases_that_the_documents_name_exist(file):
    text = (Path(__file__).parents[2] / file).read_text(encoding="utf-8")
    named = re.findall(r"--cases '([^']+)'", text)
    assert all(catalogue.select([patterns], "cpu") for patterns in named)
    assert named or file == "README.md"


def test_first_parts_of_globs_choose_cases():
    small = {case.name for case in catalogue.select(["update/*/B32"], "cpu")}
    wanted = {name for name in catalogue.cases() if name.startswith("update/") and "/B32/" in name}
    assert small == wanted != set()
    assert {case.name for case in catalogue.select(["adam/flat/nature"], "cpu")} == {
        "adam/flat/nature"
    }


def test_the_list_names_every_case(capsys):
    assert main(["bench", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in catalogue.cases())
    head, first, *_ = said.splitlines()
    assert head.startswith("cpu  cuda  case ") and first.startswith(" *    *    ceil/copy ")
    assert " -    *    ceil/graph_node/16 " in said
    assert main(["bench", "--list", "--cases", "e2e/D"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4 + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "ceil/cpy"], "did you mean 'ceil/copy'?"),
        (["--seconds", "0"], "seconds = 0 is out of range"),
        (["--seconds", "soon"], "seconds = 'soon'"),
        (["--rounds", "0"], "rounds = 0 is out of range; use a number from 1 to 20"),
        (["--json", "/nowhere/at/all.json"], "needs the directory"),
        (["--json", "/"], "is no file"),
        (["--chart", "bars.txt"], "must end in one of .png"),
        (["--compare", "/nowhere.json"], "cannot be read"),
        (["--device", "tpu"], "must be one of auto, cpu, cuda"),
        (["--sekonds", "3"], "did you mean '--seconds'?"),
        (["update"], "takes no argument 'update'"),
    ],
)
def test_bad_flags_end_in_one_sentence(capsys, arguments, message):
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err and said.err.count("\n") == 1
    assert said.err.startswith("fastdqn: error: ")


def test_flags_are_checked_before_torch():
    script = (
        "import sys; from fastdqn.cli.main import main; "
        "codes = main(['bench', '--cases', 'x']), main(['bench', '--list']), "
        "main(['bench', '--seconds', '0', '--cases', 'env']); "
        "sys.exit(codes != (2, 0, 2) or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_how_long_it_takes_is_said_before_torch():
    script = """
import os, sys
class Watch:
    def find_spec(name, *rest):
        if name == "torch":
            print("torch is wanted now", file=sys.stderr, flush=True)
            os._exit(7)
sys.meta_path.insert(0, Watch)
from fastdqn.cli.main import main
main(["bench"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    first, *rest = done.stderr.splitlines()
    assert re.fullmatch(
        r"fastdqn bench: \d+ cases in 2 rounds, about \d+ minutes( on two idle CPU cores)?; "
        r"--seconds 0.5 takes about .*, --cases act about .*\. Ctrl-C keeps what was measured\.",
        first,
    )
    assert rest[-1] == "torch is wanted now"


def _drawn(*records, smoke=False):
    versions = {"fastdqn": "0.1", "torch": "2.13", "python": "3.12", "cuda": None}
    return {
        "date": "2026-01-02T03:04:05",
        "settings": {"smoke": smoke},
        "fingerprint": {
            "device_name": "Abacus", "cpus_usable": 3, "versions": versions, "git_commit": None,
        },
        "cases": list(records),
    }  # fmt: skip


def test_the_chart_has_a_panel_per_group(tmp_path):
    us = {"median": 2.0, "p10": 1.0, "p90": 4.0}
    env = {"group": "env", "status": "ok", "us": us, "rates": {"env_steps_per_s": 5e5}}
    records = [
        {**env, "name": "env/a", "times_as_fast_as": {"peer/p": {}}},
        {**env, "name": "env/b"},
        {"name": "ceil/b", "group": "ceil", "status": "ok", "us": us, "rates": {}},
        {"name": "ceil/c", "group": "ceil", "status": "skipped", "reason": "no"},
        {**env, "name": "peer/p", "group": "peer"},
    ]
    chart.save(_drawn(*records), tmp_path / "c.svg")
    chart.save(_drawn(smoke=True), tmp_path / "empty.png")
    picture = (tmp_path / "c.svg").read_text()
    for text in ("env/a", "peer/p", "ceil/b", "500 k", "2.00 us", "Abacus, 3 CPUs, 2026-01-02"):
        assert f"<!-- {text}" in picture or f" {text}" in picture, text
    assert "ceil/c" not in picture and (tmp_path / "empty.png").exists()
    order = [record["name"] for record in chart.beside_their_peers(records)]
    assert order == ["env/a", "peer/p", "env/b", "ceil/b", "ceil/c"]
    title = chart.heading(_drawn(smoke=True))
    assert "no figure means anything" in title and title.endswith(
        "\nfastdqn 0.1, torch 2.13, python 3.12"
    )

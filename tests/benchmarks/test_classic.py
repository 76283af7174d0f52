"""The benchmark of the small envs: its arithmetic, its memory, and a run without learning."""

import json

import pytest

from benchmarks.learning import classic, jobs
from benchmarks.learning.classic import TASKS, main, table


def row(task="taxi", seed=1, reached=7.5, **other):
    return {
        "task": task,
        "seed": seed,
        **classic.identity(task),
        "env_steps": 300_000,
        "reached": reached,
        "met": reached >= TASKS[task].bar,
        "wall_s": 99.6,
        **other,
    }


def is_done(rows, task, seed):
    return jobs.is_done(rows, task, seed, TASKS[task].config)


def with_row(rows, new):
    return jobs.with_row(rows, new, list(TASKS))


def test_every_task_has_a_configuration_of_its_preset():
    for task in TASKS.values():
        assert task.config.env_id == task.env_id
        assert task.config.eval_episodes >= 30
        assert task.config.eval_epsilon == 0.0


def test_what_starts_any_env_is_changed_in_few_fields():
    for name in ("cartpole", "acrobot"):
        assert not TASKS[name].changes
    assert list(TASKS["frozen-lake"].changes) == ["env_kwargs"]
    assert len(TASKS["lunar-lander"].changes) <= 2
    assert TASKS["lunar-lander"].config.total_env_steps <= 500_000
    assert len(TASKS["mountain-car"].changes) <= 3
    assert TASKS["mountain-car"].config.total_env_steps <= 300_000


def test_a_run_is_done_for_its_code_configuration_and_seed_only():
    rows = [row()]
    assert is_done(rows, "taxi", 1)
    assert not is_done(rows, "taxi", 2)
    assert not is_done(rows, "acrobot", 1)
    assert not is_done([row(code="another")], "taxi", 1)
    assert not is_done([row(config={**rows[0]["config"], "gamma": 0.5})], "taxi", 1)


def test_a_new_row_replaces_that_of_its_run_in_the_order_of_the_table():
    rows = with_row([row(seed=2), row(reached=1.0)], row(reached=8.0))
    assert [(each["seed"], each["reached"]) for each in rows] == [(1, 8.0), (2, 7.5)]
    rows = with_row(rows, row("cartpole", reached=500.0))
    assert [each["task"] for each in rows] == ["cartpole", "taxi", "taxi"]


def test_the_table_says_who_met_the_bar():
    line = table([row(), row(seed=2, reached=6.99)]).splitlines()[2]
    assert line.startswith("| `Taxi-v4` | `classic` |")
    assert line.endswith("| 300,000 | 7 | 7.50, 6.99 | 1 of 2 | 100, 100 |")


def test_a_call_runs_only_what_its_file_lacks(tmp_path, monkeypatch, capsys):
    ran = []

    def run_apart(name, seed):
        ran.append((name, seed))
        return row(name, seed)

    monkeypatch.setattr(classic, "run_apart", run_apart)
    out = str(tmp_path / "classic.json")
    main(["--only", "taxi", "--seeds", "1", "2", "--out", out])
    main(["--only", "taxi", "--seeds", "1", "2", "3", "--out", out])
    assert ran == [("taxi", 1), ("taxi", 2), ("taxi", 3)]
    main(["--only", "taxi", "--seeds", "2", "--again", "--out", out])
    assert ran[3:] == [("taxi", 2)]
    record = json.loads((tmp_path / "classic.json").read_text())
    assert [each["seed"] for each in record["runs"]] == [1, 2, 3]
    assert "3 of 3" in capsys.readouterr().out


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(classic, "version", lambda package: None)
    with pytest.raises(SystemExit, match="pip install MinAtar minigrid, or choose others"):
        main(["--only", "minatar-freeway", "minigrid-empty", "frozen-lake"])


def test_the_smoke_goes_through_a_task(capsys):
    main(["--smoke", "--only", "frozen-lake"])
    assert capsys.readouterr().out.startswith("frozen-lake: 32 updates, ")

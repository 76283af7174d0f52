"""The benchmark of the menu: its configurations, its memory, and a run without learning."""

import json

import pytest

from benchmarks.learning import jobs, menu
from benchmarks.learning.menu import BAR, MENU, config_of, main, table
from fastdqn import presets


def row(task="c51", seed=1, reached=9.9):
    return {"task": task, "seed": seed, **jobs.identity(config_of(task)), "wall_s": 61.4,
            "eval_return_mean": reached, "met": reached >= BAR}  # fmt: skip


def test_every_algorithm_has_the_env_steps_of_catch_and_a_configuration_of_its_own():
    configs = [config_of(name) for name in MENU]
    assert {config.total_env_steps for config in configs} == {presets()["catch"].total_env_steps}
    assert len({config.to_json() for config in configs}) == len(MENU)
    assert {config.head for config in configs} == {"scalar", "c51", "qr", "iqn"}
    assert all(config.eval_epsilon == 0 and config.eval_episodes == 100 for config in configs)


def test_the_table_says_who_met_the_bar():
    line = table([row(), row(seed=2, reached=9.4)]).splitlines()[2]
    assert line.startswith("| C51, double | `head = c51`, `value_min = -3.0`")
    assert line.endswith("| 9.90, 9.40 | 1 of 2 | 61, 61 |")


def test_a_call_runs_only_what_its_file_lacks(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(
        menu, "run_apart", lambda name, seed: (ran.append((name, seed)), row(name, seed))[1]
    )
    out = str(tmp_path / "menu.json")
    main(["--only", "qr", "--seeds", "1", "--out", out])
    main(["--only", "c51", "qr", "--seeds", "1", "2", "--out", out])
    assert ran == [("qr", 1), ("c51", 1), ("c51", 2), ("qr", 2)]
    record = json.loads((tmp_path / "menu.json").read_text())
    assert [(each["task"], each["seed"]) for each in record["runs"]] == [
        ("c51", 1), ("c51", 2), ("qr", 1), ("qr", 2),
    ]  # fmt: skip
    assert capsys.readouterr().out.count("2 of 2") == 2
    main(["--report", "--out", out])
    assert len(ran) == 4 and capsys.readouterr().out.count("2 of 2") == 2


def test_without_a_file_there_is_nothing_to_report(tmp_path):
    out = str(tmp_path / "none.json")
    with pytest.raises(SystemExit, match=f"^There is no {out} yet; leave --report out.$"):
        main(["--report", "--out", out])


def test_the_smoke_goes_through_an_algorithm(capsys):
    main(["--smoke", "--only", "noisy"])
    assert capsys.readouterr().out.startswith("noisy: 16 updates, ")

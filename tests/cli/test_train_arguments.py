"""The options of ``fastdqn train``, and the configuration they come to."""

import re

import pytest

from fastdqn.cli.help import guide_of
from fastdqn.cli.main import COMMANDS, main
from fastdqn.cli.train_arguments import COMMON, train_config
from fastdqn.config.config import Config
from fastdqn.config.fields import fields_of
from fastdqn.config.groups import GROUPS
from fastdqn.config.presets import preset
from fastdqn.errors import ConfigError

OPTIONS = """
    atari-frame-size atari-frame-skip atari-full-action-space atari-max-episode-frames
    atari-noop-max atari-protocol atari-sticky-actions atoms batch-norm batch-size checkpoint-keep
    checkpoint-keep-best checkpoint-period-env-steps checkpoint-replay config deterministic
    device double dry-run dueling env-id env-kwargs env-threads env-vectorization
    epsilon-duration-env-steps epsilon-end epsilon-schedule epsilon-start eval-episodes
    eval-epsilon eval-max-env-steps eval-num-envs eval-patience-env-steps eval-period-env-steps
    frame-stack gamma head help help-all hidden-sizes huber-delta image-layout impala-width init
    initial initial-torso-only iqn-cosines iqn-cvar iqn-policy-samples iqn-samples
    iqn-target-samples layer-norm learning-rate learning-rate-final learning-starts-env-steps
    lock-timeout-s log-period-env-steps logger loss max-grad-norm max-grad-value max-wall-s mode
    munchausen
    munchausen-alpha munchausen-clip munchausen-policy munchausen-temperature n-step network
    no-atari-full-action-space no-batch-norm no-checkpoint-keep-best no-deterministic no-double
    no-dueling no-initial-torso-only no-layer-norm no-munchausen no-noisy no-normalize-observations
    no-prioritized no-replan-schedules no-rmsprop-centred no-save-final-checkpoint
    no-store-uint8 noisy noisy-sigma normalize-observations num-envs observation-keys
    observation-scale optimizer optimizer-epsilon padding precision prioritized priority-alpha
    priority-beta-end priority-beta-start priority-epsilon quantiles random-shift
    record-period-env-steps replan-schedules replay-capacity resume reward-clip rmsprop-alpha
    rmsprop-centred run-dir
    save-final-checkpoint schedule-env-steps seed step-timeout-s stop-eval-return stop-return
    stop-window store-uint8 target-period-updates target-tau torch-threads total-env-steps
    update-period-env-steps updates-per-launch value-max value-min
"""


def test_the_options_of_train_are_frozen():
    # Scripts out there use them. Change this list only together with CHANGELOG.md.
    options = guide_of(COMMANDS["train"].run).options
    found = [word for option in options if not option.positional for word in option.words]
    assert sorted([*found, "help", "help-all"]) == OPTIONS.split()


def shown_by_groups(page):
    found, group = {}, ""
    for line in page.splitlines():
        if re.fullmatch(r"[a-z]+", line):
            group = line
        elif option := re.match(r"  --(?:\[no-\])?([a-z][a-z0-9-]*)", line):
            found.setdefault(group, []).append(option[1].replace("-", "_"))
    return found


def test_the_long_help_shows_every_option_in_its_group(capsys):
    main(["train", "--help-all"])
    found = shown_by_groups(capsys.readouterr().out)
    assert found.pop("")[:2] == ["config", "dry_run"]  # no fields
    assert found == {name: list(fields_of(kind)) for name, kind in GROUPS.items()}


def test_the_short_help_shows_what_most_people_set_by_the_same_groups(capsys):
    main(["train", "--help"])
    page = capsys.readouterr().out
    found = shown_by_groups(page)
    assert list(found) == ["", *GROUPS]
    for name in GROUPS:
        assert len(found[name]) > 0 and set(found[name]) <= set(fields_of(GROUPS[name]))
    assert {name for names in found.values() for name in names} == {*COMMON} - {"preset"}
    assert 20 <= len(COMMON) <= 30 and len(page.splitlines()) <= 50
    count = len(guide_of(COMMANDS["train"].run).options)
    assert page.splitlines()[-1] == f"'fastdqn train --help-all' shows all {count} options."


@pytest.mark.parametrize("columns", ["60", "80", "120", "300"])
@pytest.mark.parametrize("word", ["--help", "--help-all"])
def test_help_is_as_wide_as_the_terminal_and_no_wider_than_can_be_read(
    word, columns, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", columns)
    main(["train", word])
    lines = capsys.readouterr().out.splitlines()
    whole = ("example: ", "--network {")  # what shall be copied, and what has no spaces
    widths = [len(line) for line in lines if not line.strip().startswith(whole)]
    assert 53 <= max(widths) <= min(int(columns), 100)


@pytest.mark.parametrize(
    "args", [["dqn-atari", "--help"], ["--help", "dqn-atari"], ["--seed", "3", "dqn-atari", "-h"]]
)
def test_help_shows_the_values_of_the_preset(args, capsys):
    main(["train", *args])
    out = capsys.readouterr().out
    assert "In brackets: the values of the preset dqn-atari." in out
    assert "[6.25e-05]" in out and "[ALE/Pong-v5]" in out
    assert main(["train", "dqn-atar", "--help"]) == 2


def test_help_shows_the_values_of_a_file(tmp_path, capsys):
    path = tmp_path / "my.toml"
    path.write_text('preset = "catch"\nseed = 77\n')
    main(["train", "--config", str(path), "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "my.toml." in out and "[fastdqn/Catch-v0]" in out and "[77]" in out


def test_the_default_is_cartpole():
    assert train_config([])[:2] == (preset("cartpole"), False)
    assert train_config(["cartpole"])[:2] == (preset("cartpole"), False)


@pytest.mark.parametrize(
    ("args", "changes"),
    [
        (["--env-id", "Acrobot-v1"], {"env_id": "Acrobot-v1"}),
        (["--env_id", "Acrobot-v1"], {"env_id": "Acrobot-v1"}),
        (["--env_id=Acrobot-v1"], {"env_id": "Acrobot-v1"}),
        (["--env-kwargs", '{"a": [1, null]}'], {"env_kwargs": {"a": [1, None]}}),
        (["--no-double", "--dueling"], {"double": False, "dueling": True}),
        (["--hidden-sizes", "64", "32"], {"hidden_sizes": (64, 32)}),
        (["--total-env-steps", "1_000_000"], {"total_env_steps": 1_000_000}),
        (["--update-period-env-steps", "2"], {"update_period_env_steps": 2.0}),
        (["--target-period-updates", "None"], {"target_period_updates": None}),
        (["--frame-stack", "4"], {"frame_stack": 4}),
        (["--stop-return", "-20.5"], {"stop_return": -20.5}),
        (["--run-dir=-odd-"], {"run_dir": "-odd-"}),
        (["--resume", "auto", "--run-dir", "x"], {"resume": "auto", "run_dir": "x"}),
    ],
)
def test_options_become_fields(args, changes):
    assert train_config(["cartpole", *args])[:2] == (Config().replace(**changes), False)


def test_options_replace_fields_of_the_preset_wherever_it_stands():
    expected = preset("dqn-atari").replace(seed=7, hidden_sizes=(256,))
    options = ["--hidden-sizes", "256", "--seed", "7"]
    assert train_config(["dqn-atari", *options])[:2] == (expected, False)
    assert train_config([*options, "dqn-atari", "--dry-run"])[:2] == (expected, True)


def test_a_config_file_is_the_base(tmp_path):
    config = preset("catch").replace(env_kwargs={"x": 1}, seed=9)
    path = tmp_path / "my own.json"
    path.write_text(config.to_json())
    for args in (["--config", str(path)], [f"--config={path}"]):
        assert train_config(args)[:2] == (config, False)
        assert train_config([*args, "--seed", "3"])[:2] == (config.replace(seed=3), False)
    with pytest.raises(ConfigError, match="'cartpole' and --config exclude each other"):
        train_config(["--config", str(path), "cartpole"])
    path.write_text('{"seed": 4}')
    assert train_config(["--config", str(path)])[0] == Config(seed=4)
    path.write_text('{"seed": -4}')
    with pytest.raises(ConfigError, match="seed"):
        train_config(["--config", str(path)])


def test_the_config_of_an_earlier_run_starts_a_new_one(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(Config(seed=4, run_dir=str(run)).to_json())
    assert train_config(["--config", str(run)])[0] == Config(seed=4)
    assert train_config(["--config", str(run / "config.json")])[0].run_dir is None
    again = train_config(["--config", str(run), "--run-dir", str(run), "--resume", "require"])[0]
    assert (again.run_dir, again.resume) == (str(run), "require")
    (run / "metrics.csv").touch()  # moved since, or its path was relative to another directory
    (run / "config.json").write_text(Config(seed=4, run_dir="elsewhere").to_json())
    for file in (run, run / "config.json"):
        assert train_config(["--config", str(file)])[0] == Config(seed=4)
    elsewhere = tmp_path / "mine.json"
    elsewhere.write_text(Config(run_dir="wanted").to_json())
    assert train_config(["--config", str(elsewhere)])[0].run_dir == "wanted"

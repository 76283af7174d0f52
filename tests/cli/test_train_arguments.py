"""The options of ``fastdqn train``, and the configuration they come to."""

import re

import pytest

from fastdqn.cli.main import main
from fastdqn.cli.train_arguments import train_config
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
    frame-stack gamma head help hidden-sizes huber-delta image-layout impala-width init initial
    initial-torso-only iqn-cosines iqn-cvar iqn-policy-samples iqn-samples iqn-target-samples
    layer-norm learning-rate learning-rate-final learning-starts-env-steps lock-timeout-s
    log-period-env-steps logger loss max-grad-norm max-grad-value max-wall-s mode munchausen
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


def test_the_options_of_train_are_frozen(capsys):
    # Scripts out there use them. Change this list only together with CHANGELOG.md.
    main(["train", "--help"])
    found = set()
    for line in capsys.readouterr().out.splitlines():
        shown = re.match(r"[│ ]{,3}(-h, )?(--[a-z][a-z0-9-]*)(, --no-[a-z0-9-]+)?", line)
        if shown:
            found |= {name.strip(", -") for name in shown.groups()[1:] if name}
    assert sorted(found) == OPTIONS.split()


def test_help_shows_every_option_in_its_group(capsys):
    main(["train", "--help"])
    found, group = {}, ""
    for line in capsys.readouterr().out.splitlines():
        if title := re.match(r"\W*(\w+) options\W*$", line):
            group = title[1]
        elif option := re.match(r"[│ ]{,3}--([a-z][a-z0-9-]*)", line):
            found.setdefault(group, []).append(option[1].replace("-", "_"))
    del found[""]  # --config and --dry-run, which are no fields
    assert found == {name: list(fields_of(kind)) for name, kind in GROUPS.items()}


def test_help_shows_the_defaults_of_the_preset(capsys):
    main(["train", "dqn-atari", "--help"])
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Defaults are those of dqn-atari." in out
    assert "(default: 6.25e-05)" in out
    assert "PRESET" in out
    assert "(default: cartpole)" in out


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

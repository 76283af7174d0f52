"""The command line: commands, exit codes, messages, and what it does not import."""

import json
import os
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

import fastdqn
from fastdqn.cli import arguments
from fastdqn.cli import main as command_line
from fastdqn.cli.main import main, train_config
from fastdqn.config.config import Config
from fastdqn.config.presets import describe_presets, preset
from fastdqn.errors import ConfigError, EnvError, MemoryPlanError, TrainingError

SUMMARY = {
    "env_steps": 100_000,
    "updates": 24_750,
    "episodes": 431,
    "wall_s": 21.4,
    "env_steps_per_s": 4_672.9,
    "updates_per_s": 1_156.5,
    "frames_per_s": 4_672.9,
    "replay_ratio": 8.0,
    "eval_return_mean": 500.0,
    "eval_return_std": 0.0,
    "eval_episodes": 100,
    "reward_threshold": 475.0,
    "solved": True,
    "device": "cpu",
    "versions": {},
    "stopped_by": "total_env_steps",
}


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _python(*args: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *args],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        **kwargs,
    )


def _install(monkeypatch, name: str, **members) -> types.ModuleType:
    """Put a module of our own in the place of ``fastdqn.<name>``."""
    module = types.ModuleType(f"fastdqn.{name}")
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, f"fastdqn.{name}", module)
    monkeypatch.setattr(fastdqn, name, module, raising=False)
    return module


@pytest.fixture
def trainer(monkeypatch, tmp_path):
    """A trainer that only notes what it is asked for; ``trainer.summary`` is what it returns."""

    def train_until_stopped(config, *, on_log, signals, own_process):
        assert signals.name is None and own_process
        module.configs.append(config)
        for env_steps in (8, config.total_env_steps):
            module.answers.append(
                on_log.logged({"env_steps": env_steps, "env_steps_per_s": 1_000.0})
            )
        if module.error is not None:
            raise module.error
        return types.SimpleNamespace(
            run_dir=tmp_path / "run", summary={**SUMMARY, **module.summary}, policy=None
        )

    def describe(config):
        module.configs.append(config)
        return "the plan"

    module = _install(
        monkeypatch,
        "trainer",
        train_until_stopped=train_until_stopped,
        configs=[],
        answers=[],
        summary={},
        error=None,
    )
    _install(monkeypatch, "assembly", describe=describe)
    return module


def _refusal(args: list[str], capsys, code: int = 2) -> str:
    """The message of a refused command line, without the prefix."""
    assert main(args) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("fastdqn: error: ")
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("fastdqn: error: ").rstrip("\n")


# --- commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_every_command_and_has_examples(args, capsys):
    assert main(args) == 0
    out = capsys.readouterr().out
    for name, command in main.COMMANDS.items():
        assert f"fastdqn {command.usage}" in out
        assert command.usage.startswith(name)
    assert "examples:" in out
    assert max(map(len, out.splitlines())) <= 80


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastdqn {fastdqn.__version__}\n"


@pytest.mark.parametrize("name", ["train", "eval", "presets", "info"])
def test_every_command_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    printed = capsys.readouterr()
    assert f"usage: fastdqn {name}" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["trian"], ["no command 'trian'", "did you mean 'train'?", "train, eval, presets, info"]),
        (["--versoin"], ["no option '--versoin'", "did you mean '--version'?"]),
        (["cartpole"], ["did you mean 'fastdqn train cartpole'?"]),
        (["zzz"], ["no command 'zzz'; the commands are"]),
        ([""], ["no command ''"]),
        (["train", "dqn-atar"], ["no preset 'dqn-atar'", "did you mean 'dqn-atari'?"]),
        (["train", "--seed", "3", "cartpol"], ["no preset 'cartpol'", "'cartpole'"]),
        (["train", "cartpole", "more"], ["takes no argument 'more'"]),
        (["train", "--nume-nvs", "3"], ["'--nume-nvs' is not an option", "'--num-envs'?"]),
        (["train", "--nume_nvs=3"], ["'--nume_nvs' is not an option", "'--num-envs'?"]),
        (["train", "--no-doubel"], ["did you mean '--no-double'?"]),
        (["train", "--lr", "1e-3"], ["'--lr' is not an option", "'--learning-rate'?"]),
        (["train", "--env", "x"], ["did you mean '--env-id'?"]),
        (["train", "--total-timesteps", "5"], ["did you mean '--total-env-steps'?"]),
        (["train", "--qqqqqq"], ["'fastdqn train --help' lists the options"]),
        (["train", "-x"], ["'-x' is not an option"]),
        (["train", "--seed"], ["seed needs a value"]),
        (["train", "--seed="], ["seed needs a value"]),
        (
            ["train", "--hidden-sizes", "64", "wide"],
            [
                "hidden_sizes = '64 wide'",
                "has the wrong type; use whole numbers (on the command line",
            ],
        ),
        (
            ["train", "--frame-stack", "four"],
            ["frame_stack = 'four'", "use a whole number in digits or None"],
        ),
        (["train", "--env-kwargs", "{"], ["env_kwargs = '{'", "use a JSON object"]),
        (["train", "--env-kwargs", "[1]"], ["env_kwargs = '[1]'", "use a JSON object"]),
        (["train", "--mode", "Eager"], ["mode = 'Eager'", "did you mean 'eager'?"]),
        (
            ["train", "--batch_size", "x"],
            ["batch_size = 'x' has the wrong type; use a whole number in digits."],
        ),
        (
            ["train", "--batch-size=x"],
            ["batch_size = 'x' has the wrong type; use a whole number in digits."],
        ),
        (["train", "--seed", "1", "--seed", "-1"], ["seed = -1 is out of range"]),
        (
            ["train", "--preset", "catch"],
            ["'fastdqn train' takes its PRESET without '--preset'; leave that out"],
        ),
        (["train", "--presett", "x"], ["'fastdqn train'; did you mean '--resume'?"]),
        (["train", "--config", "no/such.json"], ["no/such.json cannot be read"]),
        (["train", "--config"], ["config needs a value"]),
        (["train", "--env-id", "CartPoel-v1"], ["no env 'CartPoel-v1'", "'CartPole-v1'?"]),
        (["train", "--env-id", "ALE/Brekout-v5"], ["no env 'ALE/Brekout-v5'"]),
        *(
            (["train", "--env-id", name], [f"no env {name!r} (did you mean 'ALE/{game}-v5'?)"])
            for name, game in (
                ("Breakout-v5", "Breakout"),
                ("pong", "Pong"),
                ("ms_pacman-v0", "MsPacman"),
            )
        ),
        (["train", "cartpole", "--config", "x"], ["'cartpole' and --config exclude each other"]),
        (["eval"], ["fastdqn eval needs RUN"]),
        (["eval", "no/such/run"], ["no/such/run does not exist"]),
        (["eval", "run", "--episodes", "0"], ["episodes = 0 is out of range"]),
        (["eval", "run", "--episodes", "many"], ["episodes = 'many'", "use a whole number"]),
        (["eval", "run", "--episode", "3"], ["did you mean '--episodes'?"]),
        (["eval", "run", "run2"], ["takes no argument 'run2'"]),
        (["presets", "all"], ["takes no argument 'all'"]),
        (["info", "--jsno"], ["did you mean '--json'?"]),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(args, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    message = _refusal(args, capsys)
    for word in words:
        assert word in message
    assert message[-1] in ".?"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("columns", ["20", "80", "300"])
def test_messages_do_not_depend_on_the_terminal(encoding, colour, columns, capsys, monkeypatch):
    # tyro draws its boxes after the terminal's encoding, colours and width.
    import io

    class Screen(io.TextIOWrapper):
        def isatty(self):
            return colour

    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Screen(io.BytesIO(), encoding=encoding))
    assert main(["train", "--num-envs", "eight"]) == 2
    err = capsys.readouterr().err
    assert (
        err
        == "fastdqn: error: num_envs = 'eight' has the wrong type; use a whole number in digits.\n"
    )


def test_what_tyro_says_in_words_we_do_not_know_is_passed_on():
    box = "╭─ Title ─╮\n│ Something else │\n│ went wrong. │\n│ ───── │\n│ See --help │\n╰────╯\n"
    error = arguments.complaint(box, command_line._InfoFlags, [], "fastdqn info")
    assert str(error) == "Something else went wrong."
    assert str(arguments.complaint("", command_line._InfoFlags, [], "fastdqn info"))


def test_presets_lists_every_preset(capsys):
    assert main(["presets"]) == 0
    out = capsys.readouterr().out
    for name, line in describe_presets().items():
        assert f"{name}\n    {line}\n" in out
    assert "ALE/Pong-v5, 16 envs, 10,000,000 env steps" in out
    assert "fastdqn train PRESET" in out


def test_info(capsys):
    pytest.importorskip("torch")
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for word in ("torch", "gymnasium", "CPU", "memory", "usable", "Atari (ALE)", "bf16"):
        assert word in text
    assert main(["info", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["versions"]["fastdqn"] == fastdqn.__version__
    assert body["cpus_usable"] >= 1


def test_info_shows_gpus_and_gaps(capsys, monkeypatch):
    from fastdqn.system import info

    found = {
        "versions": {"python": "3", "ale-py": None},
        "git_commit": None,
        "platform": "Linux",
        "cpu": "x",
        "cpus_usable": 2,
        "torch_threads": None,
        "memory_total_bytes": None,
        "memory_available_bytes": None,
        "cgroup_limit_bytes": 2_000_000_000,
        "bf16_cpu": None,
        "gpus": [
            {
                "name": "NVIDIA H200",
                "compute_capability": "9.0",
                "memory_total_bytes": 150_000_000_000,
                "memory_free_bytes": 149_000_000_000,
                "bf16": True,
                "driver": None,
            }
        ],
        "ale": False,
    }
    monkeypatch.setattr(info, "environment", lambda: found)
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "NVIDIA H200, 150.0 GB, 149.0 GB free, compute capability 9.0, bf16 yes" in out
    assert "control group limit 2.0 GB" in out
    assert "pip install 'fastdqn[atari]'" in out


# --- options of train ----------------------------------------------------------------------------

OPTIONS = """
    atari-frame-skip atari-full-action-space atari-max-episode-frames atari-noop-max
    atari-protocol batch-norm batch-size checkpoint-keep checkpoint-keep-best
    checkpoint-period-env-steps checkpoint-replay config deterministic device double dry-run
    dueling env-id env-kwargs env-threads env-vectorization epsilon-duration-env-steps
    epsilon-end epsilon-schedule epsilon-start eval-episodes eval-epsilon eval-max-env-steps
    eval-num-envs eval-patience-env-steps eval-period-env-steps frame-stack gamma help
    hidden-sizes huber-delta impala-width initial initial-torso-only learning-rate
    learning-rate-final learning-starts-env-steps lock-timeout-s log-period-env-steps loss
    max-grad-norm max-grad-value max-wall-s mode n-step network no-atari-full-action-space
    no-batch-norm no-checkpoint-keep-best no-deterministic no-double no-dueling
    no-initial-torso-only no-prioritized no-replan-schedules no-rmsprop-centred
    no-save-final-checkpoint num-envs optimizer optimizer-epsilon precision prioritized
    priority-alpha priority-beta-end priority-beta-start priority-epsilon replan-schedules
    replay-capacity resume reward-clip rmsprop-alpha rmsprop-centred run-dir
    save-final-checkpoint schedule-env-steps seed step-timeout-s stop-eval-return stop-return
    stop-window target-period-updates target-tau torch-threads total-env-steps
    update-period-env-steps updates-per-launch
"""


def test_the_options_of_train_are_frozen(capsys):
    # Scripts out there use them. Change this list only together with CHANGELOG.md.
    main(["train", "--help"])
    found = set()
    for line in capsys.readouterr().out.splitlines():
        shown = re.match(r"[│ ]{,3}(-h, )?(--[a-z][a-z-]*)(, --no-[a-z-]+)?", line)
        if shown:
            found |= {name.strip(", -") for name in shown.groups()[1:] if name}
    assert sorted(found) == OPTIONS.split()


def test_help_shows_the_defaults_of_the_preset(capsys):
    main(["train", "dqn-atari", "--help"])
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Defaults are those of dqn-atari." in out
    assert "(default: 6.25e-05)" in out
    assert "PRESET" in out
    assert "(default: cartpole)" in out


def test_the_default_is_cartpole():
    assert train_config([]) == (preset("cartpole"), False)
    assert train_config(["cartpole"]) == (preset("cartpole"), False)


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
    assert train_config(args) == (Config().replace(**changes), False)


def test_options_replace_fields_of_the_preset_wherever_it_stands():
    expected = preset("dqn-atari").replace(seed=7, hidden_sizes=(256,))
    options = ["--hidden-sizes", "256", "--seed", "7"]
    assert train_config(["dqn-atari", *options]) == (expected, False)
    assert train_config([*options, "dqn-atari", "--dry-run"]) == (expected, True)


def test_a_config_file_is_the_base(tmp_path):
    config = preset("catch").replace(env_kwargs={"x": 1}, seed=9)
    path = tmp_path / "my own.json"
    path.write_text(config.to_json())
    for args in (["--config", str(path)], [f"--config={path}"]):
        assert train_config(args) == (config, False)
        assert train_config([*args, "--seed", "3"]) == (config.replace(seed=3), False)
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


# --- train ---------------------------------------------------------------------------------------


def test_dry_run_prints_the_plan_and_does_not_run(trainer, capsys):
    assert main(["train", "--seed", "3", "--dry-run"]) == 0
    assert capsys.readouterr().out == "the plan\n"
    assert trainer.configs == [preset("cartpole").replace(seed=3)]
    assert trainer.answers == []


def test_train_shows_progress_and_closes_with_the_result(trainer, capsys, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "returns.png").touch()
    (run / "metrics.csv").touch()
    assert main(["train", "--seed", "3"]) == 0
    assert trainer.configs == [preset("cartpole").replace(seed=3)]
    assert trainer.answers == [None, None]  # True would stop the run
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0] == "CartPole-v1, seed 3"
    assert lines[-5].startswith("100,000/100,000 (100%)")
    assert lines[-4:] == [
        "solved: 500.0 +- 0.0 over 100 greedy episodes, threshold 475",
        "100,000 env steps and 24,750 updates in 21.4 s; while training 4,673 env steps/s, 1,156 "
        "updates/s, "
        "replay ratio 8",
        f"files: {run} (returns.png, metrics.csv)",
        f"evaluate again: fastdqn eval {run}",
    ]


@pytest.mark.parametrize(
    ("args", "summary", "line"),
    [
        ([], {"solved": False, "eval_return_mean": 312.44, "eval_return_std": 80.06},
         "not solved: 312.4 +- 80.1 over 100 greedy episodes, threshold 475"),
        ([], {"solved": None, "reward_threshold": None},
         "return: 500.0 +- 0.0 over 100 greedy episodes"),
        (["--eval-epsilon", "0.05"], {},
         "solved: 500.0 +- 0.0 over 100 episodes at epsilon 0.05, threshold 475"),
        ([], {"eval_unfinished_episodes": 3},
         "solved: 500.0 +- 0.0 over 100 greedy episodes (3 of them cut short), threshold 475"),
        ([], {"eval_env_steps": 90_000, "solved": None},
         "newest evaluation, at 90,000 env steps: 500.0 +- 0.0 over 100 greedy episodes"),
    ],
)  # fmt: skip
def test_the_verdict(trainer, capsys, args, summary, line):
    trainer.summary = summary
    assert main(["train", *args]) == 0
    assert line in capsys.readouterr().out.splitlines()


def test_without_evaluation_there_is_no_verdict(trainer, capsys):
    trainer.summary = {
        "eval_episodes": 0,
        "eval_return_mean": None,
        "eval_return_std": None,
        "solved": None,
    }
    assert main(["train"]) == 0
    assert "solved" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stopped_by", "code"),
    [
        ("total_env_steps", 0),
        ("stop_return", 0),
        ("on_log", 0),
        ("SIGINT", 130),
        ("SIGTERM", 143),
        ("SIGUSR1", 138),
    ],
)
def test_exit_code_of_a_run_that_was_stopped(trainer, capsys, stopped_by, code):
    trainer.summary = {"stopped_by": stopped_by}
    assert main(["train"]) == code
    out = capsys.readouterr().out
    assert ("--resume require" in out) == (code != 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("seed = 3 is odd."), 2),
        (EnvError("There is no env."), 2),
        (MemoryPlanError("It does not\n  fit."), 2),
        (TrainingError("The loss is nan at update 7."), 1),
    ],
)
def test_an_error_of_ours_is_one_line_and_no_traceback(trainer, capsys, error, code):
    trainer.error = error
    assert main(["train"]) == code
    assert capsys.readouterr().err == f"fastdqn: error: {' '.join(str(error).split())}\n"


def test_any_other_error_is_a_fault_and_keeps_its_traceback(trainer, capsys):
    trainer.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        main(["train"])


def test_ctrl_c_before_the_loop_is_130(trainer, capsys):
    trainer.error = KeyboardInterrupt()
    assert main(["train"]) == 130
    assert capsys.readouterr().err == "fastdqn: stopped by SIGINT\n"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]
)
def test_a_signal_before_the_loop(trainer, monkeypatch, number, code):
    before = signal.getsignal(number)
    kill = lambda *_, **__: os.kill(os.getpid(), number)  # noqa: E731
    monkeypatch.setattr(trainer, "train_until_stopped", kill)
    assert main(["train"]) == code
    assert signal.getsignal(number) is before


def test_what_needs_no_torch_is_refused_before_it_is_imported(trainer, tmp_path, capsys):
    (tmp_path / "mine").touch()
    assert "is not empty" in _refusal(["train", "--run-dir", str(tmp_path)], capsys)
    assert "is a file" in _refusal(["train", "--run-dir", str(tmp_path / "mine")], capsys)
    assert "name it with run_dir" in _refusal(["train", "--resume", "auto"], capsys)
    assert trainer.configs == []


def test_cuda_on_a_cpu_build_is_refused_by_its_version(trainer, monkeypatch, capsys):
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.13.0+cpu")
    assert "is a build for CPUs" in _refusal(["train", "--device", "cuda:0"], capsys)
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.13.0")
    assert main(["train", "--device", "cuda:0"]) == 0  # left to the trainer


def test_a_finished_run_is_not_run_again(trainer, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    args = ["train", "--run-dir", str(run), "--resume", "auto"]
    (run / "config.json").write_text(Config(run_dir=str(run)).to_json())
    assert main(args) == 0 and len(trainer.configs) == 1  # it died early
    (run / "summary.json").write_text(json.dumps({**SUMMARY, "stopped_by": "SIGTERM"}))
    assert main(args) == 0 and len(trainer.configs) == 2  # the final evaluation is owed
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    capsys.readouterr()
    assert main(args) == 0 and len(trainer.configs) == 2
    out = capsys.readouterr().out
    assert "this run is finished (total_env_steps reached at 100,000 env steps)\nsolved:" in out
    assert main([*args, "--total-env-steps", "200_000"]) == 0 and len(trainer.configs) == 3
    assert main([*args, "--gamma", "0.5"]) == 2  # another run's directory
    (run / "summary.json").write_text(json.dumps({**SUMMARY, "stopped_by": "stop_return"}))
    assert main(args) == 0 and len(trainer.configs) == 3
    assert main([*args, "--stop-return", "600"]) == 0 and len(trainer.configs) == 4
    (run / "summary.json").write_text(json.dumps({**SUMMARY, "stopped_by": "stop_eval_return"}))
    assert main(args) == 0 and len(trainer.configs) == 4
    more = ["--stop-eval-return", "600", "--eval-period-env-steps", "1000"]
    assert main([*args, *more]) == 0 and len(trainer.configs) == 5
    (run / "summary.json").write_text("[]")
    assert main(args) == 0 and len(trainer.configs) == 6


@pytest.mark.parametrize("env_id", ["CartPole", "CartPole-v1", "Acrobot-v1", "no_such_module:X-v0"])
def test_an_env_id_that_may_exist_is_left_to_the_trainer(trainer, env_id):
    assert main(["train", "--env-id", env_id]) == 0
    assert trainer.configs[0].env_id == env_id


def test_without_ale_the_trainer_says_how_to_install_it(trainer, monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)  # importing it fails
    monkeypatch.setattr("gymnasium.envs.registration.registry", {})
    assert main(["train", "dqn-atari"]) == 0


def test_frames_are_shown_for_ale_only(trainer, capsys):
    main(["train", "dqn-atari"])
    assert "4,000 frames/s" in capsys.readouterr().out
    main(["train"])
    assert "frames/s" not in capsys.readouterr().out


# --- eval ----------------------------------------------------------------------------------------


@pytest.fixture
def evaluation(monkeypatch, tmp_path):
    """A run of 4 envs, and stand-ins that note how they are called."""
    calls: dict = {"closed": 0, "run": tmp_path / "run"}
    checkpoint = tmp_path / "run" / "checkpoints" / "step_000000000008"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").touch()
    config = Config(eval_num_envs=4, eval_epsilon=0.0, eval_max_env_steps=1_000)
    (tmp_path / "run" / "config.json").write_text(config.to_json())

    def load(path, *, device, checkpoint):
        calls["load"] = (str(path), device, checkpoint)
        return types.SimpleNamespace(network="network", device=torch.device("cpu"))

    from fastdqn.training import playing  # with the real modules; then it gets the stand-ins

    def set_up_torch(config, network, device):
        calls["torch"] = (network, device)

    def make_stream(config, *, num_envs, evaluation):
        calls["stream"] = (config, num_envs, evaluation)

        def close():
            calls["closed"] += 1

        return types.SimpleNamespace(close=close)

    def evaluate(policy, envs, **kwargs):
        calls["evaluate"] = kwargs
        if "error" in calls:
            raise calls["error"]
        returns = np.array([1.0, 3.0])
        return types.SimpleNamespace(
            returns=returns, lengths=np.array([10, 30]), mean=2.0, std=1.0, episodes=2,
            unfinished=1, given_up="after 1,000 env steps",
        )  # fmt: skip

    saved_policy = _install(monkeypatch, "saved_policy", load=load)
    assembly = _install(
        monkeypatch,
        "assembly",
        make_stream=make_stream,
        set_up_torch=set_up_torch,
        eval_patience=lambda config, envs: 777,
        keep_memory_for=lambda *args: calls.update(memory=args),
    )
    _install(monkeypatch, "evaluation", evaluate=evaluate)
    monkeypatch.setattr(playing, "saved_policy", saved_policy)
    monkeypatch.setattr(playing, "assembly", assembly)
    return calls


def test_eval_plays_as_the_run_did(evaluation, capsys):
    run = evaluation["run"]
    assert main(["eval", str(run)]) == 0
    assert capsys.readouterr().out == (
        "CartPole-v1: 2.0 +- 1.0 over 2 greedy episodes (1 of them cut short: after 1,000 env "
        "steps)\n"
    )
    assert evaluation["load"] == (str(run), "auto", None)
    config, num_envs, is_evaluation = evaluation["stream"]
    assert (num_envs, is_evaluation) == (4, True)
    assert config.env_id == "CartPole-v1"
    assert evaluation["evaluate"] == {
        "episodes_per_env": 25,
        "epsilon": 0.0,
        "max_env_steps": 1_000,
        "patience_env_steps": 777,
        "seed": 2**30 + 1,
        "stop": evaluation["evaluate"]["stop"],
    }
    assert evaluation["torch"] == evaluation["memory"] == ("network", torch.device("cpu"))
    assert evaluation["closed"] == 1


def test_eval_options(evaluation, capsys):
    checkpoint = evaluation["run"] / "checkpoints" / "step_000000000008"
    args = ["--episodes", "7", "--epsilon", "0.05", "--num-envs", "3", "--seed", "5"]
    args += ["--step-timeout-s", "7"]
    assert main(["eval", str(checkpoint), *args, "--device", "cpu", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["return_mean"] == 2.0
    assert body["returns"] == [1.0, 3.0]
    assert body["lengths"] == [10, 30]
    assert body["epsilon"] == 0.05
    assert evaluation["load"] == (str(checkpoint), "cpu", None)
    assert evaluation["stream"][1] == 3
    assert evaluation["stream"][0].step_timeout_s == 7
    assert evaluation["evaluate"]["episodes_per_env"] == 3
    assert evaluation["evaluate"]["seed"] == 2**30 + 5, "an episode that training never plays"


@pytest.mark.parametrize(
    ("args", "env_id", "kwargs"),
    [
        ([], "CartPole-v1", {"a": 1}),
        (["--env-id", "CartPole-v1"], "CartPole-v1", {"a": 1}),
        (["--env-id", "CartPole-v0"], "CartPole-v0", {}),
        (["--env-id", "CartPole-v0", "--env-kwargs", '{"b": 2}'], "CartPole-v0", {"b": 2}),
        (["--env-kwargs", "{}"], "CartPole-v1", {}),
        (["--env-id", "a_module:X-v0"], "a_module:X-v0", {}),  # whoever types it wants it
    ],
)
def test_eval_in_another_env(evaluation, args, env_id, kwargs):
    run = evaluation["run"]
    (run / "config.json").write_text(Config(env_kwargs={"a": 1}).to_json())
    assert main(["eval", str(run), *args]) == 0
    found = evaluation["stream"][0]
    assert (found.env_id, found.env_kwargs) == (env_id, kwargs)


def test_eval_in_another_game_goes_by_the_rules_of_the_run(evaluation):
    run = evaluation["run"]
    config = Config(env_id="ALE/Pong-v5", atari_protocol="classic", atari_noop_max=7)
    (run / "config.json").write_text(config.to_json())
    assert main(["eval", str(run), "--env-id", "ALE/Breakout-v5"]) == 0
    found = evaluation["stream"][0]
    assert (found.env_id, found.atari_protocol, found.atari_noop_max) == (
        "ALE/Breakout-v5",
        "classic",
        7,
    )
    assert main(["eval", str(run), "--env-id", "CartPole-v1"]) == 0  # which has none
    assert evaluation["stream"][0].atari_protocol == "machado"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--env-id", "CartPoel-v1"], "did you mean 'CartPole-v1'"),
        (["--env-kwargs", "[1]"], "env_kwargs"),
        (["--checkpoint", "best"], "no checkpoint with a score"),
        (["--checkpoint", "9"], "no checkpoint of 9 env steps; there are 8"),
    ],
)
def test_eval_refuses_what_is_not_there(evaluation, capsys, args, words):
    for command in ("eval", "saliency"):
        assert words in _refusal([command, str(evaluation["run"]), *args], capsys)
    assert "load" not in evaluation


def test_eval_of_a_checkpoint_that_is_named(evaluation):
    assert main(["eval", str(evaluation["run"]), "--checkpoint", "8"]) == 0
    assert evaluation["load"] == (str(evaluation["run"]), "auto", 8)


def test_eval_takes_no_more_envs_than_episodes(evaluation):
    assert main(["eval", str(evaluation["run"]), "--episodes", "1"]) == 0
    assert evaluation["stream"][1] == 1
    assert evaluation["evaluate"]["episodes_per_env"] == 1


def test_eval_closes_the_envs_after_an_error(evaluation, capsys):
    evaluation["error"] = EnvError("It broke.")
    assert main(["eval", str(evaluation["run"])]) == 2
    assert evaluation["closed"] == 1


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--epsilon", "2"], "eval_epsilon"),
        (["--num-envs", "0"], "eval_num_envs"),
        (["--seed", "-1"], "seed"),
        (["--device", "gpu"], "device"),
        (["--step-timeout-s", "0"], "step_timeout_s"),
    ],
)
def test_eval_checks_ranges(evaluation, capsys, args, word):
    assert _refusal(["eval", str(evaluation["run"]), *args], capsys).startswith(word)
    assert "load" not in evaluation


def test_eval_of_what_is_no_run(tmp_path, capsys):
    assert "holds no run" in _refusal(["eval", str(tmp_path)], capsys)


@pytest.mark.parametrize("command", ["eval", "saliency"])
def test_the_module_that_a_run_names_is_not_imported_without_leave(command, tmp_path):
    (tmp_path / "config.json").write_text(Config(env_id="payload:CartPole-v1").to_json())
    (tmp_path / "payload.py").write_text("open('ran', 'w').close()")
    done = _python("-m", "fastdqn", command, str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2 and not (tmp_path / "ran").exists()
    assert done.stderr == (
        "fastdqn: error: env_id = 'payload:CartPole-v1' in the configuration of "
        f"{tmp_path} imports the module 'payload'; add --allow-env-import if you trust it.\n"
    )


@pytest.mark.parametrize("command", ["eval", "saliency"])
def test_a_signal_within_an_import_is_not_lost(tmp_path, command):
    """An exception out of a handler surfaces anywhere: libraries catch it there, or break."""
    (tmp_path / "config.json").write_text(Config().to_json())
    (tmp_path / "checkpoints" / "step_000000000008").mkdir(parents=True)
    program = (
        "import os, signal, sys\n"
        "class Catches:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            try: os.kill(os.getpid(), signal.SIGTERM)\n"
        "            except BaseException: pass\n"
        "sys.meta_path.insert(0, Catches())\n"
        "from fastdqn.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = _python("-c", program, command, str(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (143, "fastdqn: stopped by SIGTERM\n")


# --- as a process --------------------------------------------------------------------------------


def test_imports_are_lazy():
    names = "torch torchrl tensordict ale_py matplotlib rich numpy gymnasium safetensors"
    program = (
        "import sys, fastdqn\n"
        "bare = set(sys.modules)\n"
        "fastdqn.Config, fastdqn.presets, fastdqn.ConfigError\n"
        "import fastdqn.cli.main, fastdqn.cli.progress, fastdqn.plotting.one_run\n"
        "import fastdqn.system.info, fastdqn.system.signals\n"
        f"found = [name for name in '{names}'.split() if name in sys.modules]\n"
        "print(found, 'tyro' in bare)\n"
    )
    done = _python("-c", program)
    assert done.stderr == ""
    assert done.stdout == "[] False\n"


def test_bad_input_ends_without_torch():
    program = (
        "import sys\n"
        "from fastdqn.cli.main import main\n"
        "codes = [main(line.split()) for line in sys.stdin.read().splitlines()]\n"
        "print(codes, 'torch' in sys.modules)\n"
    )
    lines = ["trian", "train nope", "train --nope", "train --gamma 2", "train --num-envs x",
             "train --config nope", "train --env-id CartPoel-v1", "eval nope"]  # fmt: skip
    done = _python("-c", program, input="\n".join(lines))
    assert done.stdout == f"{[2] * len(lines)} False\n"
    assert done.stderr.count("fastdqn: error: ") == done.stderr.count("\n") == len(lines)


def test_a_bad_command_in_a_process_of_its_own():
    done = _python("-m", "fastdqn", "train", "--gamma", "2")
    assert done.returncode == 2
    assert done.stderr.startswith("fastdqn: error: gamma = 2.0 is out of range")


def test_a_reader_that_leaves_early_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-c", "import time, sys; time.sleep(0.3)\n"
         "from fastdqn.cli.main import main; sys.exit(main(['presets']))"],
        env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("args", [["presets"], ["train", "--help"], ["eval", "--help"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stdout_is_one_sentence_and_exit_code_1(args, unbuffered):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastdqn", *args],
            env={**_environment(), "PYTHONUNBUFFERED": unbuffered},
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1,
        "fastdqn: error: standard output cannot be written (No space left on device); make room, "
        "or send it elsewhere.\n",
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("stdout", ["full", "closed"])
def test_a_lost_stdout_takes_nothing_from_a_run(stdout, tmp_path):
    args = ["train", "--run-dir", str(tmp_path / "run"), *SHORT]
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full, os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "fastdqn", *args],
            env=_environment(), stdout={"full": full, "closed": closed}[stdout],
            stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["env_steps"] == 600


def test_a_stopped_run_that_nobody_reads_keeps_its_exit_code(tmp_path):
    """``fastdqn train | head -1``, and then SIGTERM: the script must not take it for finished."""
    args = ["train", "--run-dir", str(tmp_path / "run"), "--total-env-steps", "100_000_000",
            "--log-period-env-steps", "200", "--device", "cpu"]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "fastdqn", *args],
        env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "CartPole-v1, seed 1\n"
        process.stdout.close()
        process.terminate()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 143, err
    assert err == "SIGTERM: stopping after this step and saving; again to quit at once\n"


@pytest.mark.skipif(os.name != "posix", reason="closes file descriptors")
@pytest.mark.parametrize("closed", [1, 2])
def test_closed_streams_are_no_error(closed):
    program = (
        "import sys; from fastdqn.cli.main import main; sys.exit(main(['train', '--gamma', '2']))"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}>&-', sys.executable, program],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert ("gamma = 2.0 is out of range" in done.stderr) == (closed == 1)
    assert "Traceback" not in done.stderr


# --- with the real trainer -----------------------------------------------------------------------

SHORT = ["--total-env-steps", "600", "--learning-starts-env-steps", "100", "--eval-episodes", "4",
         "--eval-num-envs", "2", "--device", "cpu"]  # fmt: skip


def test_eval_repeats_the_evaluation_of_the_run(tmp_path, capsys):
    pytest.importorskip("torch")
    run = tmp_path / "my run"
    assert main(["train", "--run-dir", str(run), "--eval-epsilon", "0.2", *SHORT]) == 0
    out = capsys.readouterr().out
    assert "over 4 episodes at epsilon 0.2, threshold 475" in out
    assert f"files: {run} (returns.png, metrics.csv, evaluations.csv, summary.json, " in out
    assert " checkpoints)" in out
    assert f"evaluate again: fastdqn eval '{run}'" in out
    summary = json.loads((run / "summary.json").read_text())
    assert main(["eval", str(run), "--episodes", "4", "--device", "cpu", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["return_mean"] == summary["eval_return_mean"]
    assert body["return_std"] == summary["eval_return_std"]
    assert main(["eval", str(run), "--episodes", "4", "--seed", "99", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] != body["returns"]
    # The directory is in use now.
    before = sorted(path.name for path in run.iterdir())
    assert main(["train", "--run-dir", str(run), *SHORT]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert sorted(path.name for path in run.iterdir()) == before


def test_dry_run_writes_nothing(tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--dry-run", *SHORT]) == 0
    assert "replay ratio 16" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_printed_command_goes_on(tmp_path, capsys, number, code):
    pytest.importorskip("torch")
    run = tmp_path / "run"
    args = ["train", "--run-dir", str(run), "--total-env-steps", "100_000_000",
            "--log-period-env-steps", "200", "--device", "cpu"]  # fmt: skip
    program = "import sys; from fastdqn.cli.main import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", program, *args],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "CartPole-v1, seed 1\n"  # the first row has come
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    name = signal.Signals(number).name
    assert err == f"{name}: stopping after this step and saving; again to quit at once\n"
    assert f"stopped by {name}; to go on:\n" in out
    command = out.splitlines()[-1].split()
    assert command[:2] == ["fastdqn", "train"]
    stopped_at = json.loads((run / "summary.json").read_text())["env_steps"]
    more = ["--total-env-steps", str(stopped_at + 80), "--eval-episodes", "0"]
    with pytest.warns(UserWarning, match="in another way than before: mode compile -> eager"):
        assert main([*command[1:], *more]) == 0  # so short a run does not repay compiling
    assert json.loads((run / "summary.json").read_text())["env_steps"] == stopped_at + 80

"""``fastdqn train``: what it shows, its exit codes, what it refuses; mostly without training."""

import json
import os
import signal
import subprocess
import sys
import types

import gymnasium
import pytest
from helpers.command_line import SHORT, environment, install, refusal

from fastdqn.cli.closing import closing
from fastdqn.cli.main import main
from fastdqn.config.config import Config
from fastdqn.config.presets import preset
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


@pytest.fixture
def trainer(monkeypatch, tmp_path):
    """A trainer that only notes what it is asked for; ``trainer.summary`` is what it returns."""

    def train_until_stopped(config, *, callbacks, signals, own_process, lower_replay):
        assert signals.name is None and own_process and lower_replay
        module.configs.append(config)
        for env_steps in (8, config.total_env_steps):
            row = {"env_steps": env_steps, "env_steps_per_s": 1_000.0}
            module.answers.append(callbacks[0].on_log(row))
        if module.error is not None:
            raise module.error
        return types.SimpleNamespace(
            run_dir=tmp_path / "run", summary={**SUMMARY, **module.summary}, policy=None
        )

    def describe(config, *, lower_replay):
        module.configs.append(config)
        return "the plan"

    module = install(
        monkeypatch,
        "training.train",
        train_until_stopped=train_until_stopped,
        configs=[],
        answers=[],
        summary={},
        error=None,
    )
    install(monkeypatch, "training.describe", describe=describe)
    return module


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
    assert lines[0] == "CartPole-v1, seed 3: preset cartpole; loading torch ..."
    assert lines[-7].startswith("100,000/100,000 (100%)")
    assert lines[-6:] == [
        "solved: 500.0 +- 0.0 over 100 greedy episodes, threshold 475",
        "100,000 env steps and 24,750 updates in 21.4 s; while training 4,673 env steps/s, 1,156 "
        "updates/s, "
        "replay ratio 8",
        f"files: {run} (returns.png, metrics.csv)",
        f"evaluate again: fastdqn eval {run}",
        f"a film of it:   fastdqn record {run} --out play.mp4",
        f"a page on it:   fastdqn report {run} --out report.html",
    ]


@pytest.mark.parametrize("modes", [["rgb_array"], []])
def test_what_to_do_next_with_an_env_of_a_module(modes, tmp_path, monkeypatch):
    """It may be imported for that only by leave, and may draw no pictures."""
    (tmp_path / "sketch.py").write_text(
        "import gymnasium\n"
        f"class Sketch(gymnasium.Env):\n    metadata = {{'render_modes': {modes}}}\n"
        "gymnasium.register('Sketch-v0', Sketch)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sketch", raising=False)
    gymnasium.registry.pop("Sketch-v0", None)
    (tmp_path / "tensorboard").mkdir()
    run = str(tmp_path)
    _, _, files, *rest = closing(Config(env_id="sketch:Sketch-v0"), tmp_path, SUMMARY).splitlines()
    gymnasium.registry.pop("Sketch-v0")
    assert files == f"files: {run} (tensorboard)"
    film = [f"a film of it:   fastdqn record {run} --allow-env-import --out play.mp4"]
    assert rest == [
        f"evaluate again: fastdqn eval {run} --allow-env-import",
        *(film if modes else []),
        f"a page on it:   fastdqn report {run} --out report.html",
    ]


@pytest.mark.parametrize("run_dir", [None, "runs/a/b"])
def test_a_place_that_is_shut_is_refused_at_once(run_dir, trainer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    real = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: str(p) != str(tmp_path) and real(p, mode))
    named = [] if run_dir is None else ["--run-dir", run_dir]
    said = refusal(["train", *named], capsys)
    assert said == f"run_dir = {run_dir or 'runs'!r} cannot be written to; name another."
    assert trainer.configs == [] and not (tmp_path / "runs").exists()


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
    assert "is not empty" in refusal(["train", "--run-dir", str(tmp_path)], capsys)
    assert "is a file" in refusal(["train", "--run-dir", str(tmp_path / "mine")], capsys)
    assert "name it with run_dir" in refusal(["train", "--resume", "auto"], capsys)
    assert trainer.configs == []


def test_cuda_on_a_cpu_build_is_refused_by_its_version(trainer, monkeypatch, capsys):
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.13.0+cpu")
    assert "is a build for CPUs" in refusal(["train", "--device", "cuda:0"], capsys)
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
    assert main(["train", "cartpole", "--env-id", env_id]) == 0
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


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("stdout", ["full", "closed"])
def test_a_lost_stdout_takes_nothing_from_a_run(stdout, tmp_path):
    args = ["train", "--run-dir", str(tmp_path / "run"), *SHORT]
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full, os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "fastdqn", *args],
            env=environment(), stdout={"full": full, "closed": closed}[stdout],
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
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        process.stdout.close()
        process.terminate()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 143, err
    assert err == "SIGTERM: stopping after this step and saving; again to quit at once\n"
    announced = f"CartPole-v1, seed 1: preset cartpole, in {tmp_path}/run; loading torch ...\n"
    assert lines[0] == announced and lines[1].startswith("envs ")  # it has begun


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
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # what is about to run
        process.stdout.readline()  # it has begun
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

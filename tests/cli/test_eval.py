"""``fastdqn eval``: how it plays, by what, and what it refuses."""

import json
import types

import numpy as np
import pytest
import torch
from helpers.command_line import SHORT, install, python, refusal

from fastdqn.cli.main import main
from fastdqn.config.config import Config
from fastdqn.errors import EnvError


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

    loading = install(monkeypatch, "training.load", load=load)
    build = install(
        monkeypatch,
        "training.build",
        make_stream=make_stream,
        set_up_torch=set_up_torch,
        eval_patience=lambda config, envs: 777,
        keep_memory_for=lambda *args: calls.update(memory=args),
    )
    install(monkeypatch, "acting.evaluation", evaluate=evaluate)
    monkeypatch.setattr(playing, "load", loading)
    monkeypatch.setattr(playing, "build", build)
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
        assert words in refusal([command, str(evaluation["run"]), *args], capsys)
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
        (["--epsilon", "2"], "epsilon"),
        (["--num-envs", "0"], "num_envs"),
        (["--seed", "-1"], "seed"),
        (["--device", "gpu"], "device"),
        (["--step-timeout-s", "0"], "step_timeout_s"),
    ],
)
def test_eval_checks_ranges(evaluation, capsys, args, word):
    assert refusal(["eval", str(evaluation["run"]), *args], capsys).startswith(word)
    assert "load" not in evaluation


def test_eval_of_what_is_no_run(tmp_path, capsys):
    assert "holds no run" in refusal(["eval", str(tmp_path)], capsys)


@pytest.mark.parametrize("command", ["eval", "saliency"])
def test_the_module_that_a_run_names_is_not_imported_without_leave(command, tmp_path):
    (tmp_path / "config.json").write_text(Config(env_id="payload:CartPole-v1").to_json())
    (tmp_path / "payload.py").write_text("open('ran', 'w').close()")
    done = python("-m", "fastdqn", command, str(tmp_path), cwd=tmp_path)
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
    done = python("-c", program, command, str(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (143, "fastdqn: stopped by SIGTERM\n")


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

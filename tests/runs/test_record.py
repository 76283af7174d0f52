"""What was passed from Python is known to every command, and refused with the call that has it."""

import ast
import json
import shutil
import subprocess
import sys

import gymnasium
import matplotlib.text
import pytest
from gymnasium.vector import SyncVectorEnv
from helpers.scripted_env import Script, ScriptedVectorEnv
from helpers.short_runs import Own, envs, tiny

import fastdqn
from fastdqn.cli.main import main
from fastdqn.config.config import Config
from fastdqn.envs import make_envs
from fastdqn.envs.made import name_of
from fastdqn.errors import ConfigError
from fastdqn.runs.comparison import read_account
from fastdqn.runs.groups import group_runs
from fastdqn.runs.reader import read_run
from fastdqn.runs.record import read_record
from fastdqn.training.train import train


def balance(n=4):
    """CartPole, made by the caller."""
    return SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * n)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on envs of the caller's."""
    return train(tiny(tmp_path_factory.mktemp("runs") / "a"), envs=envs()).run_dir


@pytest.fixture(scope="module")
def own_network(tmp_path_factory):
    """Trained with a network of the caller's."""
    path = tmp_path_factory.mktemp("runs") / "b"
    return train(tiny(path), network=Own()).run_dir


def refusal(capsys, *args):
    assert main([str(arg) for arg in args]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastdqn: error: ") and error.count("\n") == 1
    return error


def call_in(message, **scope):
    """What the call to Python that a message names returns."""
    start = message.index("fastdqn.", message.index("from Python: "))
    end = max(k for k in range(start, len(message)) if is_call(message[start : k + 1]))
    return eval(message[start : end + 1], {"fastdqn": fastdqn, **scope})  # noqa: S307


def is_call(text):
    try:
        return isinstance(ast.parse(text, mode="eval").body, ast.Call)
    except SyntaxError:
        return False


# --- commands ------------------------------------------------------------------------------------


def test_eval_refuses_with_the_call_that_evaluates(run, capsys):
    for path in (run, run / "checkpoints" / "step_000000000240"):
        message = refusal(capsys, "eval", path)
        assert "envs passed from Python (ScriptedVectorEnv of helpers.scripted_env)" in message
        assert "'fastdqn eval' cannot make" in message and "--env-id" in message
        result = call_in(message, envs=envs(n=2))
        assert result.episodes == 20 and -40 < result.mean < 40


def test_saliency_refuses_with_the_call_that_explains(run, capsys, tmp_path):
    message = refusal(capsys, "saliency", run, "--out", tmp_path / "x.png")
    gradient = call_in(message, observations=envs().reset(seed=0)[0])
    assert gradient.shape == (4, 3)


def test_a_network_of_the_callers_is_refused_whatever_the_env(own_network, capsys, tmp_path):
    for extra in ([], ["--env-id", "CartPole-v1"]):
        message = refusal(capsys, "eval", own_network, *extra)
        assert "a network passed from Python (Own of helpers.short_runs)" in message
        assert "--env-id" not in message
    result = call_in(message, network=Own(), envs=make_envs("CartPole-v1", 2))
    assert result.episodes == 20
    message = refusal(capsys, "saliency", own_network, "--out", tmp_path / "x.png")
    observations = balance(3).reset(seed=0)[0]
    assert call_in(message, network=Own(), observations=observations).shape == (3, 4)


def test_an_env_that_is_named_stands_in(tmp_path, capsys):
    run = train(tiny(tmp_path / "a"), envs=balance()).run_dir
    assert "--env-id" in refusal(capsys, "eval", run)
    assert main(["eval", str(run), "--env-id", "CartPole-v1", "--episodes", "2"]) == 0
    assert capsys.readouterr().out.startswith("CartPole-v1: ")


@pytest.mark.parametrize("how", ["repeat", "go on"])
def test_train_refuses_with_the_call_that_trains(run, capsys, tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine"
    shutil.copytree(run, mine)
    (mine / "config.json").write_text(Config.load(mine / "config.json")
                                      .replace(run_dir=str(mine)).to_json())  # fmt: skip
    args = ["--config", mine] if how == "repeat" else ["--run-dir", mine, "--resume", "auto"]
    message = refusal(capsys, "train", *args)
    assert "(ScriptedVectorEnv of helpers.scripted_env)" in message
    assert ("or name others with --env-id" in message) == (how == "repeat")
    result = call_in(message, envs=envs())
    assert result.summary["env_steps"] == 240
    fresh = list((tmp_path / "runs").glob("ScriptedVectorEnv-seed1-*"))
    assert (result.run_dir == mine, len(fresh)) == ((True, 0) if how == "go on" else (False, 1))


def test_train_like_a_run_with_an_env_that_is_named(run, own_network, capsys):
    quick = ["--dry-run", "--config"]
    assert main(["train", "--env-id", "CartPole-v1", *quick, str(run)]) == 0
    assert main(["train", "--env-id", "CartPole-v1", *quick, str(run / "config.json")]) == 0
    assert "--network" in refusal(capsys, "train", *quick, own_network)
    assert main(["train", "--network", "mlp", *quick, str(own_network)]) == 0


def test_resuming_from_python_needs_what_the_run_had(run, own_network, capsys):
    config = Config.load(run / "config.json").replace(resume="require")
    with pytest.raises(
        ConfigError, match=r"ScriptedVectorEnv of .* fastdqn\.train\(config, envs=env"
    ):
        train(config)
    config = Config.load(own_network / "config.json").replace(resume="require")
    with pytest.raises(ConfigError, match=r"\(Own of .*fastdqn\.train\(config, network=network\)"):
        train(config)
    assert train(config, network=Own()).summary["env_steps"] == 240


def test_what_is_refused_needs_no_torch(run, own_network):
    program = (
        "import sys\n"
        "from fastdqn.cli.main import main\n"
        "codes = [main(line.split()) for line in sys.stdin.read().splitlines()]\n"
        "print(codes, 'torch' in sys.modules)\n"
    )
    lines = [f"eval {run}", f"saliency {own_network}", f"train --config {run}",
             f"train --run-dir {run} --resume auto", f"train --initial {run}:7",
             f"train --initial {run}:best", f"eval {run} --env-id CartPole-v1 --checkpoint best",
             f"eval {run} --env-id CartPole-v1 --checkpoint 7", f"eval {run} --env-id CartPoel-v1",
             ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(lines), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == f"{[2] * len(lines)} False\n", done.stderr
    assert done.stderr.count("fastdqn: error: ") == done.stderr.count("\n") == len(lines)


# --- what is known -------------------------------------------------------------------------------


def record_of(tmp_path, **body):
    (tmp_path / "config.json").write_text(Config().to_json())
    (tmp_path / "run.json").write_text(json.dumps(body))
    return read_record(tmp_path)


def test_a_run_that_says_nothing_counts_as_made_from_its_configuration(tmp_path):
    assert read_record(tmp_path / "nothing").envs.made_from_config
    assert record_of(tmp_path).network.made_from_config
    for damaged in ("", "[]", '{"envs": 3}', '{"envs": {"made_from_config": "no"}}', "{" * 9999):
        (tmp_path / "run.json").write_text(damaged)
        assert read_record(tmp_path).envs.made_from_config, damaged


def test_names_are_shown_if_they_are_such(tmp_path):
    own = {"made_from_config": False, "name": "Mine-v0", "class": "Mine", "module": "my_module"}
    envs = record_of(tmp_path, envs=own).envs
    assert (envs.name, envs.what) == ("Mine-v0", "envs passed from Python (Mine of my_module)")
    for bad in (7, None, "", "a\nb", "\x1b[2J", "x" * 201):
        envs = record_of(tmp_path, envs={**own, "class": bad, "name": bad}).envs
        assert (envs.name, envs.what) == (None, "envs passed from Python (my_module)")
        assert not envs.made_from_config


def test_a_checkpoint_knows_it_alone(run, own_network, tmp_path, capsys):
    for number, (path, kind) in enumerate(((run, "envs"), (own_network, "network"))):
        mine = tmp_path / str(number)
        shutil.copytree(path, mine)
        (mine / "run.json").unlink()
        assert f"{kind} passed from Python, which" in refusal(capsys, "eval", mine)
        assert "config.json" in refusal(capsys, "train", "--config", mine)


def test_a_run_is_called_by_its_envs(run, tmp_path, drawn):
    result = train(tiny(tmp_path / "a"), envs=envs(), eval_envs=envs(n=2))
    assert result.summary["env_id"] == "ScriptedVectorEnv"
    (figure,) = drawn
    title = " ".join(text.get_text() for text in figure.findobj(match=matplotlib.text.Text))
    assert "ScriptedVectorEnv, seed 1" in title and "CartPole" not in title
    assert read_account(result.run_dir).sections["settings"]["env_id"] == "ScriptedVectorEnv"
    config = read_run(result.run_dir)
    assert config.env_name == "ScriptedVectorEnv" and config.config.env_id == "CartPole-v1"
    cartpole = train(tiny(tmp_path / "c")).run_dir
    groups = group_runs([read_run(path) for path in (run, result.run_dir, cartpole)])
    assert [(group.label, len(group.runs)) for group in groups] == [
        ("ScriptedVectorEnv", 2),
        ("CartPole-v1", 1),
    ]


def test_names_of_envs():
    class _Hidden(ScriptedVectorEnv):
        pass

    wrapped = gymnasium.wrappers.vector.RecordEpisodeStatistics(balance(2))
    for given, name in (
        (gymnasium.make_vec("CartPole-v1", 2), "CartPole-v1"),
        (balance(2), "CartPole-v1"),
        (wrapped, "CartPole-v1"),
        (make_envs(wrapped), "CartPole-v1"),
        (make_envs("fastdqn/Catch-v0", 2), "fastdqn/Catch-v0"),
        (_Hidden(Script(2)), "ScriptedVectorEnv"),
        (make_envs(envs()), "ScriptedVectorEnv"),
        (object(), "object"),
    ):
        assert name_of(given) == name

"""Refusals that are real, and what they propose: done as it stands there, the same call goes on."""

import ast
import re

import gymnasium
import pytest
from helpers.command_line import SHORT, refusal
from helpers.short_runs import envs, tiny

import fastdqn
from fastdqn import Config, evaluate, load, make_envs, train
from fastdqn.cli.main import main
from fastdqn.cli.train_arguments import train_config
from fastdqn.config.presets import preset
from fastdqn.errors import FastDQNError
from fastdqn.networks.spec import NetworkSpec
from fastdqn.system import host

NONE = object()  # leave it out


def refused(call, **given):
    with pytest.raises(FastDQNError) as caught:
        call(**given)
    return str(caught.value)


def follow(said, words, changes, given):
    """What was given, changed as the sentence says; ``words`` find in it what it says."""
    found = re.search(words, said)
    assert found, said
    changed = given | (changes(*found.groups()) if callable(changes) else changes)
    return {name: value for name, value in changed.items() if value is not NONE}


def number(text):
    return float(text.replace(",", "")) if "." in text else int(text.replace(",", ""))


# What is given, what the sentence says of how to mend it, and that.
CONFIGS = [
    ({"num_envs": 0}, r"use a number from ([\d,]+) to", lambda low: {"num_envs": number(low)}),
    ({"frame_stack": 65}, r"to ([\d,]+)\.$", lambda high: {"frame_stack": number(high)}),
    ({"gamma": 2.0}, r"use a number from 0 to (1)\.", lambda high: {"gamma": number(high)}),
    (
        {"learning_rate": float("nan")},
        r"above 0 and at most (\d+)",
        lambda high: {"learning_rate": number(high)},
    ),
    ({"mode": "egaer"}, r"did you mean '(\w+)'", lambda mode: {"mode": mode}),
    ({"loss": "l2"}, r"must be one of huber, (\w+)", lambda loss: {"loss": loss}),
    ({"epsilon_start": "1"}, r"use a number", {"epsilon_start": 1}),
    ({"hidden_sizes": 64}, r"use whole numbers", {"hidden_sizes": (64,)}),
    ({"env_id": ""}, r"use one such as (\S+) or (\S+?)\.", lambda a, b: {"env_id": a}),
    ({"env_id": ""}, r"use one such as (\S+) or (\S+?)\.$", lambda a, b: {"env_id": b}),
    ({"device": "gpu"}, r"use auto, cpu, (cuda) or", lambda device: {"device": device}),
    ({"run_dir": ""}, r"or (None) for a fresh one", {"run_dir": None}),
    ({"hidden_sizes": ()}, r"one or more sizes from 1 to (\d+)",
     lambda high: {"hidden_sizes": (int(high),)}),
    ({"batch_norm": True, "batch_size": 1}, r"a batch_size of (2) or more",
     lambda low: {"batch_size": int(low)}),
    ({"replay_capacity": 16, "batch_size": 4}, r"use at least (\d+)",
     lambda low: {"replay_capacity": int(low)}),
    ({"batch_size": 200_000}, r"replay_capacity = (\d+); lower it",
     lambda most: {"batch_size": int(most)}),
    ({"updates_per_launch": 64, "replay_capacity": 1000}, r"lower it", {"updates_per_launch": 8}),
    ({"learning_starts_env_steps": 1}, r"use at least (\d+)",
     lambda low: {"learning_starts_env_steps": int(low)}),
    ({"schedule_env_steps": 1000}, r"raise learning_rate_final", {"learning_rate_final": 1e-4}),
    ({"schedule_env_steps": 1000, "prioritized": True}, r"or set it to None",
     {"learning_rate_final": None}),
    ({"max_grad_value": 1.0}, r"set one of them to None", {"max_grad_norm": None}),
    ({"env_id": "ALE/Pong-v5", "env_kwargs": {"frameskip": 1}}, r"fields that start with atari_",
     {"env_kwargs": NONE, "atari_frame_skip": 3}),
    ({"env_id": "ALE/Pong-v5", "env_vectorization": "async"}, r"use (auto)",
     lambda way: {"env_vectorization": way}),
    ({"atari_frame_skip": 3}, r"an id that starts with (ALE/)", {"env_id": "ALE/Pong-v5"}),
    ({"mode": "graph", "device": "cpu"}, r"use (eager) or", lambda mode: {"mode": mode}),
    ({"mode": "graph", "device": "cpu"}, r"or (compile) with", lambda mode: {"mode": mode}),
    ({"resume": "auto"}, r"name it with (\w+)", lambda name: {name: "somewhere"}),
    ({"lock_timeout_s": 3.0}, r"name one with (\w+)", lambda name: {name: "somewhere"}),
    ({"replan_schedules": True, "run_dir": "somewhere"}, r"set (\w+) = '(\w+)'",
     lambda name, value: {name: value}),
    ({"schedule_env_steps": 1000, "learning_rate_final": None}, r"set (\w+), or",
     lambda name: {name: 1e-4}),
    ({"initial_torso_only": True}, r"set (\w+), or", lambda name: {name: "somewhere"}),
    ({"impala_width": 2}, r"is for network = '(\w+)'", lambda network: {"network": network}),
    ({"batch_norm": True, "network": "nature"}, r"is for network = '(\w+)'",
     lambda network: {"network": network}),
    ({"batch_norm": True, "layer_norm": True}, r"leave one out", {"batch_norm": False}),
    ({"target_tau": 0.5, "target_period_updates": None}, r"set (\w+)", lambda name: {name: 1}),
    ({"updates_per_launch": 8, "target_period_updates": 4}, r"= (\d+), .* lower it",
     lambda most: {"updates_per_launch": int(most)}),
    ({"huber_delta": 2.0, "loss": "mse"}, r"use loss = '(\w+)'", lambda loss: {"loss": loss}),
    ({"rmsprop_alpha": 0.5}, r"use optimizer = '(\w+)'", lambda name: {"optimizer": name}),
    ({"priority_alpha": 0.5}, r"set (\w+) = True", lambda name: {name: True}),
    ({"eval_period_env_steps": 10, "eval_episodes": 0}, r"set (\w+)", lambda name: {name: 5}),
    ({"stop_eval_return": 5.0, "eval_episodes": 0}, r"set (\w+) and (\w+)",
     lambda *names: dict.fromkeys(names, 10)),
    ({"checkpoint_period_env_steps": 10, "save_final_checkpoint": False}, r"leave one out",
     {"save_final_checkpoint": NONE}),
    ({"checkpoint_keep": 5, "save_final_checkpoint": False}, r"set (\w+) = True",
     lambda name: {name: True}),
    ({"checkpoint_keep_best": True, "eval_episodes": 0}, r"set (\w+), or", lambda name: {name: 5}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "words", "changes"), CONFIGS)
def test_what_a_configuration_is_told(given, words, changes):
    said = refused(Config, **given)
    Config(**follow(said, words, changes, given))
    if "leave it out" in said:
        name = said.partition(" = ")[0]
        Config(**{key: value for key, value in given.items() if key != name})


def built(torso, shape, sizes=(32,)):
    return NetworkSpec(
        frame_shape=shape, num_actions=2, frame_stack=None, torso=torso, hidden_sizes=sizes,
        dueling=False, batch_norm=False, impala_width=1,
    ).build()  # fmt: skip


@pytest.mark.parametrize(
    ("call", "words", "then"),
    [
        (lambda: preset("dqn-atar"), r"did you mean '([\w-]+)'", preset),
        (
            lambda: Config().replace(learning_rat=0.1),
            r"did you mean '(\w+)'",
            lambda name: Config().replace(**{name: 0.1}),
        ),
        (
            lambda: Config().replace(double=True, target_period_updates=None),
            r"set (\w+), or leave it out",
            lambda name: Config().replace(double=True, **{name: 50}),
        ),
        (
            lambda: built("impala", (1, 4, 4)),
            r"use network = '(\w+)'",
            lambda name: built(name, (1, 4, 4)),
        ),
        (lambda: built("impala", (4,)), r"use network = '(\w+)'", lambda name: built(name, (4,))),
        (
            lambda: built("batchnorm_cnn", (1, 4, 4)),
            r"use network = '(\w+)'",
            lambda name: built(name, (1, 4, 4)),
        ),
        (
            lambda: built("mlp", (4,), ()),
            r"use (\(\d+, \d+\))",
            lambda sizes: built("mlp", (4,), ast.literal_eval(sizes)),
        ),
    ],
)
def test_what_a_call_is_told(call, words, then):
    then(re.search(words, refused(call))[1])


def single():
    return gymnasium.make("CartPole-v1")


def several(n=2):
    return gymnasium.make_vec("CartPole-v1", n)


ENVS = [
    ({"env": "CartPole-v1", "num_envs": 0}, r"use (\d) or more", lambda n: {"num_envs": int(n)}),
    ({"env": "cartpole"}, r"did you mean '([\w-]+)'", lambda name: {"env": name}),
    ({"env": "CartPole-v1", "vectorization": "snyc"}, r"did you mean '(\w+)'",
     lambda way: {"vectorization": way}),
    ({"env": "fastdqn/Catch-v0", "vectorization": "sync"}, r"use '(\w+)'",
     lambda way: {"vectorization": way}),
    ({"env": "CartPole-v1", "seed": -1}, r"use (\d) to", lambda low: {"seed": int(low)}),
    ({"env": "CartPole-v1", "seed": 2**31}, r"use 0 to (\d+)", lambda high: {"seed": int(high)}),
    ({"env": several, "num_envs": 3}, r"has 2; leave it (None)", {"num_envs": None}),
    ({"env": single, "num_envs": None}, r"gymnasium.vector.SyncVectorEnv\(\[lambda: env\]\)",
     {"env": lambda: gymnasium.vector.SyncVectorEnv([single])}),
    ({"env": single, "num_envs": None}, r"gymnasium.make_vec\(id, num_envs=...\)",
     {"env": several}),
    ({"env": "fastdqn/Breakout-v0", "size": 83}, r"use (\d+), (\d+) or (\d+)",
     lambda *sizes: {"size": int(sizes[0])}),
    ({"env": "fastdqn/Breakout-v0", "size": 83}, r"use (\d+), (\d+) or (\d+)",
     lambda *sizes: {"size": int(sizes[2])}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "words", "changes"), ENVS)
def test_what_makers_of_envs_are_told(given, words, changes):
    def make(env, **more):
        made = env() if callable(env) else env
        try:
            make_envs(made, **more).close()
        finally:
            if callable(env):
                made.close()

    make(**follow(refused(make, **given), words, changes, given))


# The words after ``fastdqn``, and the same with what the sentence says.
COMMANDS = [
    ("cartpole", r"did you mean 'fastdqn (train cartpole)'", "{} --dry-run"),
    ("trian --dry-run", r"did you mean '(\w+)'", "{} --dry-run"),
    ("train --lr 0.1 --dry-run", r"did you mean '(\S+)'\?", "train {} 0.1 --dry-run"),
    ("train --doubel --dry-run", r"did you mean '(\S+)'\?", "train {} --dry-run"),
    ("train --double True --dry-run", r"as in (--double) and", "train {} --dry-run"),
    ("train --preset cartpole --dry-run", r"'fastdqn train PRESET'", "train cartpole --dry-run"),
    ("train --hidden-sizes 64,64 --dry-run", r"with spaces between them: (64 64)\)",
     "train --hidden-sizes {} --dry-run"),
    ("train --learning-rate-final none --dry-run", r"use a number or (None)",
     "train --learning-rate-final {} --dry-run"),
    ("train --schedule-env-steps 1000 --dry-run", r"raise learning_rate_final, or set it to (None)",
     "train --schedule-env-steps 1000 --prioritized --learning-rate-final {} --dry-run"),
    ("train --max-grad-value 1 --max-grad-norm 1 --dry-run", r"set one of them to (None)",
     "train --max-grad-value 1 --max-grad-norm {} --dry-run"),
    ("train cartpole --config runs --dry-run", r"drop one", "train cartpole --dry-run"),
    ("train --device cuda:99 --dry-run", r"device = 'cuda:99' is not there",
     "train --device cpu --dry-run"),
    ("train --env-id CartPole-v9 --dry-run", r"did you mean '(\S+)'\?",
     "train --env-id {} --dry-run"),
    ("train --precision bf16 --batch-norm --dry-run", r"use '(\w+)'",
     "train --precision {} --batch-norm --dry-run"),
    ("train --network impala --hidden-sizes 256 --dry-run", r"use network = '(\w+)'",
     "train --network {} --hidden-sizes 256 --dry-run"),
    ("train --replay-capacity 1000000000000 --dry-run", r"replay_capacity that fits is (\d+)",
     "train --replay-capacity {} --dry-run"),
    ("train --mode graph --device cpu --dry-run", r"use (eager) or compile",
     "train --mode {} --device cpu --dry-run"),
    ("bench --cases zzz", r"'fastdqn (bench --list)' names them", "{}"),
    ("info --jsn", r"did you mean '(\S+)'\?", "info {}"),
    ("plot", r"'fastdqn (plot --help)' says more", "{}"),
    ("presets --qqqq", r"'fastdqn (presets --help-all)' lists the options", "{}"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "words", "then"), COMMANDS)
def test_what_the_command_line_is_told(given, words, then, capsys, monkeypatch):
    monkeypatch.setattr(host, "memory_available", lambda: 10**9)  # others may take some meanwhile
    found = re.search(words, said := refusal(given.split(" "), capsys))
    assert found, said
    assert main(then.format(*found.groups()).split(" ")) == 0


def test_what_is_told_of_games(capsys):
    pytest.importorskip("ale_py")
    said = refusal(["train", "dqn-atari", "--env-id", "pong-v5", "--dry-run"], capsys)
    found = "".join(re.findall(r"'(ALE/\w+-v5)'", said))
    words = ["dqn-atari", "--env-id", found, "--atari-protocol", "classic"]
    assert train_config(words)[0].env_id == found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run from the command line that has come to its end."""
    path = str(tmp_path_factory.mktemp("advice") / "run")
    assert main(["train", *SHORT, "--mode", "eager", "--run-dir", path]) == 0
    return path


@pytest.mark.filterwarnings("ignore:The schedules are planned anew")
def test_what_is_told_of_a_run_that_is_there(run, tmp_path, capsys):
    words = ["train", *SHORT, "--mode", "eager", "--run-dir", run]
    capsys.readouterr()
    said = refusal(words, capsys)
    value = re.search(r"go on with resume = '(\w+)'", said)[1]
    assert main([*words, "--resume", value]) == 0
    assert "finished" in capsys.readouterr().out

    longer = [*words, "--resume", "auto", "--total-env-steps", "700"]
    assert main(longer) == 2
    flag = re.search(r"\((--[\w-]+)\)", capsys.readouterr().err)[1]
    assert main([*longer, flag]) == 0
    capsys.readouterr()

    elsewhere = ["train", *SHORT, "--run-dir", str(tmp_path / "empty"), "--resume"]
    said = refusal([*elsewhere, "require"], capsys)
    value = re.search(r"use resume = '(\w+)'", said)[1]
    assert main([*elsewhere, value, "--mode", "eager"]) == 0


def test_what_is_told_of_its_checkpoints(run, capsys):
    def ask(choice):
        return ["eval", run, "--episodes", "1", "--checkpoint", choice]

    said = refusal(ask("lastest"), capsys)
    assert main(ask(re.search(r"did you mean '(\w+)'", said)[1])) == 0
    capsys.readouterr()
    said = refusal(ask("5"), capsys)
    assert main(ask(re.search(r"there are (\d+)", said)[1])) == 0
    capsys.readouterr()
    said = refusal(["eval", run, "--episodes", "0"], capsys)
    assert main(["eval", run, "--episodes", re.search(r"use (\d) or more", said)[1]]) == 0


@pytest.mark.filterwarnings("ignore:The schedules are planned anew")
def test_what_the_last_words_of_a_run_propose(tmp_path, capsys):
    path = str(tmp_path / "run")
    words = ["train", "--run-dir", path, "--device", "cpu", "--mode", "eager"]
    assert main([*words, "--max-wall-s", "0.01"]) == 124
    printed = capsys.readouterr().out
    again = re.search(r"to go on:\n +fastdqn (.*)", printed)[1].split(" ")
    changes = ["--total-env-steps", "1100", "--max-wall-s", "None", "--replan-schedules"]
    assert main([*again, *changes, "--eval-episodes", "1", "--eval-num-envs", "1"]) == 0
    play = re.search(r"evaluate again: fastdqn (.*)", capsys.readouterr().out)[1].split(" ")
    assert main([*play, "--episodes", "1"]) == 0


def test_what_is_told_of_envs_passed_from_python_is_python_that_runs(tmp_path, capsys):
    train(tiny(tmp_path / "run"), envs=envs())
    said = refusal(["eval", str(tmp_path / "run")], capsys)
    call = re.search(r"use it from Python: (.*), or name an env", said)[1]
    here = {"fastdqn": fastdqn, "envs": envs(), "evaluate": evaluate, "load": load}
    assert eval(call, here).episodes >= 1  # noqa: S307
    path = str(tmp_path / "run/config.json")
    said = refusal(["train", "--config", path], capsys)
    call = re.search(r"train it from Python: (.*), or name others with (--[\w-]+)", said)
    fresh = call[1].replace("run_dir=None", f"run_dir={str(tmp_path / 'again')!r}")
    assert eval(fresh, {**here, "envs": envs()}).run_dir == tmp_path / "again"  # noqa: S307
    assert main(["train", "--config", path, call[2], "CartPole-v1", "--dry-run"]) == 0

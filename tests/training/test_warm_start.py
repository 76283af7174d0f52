"""Weights of an earlier run in a new one: what goes along, what starts anew, what is refused."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from helpers.short_runs import NATURE, Own, assert_same_checkpoint, envs, pictures, tiny
from torch import nn

import fastdqn
from fastdqn.acting.evaluation import EvalResult
from fastdqn.checkpoints.store import find_checkpoint, load_checkpoint
from fastdqn.cli.main import main
from fastdqn.cli.train_arguments import train_config
from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.frame_format import FrameFormat
from fastdqn.networks.make import make_network
from fastdqn.spaces import Spaces
from fastdqn.training.run_state import save_run
from fastdqn.training.train import train
from fastdqn.training.trainer import Trainer


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A run of CartPole with running statistics and two layers; checkpoints at 120 and 240."""
    config = tiny(
        tmp_path_factory.mktemp("runs") / "a",
        batch_norm=True,
        hidden_sizes=(16, 8),
        checkpoint_period_env_steps=120,
    )
    return train(config).run_dir


def like(parent, path, **changes):
    """The configuration of a child of this parent."""
    return tiny(path, batch_norm=True, hidden_sizes=(16, 8), initial=str(parent), **changes)


def weights(run, choice=None):
    return load_checkpoint(find_checkpoint(run, choice))["learner"]["network"]


def state_of(config, **kwargs):
    """The learner of a run before its first step."""
    trainer = Trainer(config, **kwargs)
    trainer.close()
    return trainer


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# --- what goes along, and what does not ----------------------------------------------------------


@pytest.mark.parametrize("choice", [None, 120])
def test_weights_go_along_and_all_else_starts_anew(parent, tmp_path, choice):
    suffix = "" if choice is None else f":{choice}"
    config = like(f"{parent}{suffix}", tmp_path / "b", num_envs=2, seed=9, learning_rate=1e-4,
                  epsilon_start=0.1, optimizer="rmsprop")  # fmt: skip
    trainer = state_of(config)
    learner, saved = trainer.learner, weights(parent, choice)
    assert equal(learner.network.state_dict(), saved)
    assert equal(learner.target_network.state_dict(), saved), "synced"
    assert saved["torso.norms.0.num_batches_tracked"] > 0, "buffers, too"
    assert learner.updates == trainer.env_steps == 0
    assert all(not moment.any() for moment in learner.state_dict()["moments"].values()
               if isinstance(moment, torch.Tensor))  # fmt: skip
    assert not equal(saved, weights(parent, 120 if choice is None else None))


def test_the_run_says_where_its_weights_came_from(parent, tmp_path):
    result = train(like(parent, tmp_path / "b").replace(initial=None), initial=parent)
    expected = {"checkpoint": str(find_checkpoint(parent)), "left_out": []}
    assert result.summary["initial"] == expected
    record = json.loads((result.run_dir / "run.json").read_text())
    assert record["sessions"][0]["initial"] == expected
    assert Config.load(result.run_dir / "config.json").initial == str(parent)


def test_the_best_is_the_checkpoint_whose_evaluation_was(tmp_path, monkeypatch, capsys):
    scores = iter([1.0, 5.0, 2.0])  # at env steps 80, 160 and 240
    monkeypatch.setattr(
        "fastdqn.training.trainer.evaluate",
        lambda *_, **__: EvalResult(np.array([next(scores)]), np.array([1]), 0),
    )
    periods = {"eval_period_env_steps": 80, "checkpoint_period_env_steps": 80}
    parent = train(tiny(tmp_path / "a", eval_episodes=1, checkpoint_keep=9, **periods)).run_dir
    child = state_of(tiny(tmp_path / "b", initial=f"{parent}:best"))
    assert equal(child.learner.network.state_dict(), weights(parent, 160))
    best = fastdqn.load(parent, device="cpu", checkpoint="best")
    assert equal(best.network.state_dict(), weights(parent, 160))
    assert not equal(weights(parent, 160), weights(parent))
    returns = []
    for choice in ("best", "160", "latest"):
        assert main(["eval", str(parent), "--checkpoint", choice, "--episodes", "6", "--json"]) == 0
        returns.append(json.loads(capsys.readouterr().out)["returns"])
    assert returns[0] == returns[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loaded_network_trains_as_its_run_named_as_initial(tmp_path, precision):
    options = {**NATURE, "precision": precision}
    parent = train(tiny(tmp_path / "a", **options), envs=pictures()).run_dir
    changes = {**options, "seed": 4, "learning_rate": 1e-4}
    one = train(tiny(tmp_path / "b", **changes), envs=pictures(), initial=parent)
    policy = fastdqn.load(parent, device="cpu")
    other = train(tiny(tmp_path / "c", **changes), envs=pictures(), network=policy.network)
    assert_same_checkpoint(find_checkpoint(one.run_dir), find_checkpoint(other.run_dir))
    assert not equal(weights(parent), weights(one.run_dir))
    assert (one.policy.acting_network is one.policy.network) == (precision == "fp32")


def test_the_twins_of_a_bfloat16_run_follow(tmp_path):
    trainer = Trainer(tiny(tmp_path / "a", **NATURE), envs=pictures())
    trainer.actions = trainer.begin()
    trainer.learner.network.head.q.bias.data.fill_(3.0)
    trainer.learner.network.torso.conv1.bias.data.fill_(0.3)
    save_run(trainer, with_replay=False)
    trainer.close()
    child = state_of(tiny(tmp_path / "b", **NATURE, initial=str(tmp_path / "a"), seed=8),
                     envs=pictures())  # fmt: skip
    for network in (child.learner._twin.network, child.learner.target.twin.network):
        assert network.torso.conv1.bias.dtype == torch.bfloat16
        assert torch.equal(network.torso.conv1.bias, torch.full((32,), 0.3).bfloat16())
        assert (network.head.q.bias == 3.0).all()


def test_a_run_that_goes_on_does_not_load_again(parent, tmp_path):
    mine = tmp_path / "parent"
    shutil.copytree(parent, mine)
    config = like(mine, tmp_path / "b", learning_rate_final=None, resume="auto")
    first = train(config)  # nothing to resume: it loads
    assert first.summary["initial"]["checkpoint"].startswith(str(mine))
    shutil.rmtree(mine)
    again = train(config.replace(total_env_steps=320))
    assert again.summary["env_steps"] == 320 and "initial" not in again.summary
    with pytest.raises(CheckpointError, match=r"initial = .* does not exist"):
        train(config.replace(run_dir=str(tmp_path / "c")))


# --- heads ---------------------------------------------------------------------------------------


def test_other_actions_need_a_fresh_head(tmp_path):
    parent = train(tiny(tmp_path / "a"), envs=envs(5)).run_dir
    config = tiny(tmp_path / "b", initial=str(parent), seed=3)
    with pytest.raises(
        ConfigError, match=r"a head for 5 actions, where this run has 2; set initial_torso_only = T"
    ):
        train(config, envs=envs(2))
    assert not (tmp_path / "b").exists()
    with pytest.warns(UserWarning, match=r"but head\.q\.weight, head\.q\.bias, which start anew\."):
        child = state_of(config.replace(initial_torso_only=True), envs=envs(2))
    fresh = state_of(config.replace(initial=None, run_dir=str(tmp_path / "c")), envs=envs(2))
    found, drawn = child.learner.network.state_dict(), fresh.learner.network.state_dict()
    for name, value in found.items():
        expected = drawn if name.startswith("head.") else weights(parent)
        assert torch.equal(value, expected[name]), name


def test_a_dueling_head_has_the_layer_before_it_to_itself(parent, tmp_path):
    config = like(parent, tmp_path / "b", dueling=True)
    with pytest.raises(
        ConfigError, match="dueling = False, where this run has True; set initial_torso_only"
    ):
        train(config)
    with pytest.warns(UserWarning, match=r"torso\.layers\.1\.weight.* and 2 more, which start ane"):
        child = state_of(config.replace(initial_torso_only=True))
    found, saved = child.learner.network.state_dict(), weights(parent)
    kept = {name for name, value in found.items()
            if name in saved and value.shape == saved[name].shape
            and torch.equal(value, saved[name])}  # fmt: skip
    first = {name for name in saved if name.startswith(("torso.layers.0", "torso.norms.0"))}
    assert first < kept and kept - first <= {"torso.norms.1.num_batches_tracked"}


@pytest.mark.parametrize(
    "head",
    [
        {"head": "c51", "atoms": 5, "value_min": -2.0, "value_max": 2.0},
        {"head": "qr", "quantiles": 4},
        {"head": "iqn", "iqn_cosines": 6, "iqn_policy_samples": 3},
    ],
    ids=lambda head: head["head"],
)
def test_a_dueling_head_of_another_kind_takes_the_layers_before_its_streams(parent, tmp_path, head):
    config = like(parent, tmp_path / "b", dueling=True, **head)
    with pytest.raises(ConfigError, match="set initial_torso_only = True to take all but the head"):
        train(config)
    with pytest.warns(UserWarning, match="start anew"):
        child = state_of(config.replace(initial_torso_only=True))
    found, saved = child.learner.network.state_dict(), weights(parent)
    for name in [name for name in saved if name.startswith(("torso.layers.0", "torso.norms.0"))]:
        assert torch.equal(found[name], saved[name]), name
    assert found["torso.layers.1.weight"].shape == (16, 16)  # two streams of 8


def test_a_head_that_fits_can_be_left_out_as_well(parent, tmp_path):
    with pytest.warns(UserWarning, match="start anew"):
        child = state_of(like(parent, tmp_path / "b", seed=5, initial_torso_only=True))
    found, saved = child.learner.network.state_dict(), weights(parent)
    assert torch.equal(found["torso.layers.1.weight"], saved["torso.layers.1.weight"])
    assert not torch.equal(found["head.q.weight"], saved["head.q.weight"])


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_sizes": (16,)}, r"has hidden_sizes = \(16, 8\), where this run has \(16,\); use"),
        ({"batch_norm": False}, "has batch_norm = True, where this run has False"),
        ({"env_id": "Acrobot-v1"}, r"of shape \(4,\) float32.* \(6,\) float32; use envs"),
        ({"frame_stack": 4}, r"observations of shape \(4,\) float32, .* show \(4, 4\) float32"),
        ({"hidden_sizes": (16,), "initial_torso_only": True}, "has hidden_sizes"),
        ({"hidden_sizes": (8,), "dueling": True}, "has hidden_sizes"),
        ({"head": "qr", "hidden_sizes": (8,), "dueling": True}, "has hidden_sizes"),
    ],
    ids=str,
)  # fmt: skip
def test_another_network_is_refused(parent, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words) as refused:
        train(like(parent, tmp_path / "b").replace(**changes))
    assert f"initial = {str(parent)!r}" in str(refused.value)
    assert not (tmp_path / "b").exists()


def test_a_dueling_head_with_all_layers_to_itself_leaves_none(tmp_path):
    parent = train(tiny(tmp_path / "a")).run_dir
    for torso_only in (False, True):
        config = tiny(tmp_path / "b", dueling=True, initial=str(parent),
                      initial_torso_only=torso_only)  # fmt: skip
        with pytest.raises(ConfigError, match=r"dueling = False.*leaves no layer that both have"):
            train(config)


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        (":best", "no checkpoint with a score"),
        (":7", "no checkpoint of 7 env steps; there are 120, 240"),
        (":bset", "did you mean 'best'"),
        ("/checkpoints", "holds no checkpoint"),
        ("-gone", "does not exist"),
    ],
)
def test_what_is_not_there_is_refused_before_envs_are_made(
    parent, tmp_path, monkeypatch, suffix, words
):
    monkeypatch.setattr("fastdqn.training.parts.make_stream", lambda *_, **__: pytest.fail("made"))
    with pytest.raises((ConfigError, CheckpointError), match=rf"initial = .*{words}"):
        train(like(f"{parent}{suffix}", tmp_path / "b"))
    assert not (tmp_path / "b").exists()


def test_weights_that_are_not_finite_are_refused(tmp_path):
    trainer = Trainer(tiny(tmp_path / "a"))
    trainer.actions = trainer.begin()
    trainer.report.check_finite = trainer.report.check_parameters = lambda *_: None
    trainer.learner.network.head.q.bias.data.fill_(float("nan"))
    save_run(trainer, with_replay=False)
    trainer.close()
    with pytest.raises(CheckpointError, match=r"'head\.q\.bias' in .* is not finite"):
        train(tiny(tmp_path / "b", initial=str(tmp_path / "a")))


def test_a_damaged_checkpoint_that_was_named_is_refused(parent, tmp_path):
    mine = tmp_path / "parent"
    shutil.copytree(parent, mine)
    (mine / "checkpoints" / "step_000000000240" / "learner-00000.safetensors").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="is damaged"):
        train(like(f"{mine}:240", tmp_path / "b"))
    with pytest.warns(UserWarning, match="Going back to step_000000000120"):
        child = state_of(like(mine, tmp_path / "b"))
    assert equal(child.learner.network.state_dict(), weights(parent, 120))


# --- networks of the caller's own ----------------------------------------------------------------


def test_own_networks_take_weights_that_fit(tmp_path):
    parent = train(tiny(tmp_path / "a"), network=Own()).run_dir
    child = state_of(tiny(tmp_path / "b", initial=str(parent)), network=Own())
    assert equal(child.learner.network.state_dict(), weights(parent))
    config = tiny(tmp_path / "c", initial=str(parent))
    with pytest.raises(
        ConfigError, match=r"body\.bias = \[16\] float32, where this run has \[8\] float32"
    ):
        train(config, network=Own(width=8))
    with pytest.raises(ConfigError, match=r"body\.bias = .*no such thing; use the same layers"):
        train(config)  # the network of the configuration
    only = config.replace(initial_torso_only=True)
    with pytest.warns(UserWarning, match=r"but head\.weight, head\.bias"):
        child = state_of(only, network=Own())
    assert torch.equal(child.learner.network.body.weight, weights(parent)["body.weight"])
    tail = train(tiny(tmp_path / "d"), network=Own("tail")).run_dir
    with pytest.raises(ConfigError, match="initial_torso_only = True needs a network whose last"):
        train(only.replace(initial=str(tail)), network=Own("tail"))


def test_a_network_of_the_same_layers_counts_as_made_from_the_configuration(tmp_path, capsys):
    torch.manual_seed(0)
    mine = make_network((4,), 2, hidden_sizes=(16,))
    run = train(tiny(tmp_path / "a"), network=mine).run_dir
    assert load_checkpoint(find_checkpoint(run))["run"]["spec"]["own_network"] is False
    assert main(["eval", str(run), "--episodes", "2"]) == 0
    other = copy.deepcopy(mine)
    other.torso = nn.Sequential(nn.Linear(4, 16), nn.ReLU())  # as wide, and another
    run = train(tiny(tmp_path / "b"), network=other).run_dir
    assert load_checkpoint(find_checkpoint(run))["run"]["spec"]["own_network"] is True
    assert main(["eval", str(run), "--episodes", "2"]) == 2


# --- on the command line -------------------------------------------------------------------------


def test_options(parent, tmp_path, capsys):
    args = ["--initial", f"{parent}:120", "--initial-torso-only"]
    config = train_config(args).config
    assert (config.initial, config.initial_torso_only) == (f"{parent}:120", True)
    sizes = ["--hidden-sizes", "16", "8", "--batch-norm", "--total-env-steps", "200"]
    quick = ["--eval-episodes", "0", "--learning-starts-env-steps", "100", "--dry-run"]
    assert main(["train", "--initial", str(parent), *sizes, *quick]) == 0
    assert main(["train", "--initial", str(parent), *quick, "--total-env-steps", "200"]) == 2
    assert "has hidden_sizes = (16, 8), where this run has (256, 256)" in capsys.readouterr().err


def test_observations_of_a_dtype_that_nobody_knows_are_named_by_their_shape(tmp_path, monkeypatch):
    parent = train(tiny(tmp_path / "a")).run_dir
    older = Spaces((7,), None, FrameFormat(image=False), 2, 0, None, "zero")
    monkeypatch.setattr("fastdqn.training.load.SavedNetwork.spaces", older)
    with pytest.raises(ConfigError, match=r"observations of shape \(7,\), where the envs of this"):
        train(tiny(tmp_path / "b", initial=str(parent)))

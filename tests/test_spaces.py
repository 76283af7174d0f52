"""Envs, policies, networks and checkpoints that do not go together are refused in one sentence."""

import gymnasium
import numpy as np
import pytest
import torch
from helpers.scripted_env import Script, ScriptedStream, ScriptedVectorEnv
from helpers.short_runs import NATURE, pictures, tiny
from helpers.short_runs import envs as envs_of
from torch import nn

import fastdqn
from fastdqn.acting.evaluation import evaluate
from fastdqn.acting.policy import Policy
from fastdqn.checkpoints.store import find_checkpoint, load_checkpoint, save_checkpoint
from fastdqn.cli.main import main
from fastdqn.envs import make_envs
from fastdqn.errors import ConfigError, EnvError
from fastdqn.networks.make import make_network
from fastdqn.networks.trial import try_network
from fastdqn.spaces import Spaces
from fastdqn.training.train import train
from fastdqn.training.trainer import Trainer


def envs(n=4):
    return envs_of(shape=(6,), n=n)


# What differs from envs(): arguments of Script, of the VectorEnv, and the words for it.
OTHERS = {
    "shape": (
        {"frame_shape": (7,)},
        {},
        r"have frames of shape \(7,\) float32, .* \(6,\) float32; ",
    ),
    "dtype": ({"dtype": "uint8"}, {}, r"have frames of shape \(6,\) uint8, .* \(6,\) float32; "),
    "actions": ({"num_actions": 6}, {}, "have 6 actions, where .* have 5 actions; "),
    "start": ({}, {"start": 1}, "have actions that start at 1, where .* start at 0; "),
}


def other(what, n=2):
    script, vector, _ = OTHERS[what]
    return ScriptedVectorEnv(Script(n, **{"frame_shape": (6,), **script}), **vector)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tiny(tmp_path_factory.mktemp("runs") / "a"), envs=envs()).run_dir


# --- envs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", OTHERS)
def test_evaluation_envs_are_like_those_of_training(tmp_path, what):
    with pytest.raises(ConfigError, match=f"^eval_envs {OTHERS[what][2]}pass eval_envs like th"):
        train(tiny(tmp_path / "a"), envs=envs(), eval_envs=other(what))
    assert not (tmp_path / "a").exists()


def test_evaluation_envs_may_leave_the_stack_open(tmp_path):
    config = tiny(tmp_path / "a", frame_stack=2, eval_episodes=2)
    with pytest.raises(ConfigError, match=r"eval_envs have frame_stack = 3, where .* = 2; pass"):
        train(config, envs=envs(), eval_envs=make_envs(envs(n=2), frame_stack=3))
    result = train(config, envs=envs(), eval_envs=make_envs(envs(n=2)))
    assert result.summary["eval_episodes"] == 2


@pytest.mark.parametrize("what", OTHERS)
def test_a_policy_plays_in_envs_like_those_of_training(run, what):
    policy = fastdqn.load(run, device="cpu")
    words = f"^The envs {OTHERS[what][2]}play it in envs like those"
    played = other(what)
    with pytest.raises(ConfigError, match=words):
        evaluate(policy, played, episodes_per_env=1)
    assert played.seeds == [], "nothing was started"


def test_eval_env_id_compares(tmp_path, capsys):
    run = train(tiny(tmp_path / "a")).run_dir
    assert main(["eval", str(run), "--env-id", "Acrobot-v1", "--episodes", "2"]) == 2
    words = "The envs have frames of shape (6,) float32, where those that the policy was trained on"
    assert words in capsys.readouterr().err


def test_what_evaluate_plays_in(run):
    policy = fastdqn.load(run, device="cpu")
    adapted, vector = (
        evaluate(policy, given, episodes_per_env=2, seed=3) for given in (make_envs(envs()), envs())
    )
    assert np.array_equal(adapted.returns, vector.returns) and vector.episodes == 8
    with pytest.raises(EnvError, match="is a single env, not a VectorEnv"):
        evaluate(policy, gymnasium.make("CartPole-v1"), episodes_per_env=1)


def test_frames_of_another_shape_are_refused(run):
    policy = fastdqn.load(run, device="cpu")
    for shape in ((4,), (2, 4), (2, 2, 6)):
        with pytest.raises(ConfigError, match=r"observation has shape .* a frame of shape \(6,\) "):
            policy.act(np.zeros(shape, np.float32))
    assert len(policy.act(np.zeros((2, 6), np.float32))) == 2
    assert policy.act(np.zeros(6, np.float32)) in range(5), "one env, one action"


@pytest.mark.parametrize("what", OTHERS)
def test_a_run_goes_on_in_envs_like_its_own(run, what):
    before = (run / "config.json").read_bytes()
    with pytest.raises(
        ConfigError, match=f"^The envs {OTHERS[what][2]}use envs like those, or sta"
    ):
        train(tiny(run, resume="require"), envs=other(what, n=4))
    assert (run / "config.json").read_bytes() == before


def test_a_run_goes_on_with_the_stacks_it_had(tmp_path):
    class Padded(ScriptedStream):
        stack_padding = "zero"

    config = tiny(tmp_path / "a", frame_stack=2)
    train(config, envs=envs())
    script = Script(4, frame_shape=(6,))
    for given, words in (
        (make_envs(envs(), frame_stack=3), "frame_stack = 3, where .* frame_stack = 2; use"),
        (make_envs(envs()), "frame_stack = None, where"),
    ):
        with pytest.raises(ConfigError, match=f"The envs have {words}"):
            train(config.replace(resume="require"), envs=given)
    stream = Padded(script)
    stream.frame_stack = 2
    with pytest.raises(ConfigError, match=r"stack_padding = 'zero', where .* 'repeat'"):
        train(config.replace(resume="require"), envs=stream)


# --- older checkpoints ---------------------------------------------------------------------------


@pytest.mark.parametrize("image", [False, True])
def test_a_checkpoint_that_says_less_still_loads(tmp_path, image):
    given = (pictures, NATURE) if image else (envs, {})
    path = train(tiny(tmp_path / "a", **given[1]), envs=given[0]()).run_dir
    state = load_checkpoint(find_checkpoint(path))
    for name in ("frame_dtype", "own_envs", "frame_format", "observation"):
        del state["run"]["spec"][name]
    save_checkpoint(tmp_path / "b" / "checkpoints", 100, state, keep=1)
    old, new = (fastdqn.load(p, device="cpu") for p in (tmp_path / "b", path))
    assert old.spaces.image == new.spaces.image == image
    assert old.spaces.frame_dtype == ("uint8" if image else None)
    frames = given[0]().reset(seed=0)[0]
    assert np.array_equal(old.act(frames), new.act(frames))
    assert evaluate(old, given[0](), episodes_per_env=1, seed=0).episodes == 4


def test_spaces_of_a_stream_and_of_its_checkpoint_are_the_same(run):
    spec = load_checkpoint(find_checkpoint(run), parts=("run",))["run"]["spec"]
    assert Spaces.of_spec(spec) == Spaces.of(make_envs(envs()))
    assert spec["own_envs"] is True and spec["frame_dtype"] == "float32"


# --- networks ------------------------------------------------------------------------------------


class Raises(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(7, 5)

    def forward(self, observation):
        return self.layer(observation)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def forward(self, observation):
        return self.layer(observation), None


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: nn.Linear(6, 4), r"\(Linear\) makes \[1, 4\] of an observation of shape \(1, 6\)"),
        (lambda: nn.Linear(6, 5).double(), "parameter 'weight' is torch.float64; make it float32"),
        (Raises, r"\(Raises\) does not take an observation of shape \(1, 6\) float32 \(RuntimeErr"),
        (Pair, r"makes tuple of .*the envs have 5 actions; pass one that makes Q, \[1, 5\]"),
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.Flatten(0)), r"makes \[5\] of"),
        (nn.Identity, "has no parameters to train"),
        (lambda: make_network((4,), 5), "does not take an observation"),
        (lambda: nn.Linear(6, 5).requires_grad_(False), "Every parameter of the network is frozen"),
    ],
)  # fmt: skip
def test_a_network_that_does_not_fit_is_refused_before_a_step(tmp_path, network, words):
    given = envs()
    with pytest.raises(ConfigError, match=words):
        train(tiny(tmp_path / "a"), envs=given, network=network())
    assert given.seeds == [] and not (tmp_path / "a").exists()


def test_the_check_of_a_network_leaves_no_trace():
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x)

    layers = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), Noise(), nn.Linear(8, 5)
    network = nn.Sequential(*layers)
    network[2].eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    try_network(network, (6,), torch.float32, 5)
    assert torch.rand(1) == expected
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_lazy_network_learns_its_shapes_from_the_check(tmp_path):
    network = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(5))
    trainer = Trainer(tiny(tmp_path / "a"), envs=envs(), network=network)
    trainer.close()
    assert network[0].weight.shape == (8, 6)


def test_a_network_passed_to_load_is_checked(tmp_path):
    def flat(actions):
        return nn.Sequential(nn.Flatten(), nn.Linear(12, actions))

    path = train(tiny(tmp_path / "a", frame_stack=2), envs=envs(), network=flat(5)).run_dir
    with pytest.raises(ConfigError, match=r"makes \[1, 4\] of an observation of shape \(1, 2, 6\)"):
        fastdqn.load(path, device="cpu", network=flat(4))
    assert isinstance(fastdqn.load(path, device="cpu", network=flat(5)), Policy)

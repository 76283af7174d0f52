"""Batch normalisation in every mode: statistics of the batch to learn, running ones to act."""

import copy

import numpy as np
import pytest
import torch

import fastdqn
from fastdqn.checkpoints.store import find_checkpoint, load_checkpoint
from fastdqn.config.config import Config
from fastdqn.errors import ConfigError
from fastdqn.learning.learner import Learner
from fastdqn.networks.batchnorm_cnn import BatchNormCNN
from fastdqn.networks.make import make_network
from fastdqn.training.train import train
from fastdqn.types import Batch

EPSILON, MOMENTUM = 1e-5, 0.1  # of Ioffe 2015 as torch has them


def mlp(seed=0):
    torch.manual_seed(seed)
    return make_network((3,), 2, hidden_sizes=(5, 4), batch_norm=True)


def cnn(seed=0):
    torch.manual_seed(seed)
    return make_network((3, 29, 30), 2, kind="batchnorm_cnn", hidden_sizes=())


MAKERS = {"mlp": (mlp, (3,)), "cnn": (cnn, (3, 29, 30))}


def batch(shape, seed=0, size=8):
    g = torch.Generator().manual_seed(seed)
    return Batch(
        2 * torch.rand((size, *shape), generator=g) + 1,
        torch.randint(2, (size,), generator=g),
        torch.randn(size, generator=g),
        torch.full((size,), 0.9),
        5 * torch.rand((size, *shape), generator=g) - 4,  # of another mean than the observations
        torch.ones(size),
        torch.arange(size),
    )


def norms_of(network):
    return list(network.torso.norms)


def statistics_of(network):
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def assert_same(first, second):
    assert first.keys() == second.keys() and first
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


# --- what they compute ---------------------------------------------------------------------------


def normalised(x, norm, training):
    """(x - mean) / sqrt(var + eps) * weight + bias per feature, in float64."""
    w, b = norm.weight.double(), norm.bias.double()
    mean, var = norm.running_mean.double(), norm.running_var.double()
    if training:
        mean = x.sum(0) / len(x)
        var = ((x - mean) ** 2).sum(0) / len(x)
    return (x - mean) / (var + EPSILON).sqrt() * w + b


@pytest.mark.parametrize("training", [True, False])
def test_the_mlp_equals_its_formula(training):
    network = mlp().train(training)
    for norm in norms_of(network):  # nothing at the values it starts from
        with torch.no_grad():
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    x = expected = batch((3,)).observation.double()
    for layer, norm in zip(network.torso.layers, norms_of(network), strict=True):
        z = expected @ layer.weight.double().T + layer.bias.double()
        expected = normalised(z, norm, training).clamp(min=0)
    expected = expected @ network.head.q.weight.double().T + network.head.q.bias.double()
    torch.testing.assert_close(network(x.float()).double(), expected, rtol=1e-4, atol=1e-5)


def test_the_cnn_is_convolution_normalisation_relu_thrice():
    torch.manual_seed(0)
    torso = BatchNormCNN(3, 40, 90)
    plain = torch.nn.Sequential(
        *(
            layer
            for conv, norm in zip(torso.convs, torso.norms, strict=True)
            for layer in (conv, norm, torch.nn.ReLU())
        ),
        torch.nn.Flatten(),
    )
    assert [(c.out_channels, c.kernel_size, c.stride) for c in torso.convs] == [
        (16, (5, 5), (2, 2)), (32, (5, 5), (2, 2)), (32, (5, 5), (2, 2)),
    ]  # fmt: skip
    x = torch.rand(4, 3, 40, 90) * 2 - 1
    for training in (True, False):
        torso.train(training)
        torch.testing.assert_close(torso(x), plain(x))


# --- in the learner ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKERS)
def test_an_update_moves_the_statistics_by_the_batch_of_observations_alone(kind):
    make, shape = MAKERS[kind]
    learner, b = Learner(make(), precision="fp32"), batch(shape)
    first = learner.network.torso.layers[0] if kind == "mlp" else learner.network.torso.convs[0]
    with torch.no_grad():
        z = first(b.observation).double()
    z = z if kind == "mlp" else z.permute(0, 2, 3, 1).flatten(0, 2)  # [samples and places, C]
    mean = z.sum(0) / len(z)
    variance = ((z - mean) ** 2).sum(0) / (len(z) - 1)  # unbiased, as running_var is
    learner.update(b)
    norm = norms_of(learner.network)[0]
    assert [n.num_batches_tracked.item() for n in norms_of(learner.network)] == [1] * (
        2 if kind == "mlp" else 3
    )
    expected = {"running_mean": MOMENTUM * mean, "running_var": 1 - MOMENTUM + MOMENTUM * variance}
    for name, value in expected.items():
        torch.testing.assert_close(getattr(norm, name).double(), value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("target_period_updates", [1, 3, None])
def test_target_and_chooser_use_running_statistics(kind, target_period_updates):
    make, shape = MAKERS[kind]
    for double in (False, True):
        learner = Learner(
            make(),
            double=double,
            precision="fp32",
            learning_rate=1e-2,
            target_period_updates=target_period_updates,
        )
        for i in range(4):
            learner.update(batch(shape, i))
        online = copy.deepcopy(learner.network).eval()
        target = copy.deepcopy(learner.target_network).eval()
        b = batch(shape, 9)
        with torch.no_grad():
            following = target(b.next_observation)
            chooser = online(b.next_observation) if double else following
            rows = torch.arange(len(b.action))
            y = b.reward + b.discount * following[rows, chooser.argmax(1)]
            q = copy.deepcopy(learner.network).train()(b.observation)[rows, b.action]
        torch.testing.assert_close(learner.update(b).td_error, q - y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_target_gets_the_statistics_when_it_is_moved_and_not_before(kind):
    make, shape = MAKERS[kind]
    learner = Learner(make(), precision="fp32", target_period_updates=2)
    at_start = statistics_of(learner.target_network)
    learner.update(batch(shape, 0))
    assert_same(statistics_of(learner.target_network), at_start)
    learner.update(batch(shape, 1))
    assert_same(statistics_of(learner.target_network), statistics_of(learner.network))
    assert not torch.equal(
        norms_of(learner.network)[0].running_mean, at_start["torso.norms.0.running_mean"]
    )


@pytest.mark.parametrize("kind", MAKERS)
def test_acting_changes_nothing_and_every_observation_stands_alone(kind):
    make, shape = MAKERS[kind]
    learner = Learner(make(), precision="fp32")
    for i in range(3):
        learner.update(batch(shape, i))
    before = statistics_of(learner.network)
    policy, frames = learner.policy(), batch(shape, 5).observation
    policy.act(frames)
    with torch.no_grad():
        together = learner.acting_network(frames)
        alone = torch.cat([learner.acting_network(frame[None]) for frame in frames])
        in_a_batch = copy.deepcopy(learner.network).train()(frames)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together, in_a_batch, atol=1e-2)
    assert_same(statistics_of(learner.network), before)
    learner.update(batch(shape, 7))
    with torch.no_grad():  # the policy acts by what was learned since
        assert not torch.equal(policy.network(frames), together)


@pytest.mark.parametrize("kind", MAKERS)
def test_compiled_equals_eager(kind):
    make, shape = MAKERS[kind]
    learners = [
        Learner(
            make(),
            mode=mode,
            compile_backend="aot_eager",
            precision="fp32",
            optimizer="rmsprop",
            rmsprop_centred=False,
            learning_rate=1e-3,
            max_grad_value=1.0,
            target_period_updates=2,
        )
        for mode in ("eager", "compile")
    ]
    for i in range(5):
        td = [learner.update(batch(shape, i)).td_error for learner in learners]
        torch.testing.assert_close(*td, rtol=1e-4, atol=1e-5)
    for name in ("network", "target_network"):
        one, other = (getattr(learner, name).state_dict() for learner in learners)
        assert one.keys() == other.keys()
        for key in one:
            torch.testing.assert_close(one[key], other[key], rtol=1e-3, atol=1e-4)


def test_batch_normalisation_stays_float32():
    assert Learner(cnn()).precision == "fp32", "auto"
    with pytest.raises(ConfigError, match="'bf16' is not for networks with batch normalisation"):
        Learner(cnn(), precision="bf16")


# --- in a run ------------------------------------------------------------------------------------


def run_config(tmp_path, name, **changes):
    return Config(
        env_id="fastdqn/CartPole-v1",
        num_envs=4,
        total_env_steps=600,
        learning_starts_env_steps=100,
        batch_size=16,
        batch_norm=True,
        hidden_sizes=(8,),
        n_step=1,
        replay_capacity=400,
        target_period_updates=7,
        eval_episodes=2,
        eval_num_envs=2,
        log_period_env_steps=100,
        device="cpu",
        run_dir=str(tmp_path / name),
    ).replace(**changes)


PIXELS = {
    "env_kwargs": {"pixels": True, "difference": True},
    "network": "batchnorm_cnn",
    "batch_norm": False,
    "hidden_sizes": (),
    "total_env_steps": 320,
    "update_period_env_steps": 16.0,
    "torch_threads": 1,  # beside other processes two are slower
}


@pytest.mark.parametrize("changes", [{}, PIXELS], ids=["mlp", "cnn"])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, changes):
    train(run_config(tmp_path, "whole", **changes))
    parts = run_config(tmp_path, "parts", **changes)
    train(parts, on_log=lambda row: row["env_steps"] >= 200)
    assert find_checkpoint(tmp_path / "parts").name == "step_000000000200"
    train(parts.replace(resume="require"))
    states = [
        load_checkpoint(find_checkpoint(tmp_path / name))["learner"] for name in ("whole", "parts")
    ]
    for name in ("network", "target_network"):
        assert any("running_var" in key for key in states[0][name])
        assert_same(*(state[name] for state in states))
    assert states[0]["updates"] == states[1]["updates"] > 10


def test_a_loaded_policy_acts_as_the_run_did(tmp_path):
    result = train(run_config(tmp_path, "run"))
    loaded = fastdqn.load(result.run_dir, device="cpu")
    frames = np.random.default_rng(0).standard_normal((500, 4)).astype(np.float32)
    assert np.array_equal(loaded.act(frames), result.policy.act(frames))
    assert any("norms.0.running_mean" in name for name in loaded.network.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "nature"}, "batch_norm = True is for network = 'mlp', not 'nature'"),
        ({"network": "batchnorm_cnn"}, "batch_norm = True is for network = 'mlp'"),
        ({"batch_size": 1}, "batch_norm = True needs a variance"),
        ({"hidden_sizes": ()}, r"hidden_sizes = \(\) must be one or more sizes"),
        (
            {"hidden_sizes": (), "network": "batchnorm_cnn", "batch_norm": False, "dueling": True},
            "dueling = True needs a hidden layer to split; set hidden_sizes",
        ),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ConfigError, match=message):
        Config().replace(**{"batch_norm": True, **changes})

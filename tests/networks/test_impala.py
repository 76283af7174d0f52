"""IMPALA's residual network: the paper's layers, sizes and gradients, and runs from end to end."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastdqn
from fastdqn.checkpoints.store import find_checkpoint, load_checkpoint
from fastdqn.config.config import Config
from fastdqn.errors import ConfigError
from fastdqn.learning.bf16 import Bfloat16Twin
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.learning.input_gradients import input_gradient
from fastdqn.learning.learner import Learner
from fastdqn.networks.copies import lower
from fastdqn.networks.impala import ImpalaCNN
from fastdqn.networks.make import make_network
from fastdqn.training.train import train
from fastdqn.types import Batch

# --- the paper's network as plain modules -------------------------------------------------------


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(c, c, 3, padding=1) for _ in "ab")

    def forward(self, x):
        return x + self.conv2(torch.relu(self.conv1(torch.relu(x))))


class Section(nn.Module):
    def __init__(self, inputs, c):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(inputs, c, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)
        self.blocks = nn.Sequential(Block(c), Block(c))

    def forward(self, x):
        return self.blocks(self.pool(self.conv(x)))


class Plain(nn.Module):
    """On floats 0..1."""

    def __init__(self, torso):
        super().__init__()
        sizes = [(s.conv.in_channels, s.conv.out_channels) for s in torso.sections]
        self.sections = nn.Sequential(*(Section(*pair) for pair in sizes))
        self.hidden = nn.Linear(torso.hidden.in_features, torso.hidden.out_features)
        self.load_state_dict(torso.state_dict())  # and so the names are those

    def forward(self, x):
        return torch.relu(self.hidden(torch.relu(self.sections(x)).flatten(1)))


def torso_of(channels=4, height=20, width=20, hidden=32, multiplier=1, seed=0):
    torch.manual_seed(seed)
    torso = ImpalaCNN(channels, height, width, hidden, multiplier=multiplier)
    with torch.no_grad():  # biases that matter: one scaled too much or too little must show
        for name, parameter in torso.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.linspace(-0.3, 0.3, parameter.numel()))
    return torso


def frames(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=g)


def values_and_gradients(torso, observation):
    features = torso(observation)
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    return features, *torch.autograd.grad((features * weights).sum(), list(torso.parameters()))


def assert_near(found, expected, tolerance):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        a, b = a.detach().double(), b.detach().double()
        assert a.shape == b.shape and b.norm() > 0
        assert (a - b).norm() <= tolerance * b.norm()


# In float32 rounding decides which of two all but equal sums a pooling sends its gradient to, and
# one such place is 1e-2 of a gradient here: only float64 compares the gradients closely.
@pytest.mark.parametrize(
    ("dtype", "of_values", "of_gradients"),
    [(torch.float32, 1e-5, 5e-2), (torch.float64, 1e-13, 1e-13)],
)
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_values_and_gradients_are_those_of_plain_modules(
    kind, multiplier, dtype, of_values, of_gradients
):
    torso = torso_of(height=20, width=27, multiplier=multiplier).to(dtype)
    observation = frames(3, 4, 20, 27)
    scaled = observation.double() / 255
    expected = values_and_gradients(Plain(torso.double()).double(), scaled)
    given = observation if kind == "bytes" else scaled.to(dtype)
    found = values_and_gradients(torso.to(dtype), given)
    assert found[0].dtype == dtype
    assert_near(found[:1], expected[:1], of_values)
    assert_near(found[1:], expected[1:], of_gradients)


@pytest.mark.parametrize("size", [(8, 8), (9, 17), (12, 12), (84, 84)])
def test_sizes_are_halved_three_times_and_rounded_up(size):
    torso = torso_of(3, *size)
    height, width = (-(-pixels // 8) for pixels in size)
    assert torso.hidden.in_features == 32 * height * width
    found = torso(frames(2, 3, *size))
    plain = Plain(torso)(frames(2, 3, *size).float() / 255)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)


def test_gradients_are_slopes():
    torso = torso_of(2, 9, 9, hidden=5).double()
    observation = frames(2, 2, 9, 9)
    x = (observation.double() / 255).requires_grad_()
    assert torch.autograd.gradcheck(torso, (x,), fast_mode=True)
    names = [n for n, _ in torso.named_parameters() if n.startswith(("sections.0.conv", "hidden"))]

    def of_parameters(*values):
        replaced = dict(zip(names, values, strict=True))
        return torch.func.functional_call(torso, replaced, (observation,))

    given = [torso.get_parameter(name).detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(of_parameters, given, fast_mode=True)


def test_colours_and_stack_are_channels_in_order():
    torso, observation = torso_of(6, 12, 12), frames(2, 2, 3, 12, 12)
    assert torch.equal(torso(observation), torso(observation.flatten(1, 2)))


# --- names --------------------------------------------------------------------------------------


def test_the_names_of_its_parameters_are_stable():
    network = make_network((12, 12), 3, kind="impala", frame_stack=2, hidden_sizes=(8,))
    blocks = [f"blocks.{b}.{layer}" for b in range(2) for layer in ("conv1", "conv2")]
    layers = [f"torso.sections.{s}.{name}" for s in range(3) for name in ("conv", *blocks)]
    assert list(network.state_dict()) == [
        f"{layer}.{kind}"
        for layer in (*layers, "torso.hidden", "head.q")
        for kind in ("weight", "bias")
    ]
    assert network.torso.sections[2].conv.weight.shape == (32, 32, 3, 3)


# --- precision, layout, compilation -------------------------------------------------------------


def network_of(kind="impala", seed=0, **kwargs):
    torch.manual_seed(seed)
    options = {"frame_stack": 2, "hidden_sizes": (32,), "dueling": True, **kwargs}
    return make_network((20, 20), 3, kind=kind, **options)


def batch(n=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    action = torch.randint(0, 3, (n,), generator=g)
    reward, ones = torch.randn(n, generator=g), torch.ones(n)
    seen, following = frames(n, 2, 20, 20, seed=seed), frames(n, 2, 20, 20, seed=seed + 1)
    return Batch(seen, action, reward, 0.99 * ones, following, ones, torch.arange(n))


def test_dueling_splits_a_doubled_hidden_layer():
    network = network_of()
    assert network.torso.hidden.out_features == 64
    assert network.head.value.in_features == network.head.advantage.in_features == 32


@pytest.mark.parametrize("kind", ["impala", "small_resnet"])
def test_bfloat16_is_close(kind):
    network, observation = network_of(kind), frames(16, 2, 20, 20)
    plain = network(observation)
    for low in (lower(network), Bfloat16Twin(network, FlatParameters(network)).network):
        assert {p.dtype for p in low.torso.parameters()} == {torch.bfloat16}
        q = low(observation)
        assert q.dtype == torch.float32
        torch.testing.assert_close(q, plain, rtol=0.05, atol=0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(network(observation), plain, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("kind", ["impala", "small_resnet"])
def test_gradients_in_bfloat16_are_near_those_of_float32(kind):
    low, full = (Learner(network_of(kind), precision=p) for p in ("bf16", "fp32"))
    a, b = (learner._gradients(*batch(32)[:6])[0] for learner in (low, full))
    assert a.dtype == torch.float32
    assert F.cosine_similarity(a, b, dim=0) > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "modules"),  # sections, blocks, convolutions in them
    [("impala", 3 + 6 + 12), ("small_resnet", 3 + 2 + 4)],
)
def test_activations_lie_channels_last(kind, modules, dtype):
    network = network_of(kind)
    FlatParameters(network)
    torso, seen = lower(network).torso.to(dtype), []
    for name, module in torso.named_modules():
        if name.startswith("sections"):
            module.register_forward_hook(lambda _, inputs, output: seen.extend([*inputs, output]))
    torso(frames(3, 2, 20, 20))
    images = [x for x in seen if isinstance(x, torch.Tensor)]
    assert len(images) == 2 * modules
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in images)
    assert all(x.dtype == dtype for x in images)


@pytest.mark.parametrize("kind", ["impala", "small_resnet"])
def test_compiled_whole_it_equals_eager(kind):
    eager, compiled = (
        Learner(network_of(kind), precision="fp32", mode=mode, compile_backend="aot_eager")
        for mode in ("eager", "compile")
    )
    before = eager.flat.data.clone()
    for seed in range(2):
        a, b = (learner.update(batch(seed=seed)) for learner in (eager, compiled))
        torch.testing.assert_close(a.td_error, b.td_error)
    torch.testing.assert_close(eager.flat.data, compiled.flat.data, rtol=0, atol=1e-6)
    assert not torch.equal(eager.flat.data, before)


def test_the_input_gradient_is_per_grey_level():
    network, observation = network_of(dueling=False), frames(2, 2, 20, 20)
    plain = copy.deepcopy(network).double()
    plain.torso = Plain(network.torso).double()
    x = (observation.double() / 255).requires_grad_()
    q = plain(x)
    expected = torch.autograd.grad(q.max(dim=1).values.sum(), x)[0] / 255
    found = input_gradient(network, observation)
    assert_near([found], [expected], 5e-2)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (
            (7, 84),
            {},
            r"'impala' needs frames of at least 8 x 8, not 7 x 84; use network = 'small_cnn'",
        ),
        ((4,), {}, r"network = 'impala' needs images .* not frames of shape \(4,\)"),
        ((84, 84, 3), {}, r"have their channels last"),
        (
            (20, 20),
            {"hidden_sizes": (256, 256)},
            r"\(256, 256\) must be one size for network = 'impala'; use 512",
        ),
        ((20, 20), {"batch_norm": True}, "batch_norm = True is for network = 'mlp', not 'impala'"),
    ],
)
def test_refusals(shape, options, message):
    stack = 2 if len(shape) == 2 else None
    with pytest.raises(ConfigError, match=message):
        make_network(
            shape, 3, kind="impala", **{"frame_stack": stack, "hidden_sizes": (8,), **options}
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"impala_width": 0}, "impala_width = 0 is out of range; use a number from 1 to 64"),
        ({"impala_width": 65}, "impala_width = 65 is out of range"),
        (
            {"impala_width": 2, "network": "nature"},
            "is for network = 'impala', not 'nature'; leave it out or use that one",
        ),
        ({"batch_norm": True}, "batch_norm = True is for network = 'mlp', not 'impala'"),
    ],
)
def test_refusals_of_the_configuration(changes, message):
    with pytest.raises(ConfigError, match=message):
        Config(**{"network": "impala", **changes})


# --- a run --------------------------------------------------------------------------------------


def test_a_run_learns_resumes_and_is_loaded(tmp_path):
    def config(name, **changes):
        return Config(
            env_id="fastdqn/Catch-v0",
            env_kwargs={"size": 12},
            frame_stack=2,
            num_envs=4,
            network="impala",
            impala_width=2,
            hidden_sizes=(16,),
            dueling=True,
            prioritized=True,
            total_env_steps=480,
            learning_starts_env_steps=100,
            update_period_env_steps=20.0,
            batch_size=8,
            replay_capacity=400,
            target_period_updates=5,
            eval_episodes=4,
            eval_num_envs=4,
            log_period_env_steps=200,
            device="cpu",
            torch_threads=1,
            run_dir=str(tmp_path / name),
        ).replace(**changes)

    result = train(config("whole"))
    assert result.summary["updates"] == (480 - 100) // 20
    assert np.isfinite(result.summary["eval_return_mean"])
    train(config("parts"), on_log=lambda row: True)
    assert find_checkpoint(tmp_path / "parts").name == "step_000000000200"
    train(config("parts", resume="require"))
    states = [
        load_checkpoint(find_checkpoint(tmp_path / name))["learner"]["network"]
        for name in ("whole", "parts")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    loaded = fastdqn.load(result.run_dir, device="cpu")
    assert loaded.network.torso.sections[0].conv.out_channels == 32
    observation = frames(100, 12, 12).numpy()
    assert np.array_equal(loaded.act(observation), result.policy.act(observation))

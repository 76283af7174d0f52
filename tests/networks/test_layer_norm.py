"""Layer normalisation before the ReLU of hidden layers: by its formula, in every network."""

import pytest
import torch
import torch.nn.functional as F
from helpers.planted import plant
from torch import nn

import fastdqn
from fastdqn.config.config import Config
from fastdqn.errors import ConfigError
from fastdqn.networks import normalized_linear, strided_cnn
from fastdqn.networks.make import make_network
from fastdqn.networks.noisy_linear import NoisyLinear
from fastdqn.networks.normalized_linear import NormalizedLinear, NormalizedNoisyLinear
from fastdqn.networks.torsos import TORSOS

FRAME = (2, 40, 44)


def by_formula(sums, norm):
    """Row by row, with the variance over all units."""
    rows = []
    for row in sums:
        centred = row - row.sum() / len(row)
        variance = (centred * centred).sum() / len(row)
        rows.append(centred / (variance + 1e-5) ** 0.5 * norm.weight + norm.bias)
    return torch.stack(rows)


def shaken(module):
    """With no parameter at a value that hides it."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.rand_like(parameter) - 0.1
    return module


def test_by_hand():
    layer = normalized_linear.NormalizedLinear(1, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0], [1.0]]))
        layer.bias.copy_(torch.tensor([0.0, 2.0]))
        layer.norm.weight.copy_(torch.tensor([1.0, 2.0]))
        layer.norm.bias.copy_(torch.tensor([0.5, 0.0]))
    # x = 3: sums 9 and 5, mean 7, variance 4; x = 1: sums 3 and 3
    found = layer(torch.tensor([[3.0], [1.0]], dtype=torch.float64)).flatten().tolist()
    assert found == pytest.approx([1.5, -2.0, 0.5, 0.0], abs=1e-5)


@pytest.mark.parametrize("noisy", [False, True])
def test_it_is_the_formula_of_the_sums(noisy):
    torch.manual_seed(0)
    layer = NormalizedNoisyLinear(4, 6, sigma=0.3) if noisy else NormalizedLinear(4, 6)
    layer, x = shaken(layer.double()), torch.randn(3, 4, dtype=torch.float64)
    plain = NoisyLinear(4, 6, sigma=0.3) if noisy else nn.Linear(4, 6)
    plain.double().load_state_dict(
        {name: p for name, p in layer.state_dict().items() if not name.startswith("norm")}
    )
    randoms = {"noise.in": torch.randn(4), "noise.out": torch.randn(6)} if noisy else None
    sums = plain(x, randoms) if noisy else plain(x)
    torch.testing.assert_close(layer(x, randoms), by_formula(sums, layer.norm))
    assert isinstance(layer, NormalizedLinear)
    assert isinstance(layer, NoisyLinear) == noisy


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    layer = shaken(NormalizedLinear(3, 4).double())
    names, values = zip(*layer.named_parameters(), strict=True)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def output(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    torch.autograd.gradcheck(output, (x, *values))


def network_of(kind, **changes):
    torch.manual_seed(0)
    network = make_network(FRAME, 3, kind=kind, hidden_sizes=(24,), layer_norm=True, **changes)
    return shaken(network)


@pytest.mark.parametrize("kind", TORSOS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_network_normalises_its_hidden_layer(kind, dtype):
    torso = network_of(kind).torso.eval()
    frames = torch.randint(0, 256, (5, *FRAME), dtype=torch.uint8)
    x = frames if dtype == torch.uint8 else frames / 255
    norms = [m for m in torso.modules() if isinstance(m, nn.LayerNorm)]
    (norm,) = norms
    linears = [m for m in torso.modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        body = torso.body(x)
        sums = F.linear(body, linears[-1].weight, linears[-1].bias)
        expected = F.relu(by_formula(sums, norm))
        torch.testing.assert_close(torso.to_hidden(body), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torso(x), expected, rtol=1e-3, atol=1e-4)


def test_the_short_way_past_it_is_found(monkeypatch):
    monkeypatch.setattr(strided_cnn, "NormalizedLinear", type("Another", (), {}))
    with pytest.raises(AssertionError):
        test_every_network_normalises_its_hidden_layer("nature", torch.float32)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("self.norm(super().forward(input, randoms))", "super().forward(input, randoms)"),
        ("self.norm(super().forward(input, randoms))", "super().forward(self.norm(input), None)"),
        ("nn.LayerNorm(out_features)", "nn.LayerNorm(out_features, eps=1.0)"),
    ],
)
def test_another_formula_is_found(right, wrong, monkeypatch):
    plant(monkeypatch, normalized_linear, right, wrong)
    with pytest.raises((AssertionError, RuntimeError)):
        test_by_hand()


def test_the_mlp_normalises_every_layer():
    torch.manual_seed(0)
    network = shaken(make_network((5,), 3, hidden_sizes=(8, 6), layer_norm=True, dueling=True))
    x = torch.randn(4, 5)
    assert [norm.normalized_shape for norm in network.torso.norms] == [(8,), (12,)]
    hidden = x
    for layer, norm in zip(network.torso.layers, network.torso.norms, strict=True):
        hidden = F.relu(by_formula(F.linear(hidden, layer.weight, layer.bias), norm))
    torch.testing.assert_close(network.torso(x), hidden)
    torch.testing.assert_close(network.torso.to_hidden(network.torso.body(x)), hidden)


@pytest.mark.parametrize("kind", ["nature", "small_resnet"])
def test_noise_comes_before_it(kind):
    network = network_of(kind, noisy=True)
    hidden = network.torso.hidden
    assert isinstance(hidden, NormalizedNoisyLinear)
    assert type(network.head.q) is NoisyLinear, "what the head says is not normalised"
    x = torch.rand(2, *FRAME)
    shapes = network.random_shapes(2)
    randoms = {name: torch.randn(draw.shape) for name, draw in shapes.items()}
    with torch.no_grad():
        sums = NoisyLinear.forward(hidden, network.torso.body(x), randoms)
        expected = network.head(F.relu(by_formula(sums, hidden.norm)), randoms)
        torch.testing.assert_close(network(x, randoms=randoms), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("init", ["xavier", "fan_in", "orthogonal"])
def test_it_starts_as_nothing_but_the_normalisation(init):
    norm = make_network((5,), 3, layer_norm=True, init=init).torso.norms[0]
    assert norm.weight.eq(1).all() and norm.bias.eq(0).all()


def test_without_it_networks_have_the_layers_they_had():
    for kind in TORSOS:
        network = make_network(FRAME, 3, kind=kind, hidden_sizes=(24,))
        assert not any(isinstance(m, nn.LayerNorm) for m in network.modules())


def test_a_run_learns_with_it_and_its_policy_comes_back(tmp_path):
    run = tmp_path / "run"
    config = Config(
        layer_norm=True, hidden_sizes=(16,), total_env_steps=400, learning_starts_env_steps=100,
        eval_episodes=0, run_dir=str(run),
    )  # fmt: skip
    fastdqn.train(config)
    policy = fastdqn.load(run, device="cpu")
    assert policy.network.torso.norms[0].weight.ne(1).any()


def test_batch_normalisation_beside_it_is_refused():
    with pytest.raises(ConfigError, match=r"layer_norm = True and batch_norm exclude each other"):
        Config(layer_norm=True, batch_norm=True)
    with pytest.raises(ConfigError, match="layer_norm = True and batch_norm exclude each other"):
        make_network((4,), 2, batch_norm=True, layer_norm=True)


def test_without_a_hidden_layer_there_is_nothing_to_normalise():
    with pytest.raises(ConfigError, match="layer_norm = True has no hidden layer to normalise"):
        make_network(FRAME, 3, kind="batchnorm_cnn", layer_norm=True)
    make_network(FRAME, 3, kind="batchnorm_cnn", layer_norm=True, hidden_sizes=(8,))

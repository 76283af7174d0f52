"""Convolutions with strides: padding, the network of data-efficient Rainbow, first weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastdqn.errors import ConfigError
from fastdqn.networks import strided_cnn
from fastdqn.networks.first_weights import INITS, draw_first_weights
from fastdqn.networks.make import make_network
from fastdqn.networks.noisy_linear import NoisyLinear

# For a size: what each convolution makes of it, and the zeros before and behind what it sees.
NATURE = {
    84: [(21, 2, 2), (11, 1, 2), (11, 1, 1)],
    36: [(9, 2, 2), (5, 1, 2), (5, 1, 1)],
    41: [(11, 3, 4), (6, 1, 2), (6, 1, 1)],
    39: [(10, 2, 3), (5, 1, 1), (5, 1, 1)],
    7: [(2, 2, 3), (1, 1, 1), (1, 1, 1)],
    1: [(1, 3, 4), (1, 1, 2), (1, 1, 1)],
}
DER = {
    84: [(17, 0, 1), (4, 1, 2)],
    85: [(17, 0, 0), (4, 1, 2)],
    36: [(8, 2, 2), (2, 1, 1)],
    26: [(6, 2, 2), (2, 2, 2)],
    3: [(1, 1, 1), (1, 2, 2)],
}
BORDERS = {"nature": NATURE, "der": DER}
STRIDES = {"nature": (4, 2, 1), "der": (5, 5)}


def torso_of(kind, height, width, padding, channels=2, **options):
    torch.manual_seed(0)
    network = make_network(
        (channels, height, width), 2, kind=kind, hidden_sizes=(16,), padding=padding, **options
    )
    return network.torso


def frames(height, width, channels=2, batch=3):
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8, generator=g)


def by_hand(torso, kind, x, padded):
    """The body in float64, each convolution on zeros into which its input was written."""
    x = x.double() / (255 if x.dtype == torch.uint8 else 1)
    for number, stride in enumerate(STRIDES[kind]):
        layer = getattr(torso, f"conv{number + 1}")
        if padded:
            height, width = x.shape[2:]
            tall, top, bottom = padded[0][number]
            wide, left, right = padded[1][number]
            canvas = x.new_zeros(*x.shape[:2], top + height + bottom, left + width + right)
            canvas[:, :, top : top + height, left : left + width] = x
            x = canvas
        x = F.conv2d(x, layer.weight.double(), layer.bias.double(), stride=stride).relu()
        if padded:
            assert x.shape[2:] == (tall, wide)
    return x.flatten(1)


@pytest.mark.parametrize(
    ("kind", "height", "width"),
    [
        ("nature", 84, 84), ("nature", 36, 41), ("nature", 41, 36), ("nature", 39, 7),
        ("nature", 1, 84), ("der", 84, 84), ("der", 85, 26), ("der", 3, 36),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fused", [True, False])
def test_padding_same_is_zeros_around_what_each_convolution_sees(
    kind, height, width, fused, monkeypatch
):
    if not fused:
        monkeypatch.setattr(strided_cnn, "has_conv_relu", lambda *_: False)
    torso = torso_of(kind, height, width, "same")
    padded = BORDERS[kind][height], BORDERS[kind][width]
    pixels = frames(height, width)
    for x in (pixels, pixels.float() / 255, pixels.unsqueeze(1)):
        expected = by_hand(torso, kind, x.flatten(1, -3) if x.dim() == 5 else x, padded)
        with torch.no_grad():
            found, whole = torso.body(x), torso(x)
        assert found.shape == (3, torso.body_features)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        hidden = F.linear(expected, torso.hidden.weight.double(), torso.hidden.bias.double())
        torch.testing.assert_close(whole.double(), hidden.relu(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["nature", "der"])
def test_padding_same_has_the_gradients_of_float64(kind):
    torso = torso_of(kind, 36, 41 if kind == "nature" else 26, "same")
    padded = BORDERS[kind][36], BORDERS[kind][41 if kind == "nature" else 26]
    x = frames(36, 41 if kind == "nature" else 26)
    parameters = [p for layer in torso.convolutions for p in layer.parameters()]
    found = torch.autograd.grad(torso.body(x).square().sum(), parameters)
    expected = torch.autograd.grad(by_hand(torso, kind, x, padded).square().sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * other.abs().max().item())


@pytest.mark.parametrize("fault", ["the odd one in front", "height for width", "no border"])
@pytest.mark.parametrize("fused", [True, False])
def test_a_border_in_the_wrong_place_is_found(fault, fused, monkeypatch):
    if not fused:
        monkeypatch.setattr(strided_cnn, "has_conv_relu", lambda *_: False)
    torso = torso_of("nature", 36, 41, "same")
    left, right, top, bottom = torso.borders[0]
    torso.borders[0] = {
        "the odd one in front": (right, left, top, bottom),
        "height for width": (top, bottom, left, right),
        "no border": None,
    }[fault]
    expected = by_hand(torso_of("nature", 36, 41, "same"), "nature", frames(36, 41),
                       (NATURE[36], NATURE[41]))  # fmt: skip
    with torch.no_grad():
        found = torso.body(frames(36, 41)).double()
    assert found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-2)


def test_where_padded_zeros_lie_by_hand():
    """Kernel 5, stride 5: 5 columns need none, 3 one on each side, 4 one behind."""
    for width, before in ((5, 0), (3, 1), (4, 0)):
        torso = torso_of("der", 5, width, "same", channels=1)
        weight = torso.conv1.weight
        with torch.no_grad():
            weight.zero_()
            weight[0, 0, 2] = torch.tensor([1.0, 10.0, 100.0, 1e3, 1e4])
            torso.conv1.bias.zero_()
        x = torch.zeros(1, 1, 5, width)
        x[0, 0, 2] = torch.arange(1.0, width + 1)
        seen = F.conv2d(torso.bordered(x, 0), weight, stride=5)[0, 0]
        expected = sum((i + 1) * 10.0 ** (before + i) for i in range(width))
        assert seen.tolist() == [[expected]]


def test_valid_has_no_zeros():
    for kind, size in (("nature", 36), ("der", 84)):
        torso = torso_of(kind, size, size + 3, "valid")
        x = frames(size, size + 3)
        with torch.no_grad():
            found = torso.body(x)
        expected = by_hand(torso, kind, x, None)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        assert torso.borders == [None] * len(STRIDES[kind])


@pytest.mark.parametrize(
    ("kind", "padding", "features"),
    [("der", "valid", 576), ("der", "same", 1024), ("nature", "valid", 3136),
     ("nature", "same", 7744)],
)  # fmt: skip
def test_features_of_84_by_84(kind, padding, features):
    assert torso_of(kind, 84, 84, padding, channels=4).body_features == features


def test_der_has_the_parameters_of_the_paper():
    network = make_network((84, 84), 6, kind="der", frame_stack=4, hidden_sizes=(256,))
    count = sum(p.numel() for p in network.parameters())
    convolutions = (32 * 4 * 25 + 32) + (64 * 32 * 25 + 64)
    assert count == convolutions + (576 * 256 + 256) + (256 * 6 + 6)
    network = make_network(
        (84, 84), 6, kind="der", frame_stack=4, hidden_sizes=(256,),
        dueling=True, noisy=True, head="c51",
    )  # fmt: skip
    count = sum(p.numel() for p in network.parameters())
    heads = (256 * 51 + 51) + (256 * 6 * 51 + 6 * 51)
    assert count == convolutions + 2 * (576 * 512 + 512 + heads)


def test_what_is_smaller_than_a_kernel_is_refused_or_padded():
    with pytest.raises(ConfigError, match="network = 'der' needs frames of at least 25 x 25"):
        torso_of("der", 24, 84, "valid")
    torso_of("der", 25, 25, "valid")
    assert torso_of("der", 24, 84, "same").body_features == 64 * 1 * 4
    with pytest.raises(ConfigError, match="padding = 'same' is for network = 'nature'"):
        torso_of("impala", 84, 84, "same")
    with pytest.raises(ConfigError, match="padding = 'some' must be one of valid, same"):
        torso_of("der", 84, 84, "some")


# --- first weights -------------------------------------------------------------------------------

OPTIONS = {
    "kind": "der", "hidden_sizes": (64,), "head": "iqn", "iqn_cosines": 16, "dueling": True,
}  # fmt: skip


def initialised(init, **options):
    torch.manual_seed(0)
    return make_network((2, 50, 50), 3, init=init, **{**OPTIONS, **options})


def layers_of(network):
    kinds = nn.Conv2d | nn.Linear
    return {name: m for name, m in network.named_modules() if isinstance(m, kinds)}


NAMES = {
    "torso.conv1", "torso.conv2", "torso.hidden", "embedding.linear", "head.value",
    "head.advantage",
}  # fmt: skip


def test_torch_leaves_them():
    torch.manual_seed(0)
    network = initialised("torch")
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 32, 5, stride=5)
    assert torch.equal(network.torso.conv1.weight, conv.weight)
    before = {name: p.clone() for name, p in network.named_parameters()}
    draw_first_weights(network, "torch")
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())


def test_xavier_is_uniform_up_to_its_bound_and_has_no_biases():
    layers = layers_of(initialised("xavier"))
    assert set(layers) == NAMES
    for layer in layers.values():
        receptive = layer.weight[0, 0].numel()
        inward, outward = layer.weight.shape[1] * receptive, layer.weight.shape[0] * receptive
        bound = math.sqrt(6 / (inward + outward))
        sizes = layer.weight.abs()
        assert 0.9 * bound < sizes.max() <= bound
        spread = layer.weight.std().item() * math.sqrt(3) / bound
        assert spread == pytest.approx(1, abs=0.25 if layer.weight.numel() < 500 else 0.05)
        assert not layer.bias.any()


def test_orthogonal_has_orthogonal_rows_and_a_gain():
    layers = layers_of(initialised("orthogonal"))
    assert set(layers) == NAMES
    for name, layer in layers.items():
        matrix = layer.weight.flatten(1).double()
        wide = matrix.shape[0] <= matrix.shape[1]
        product = matrix @ matrix.T if wide else matrix.T @ matrix
        gain = 1 if name.startswith("head.") else 2  # squared
        expected = gain * torch.eye(len(product), dtype=torch.float64)
        torch.testing.assert_close(product, expected, rtol=0, atol=1e-5)
        assert not layer.bias.any()


@pytest.mark.parametrize("init", INITS)
def test_noisy_layers_keep_their_own(init):
    network = initialised(init, noisy=True)
    found = {n: m for n, m in network.named_modules() if isinstance(m, NoisyLinear)}
    assert set(found) == {"torso.hidden", "head.value", "head.advantage"}
    for layer in found.values():
        bound = layer.in_features**-0.5
        for mean in (layer.weight, layer.bias):
            assert mean.abs().max() <= bound and mean.any()
        assert torch.equal(layer.bias_sigma, torch.full_like(layer.bias_sigma, 0.5 * bound))
    assert bool(network.torso.conv1.bias.any()) == (init == "torch")


@pytest.mark.parametrize("init", INITS)
def test_equal_seeds_make_equal_weights_and_others_do_not(init):
    first, second = initialised(init), initialised(init)
    names = [name for name, p in first.named_parameters() if p.any()]
    for name in names:
        assert torch.equal(first.get_parameter(name), second.get_parameter(name))
    draw_first_weights(second, "xavier")
    weight = "torso.conv1.weight"
    assert not torch.equal(first.get_parameter(weight), second.get_parameter(weight))


def test_an_unknown_init_is_refused():
    with pytest.raises(ConfigError, match="init = 'zeros' must be one of torch, xavier"):
        initialised("zeros")

"""Parameters as views into one buffer: nothing of it shows outside but the speed."""

import copy

import pytest
import torch
from torch import nn

from fastdqn.errors import ConfigError
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.networks.make import make_network


def cnn(seed=0):
    torch.manual_seed(seed)
    return make_network((36, 36), 3, frame_stack=2, hidden_sizes=(16,), dueling=True)


def mlp(seed=0):
    torch.manual_seed(seed)
    return make_network((4,), 3, hidden_sizes=(8, 5))


NETWORKS = pytest.mark.parametrize("make", [cnn, mlp])


def fake_gradients(network, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=g) for p in network.parameters()]


@NETWORKS
def test_flattening_changes_no_value_and_no_output(make):
    network = make()
    plain = copy.deepcopy(network)
    FlatParameters(network)
    observation = torch.zeros(2, 2, 36, 36, dtype=torch.uint8) if make is cnn else torch.ones(2, 4)
    torch.testing.assert_close(network(observation), plain(observation))
    for (name, a), (other, b) in zip(
        network.named_parameters(), plain.named_parameters(), strict=True
    ):
        assert name == other and torch.equal(a, b) and a.requires_grad


@NETWORKS
def test_parameters_are_aligned_views_of_one_buffer(make):
    network = make()
    flat = FlatParameters(network)
    storage = flat.data.untyped_storage()
    assert flat.data.is_contiguous() and flat.data.dtype == torch.float32
    sizes = [p.numel() for p in network.parameters()]
    assert flat.data.numel() == sum(-(-size // 64) * 64 for size in sizes)
    taken = torch.zeros(flat.data.numel(), dtype=torch.int64)
    for parameter in network.parameters():
        assert parameter.untyped_storage().data_ptr() == storage.data_ptr()
        where = torch.arange(flat.data.numel()).as_strided(
            parameter.shape, parameter.stride(), parameter.storage_offset()
        )
        taken[where.flatten()] += 1
        assert parameter.storage_offset() % 64 == 0  # 256 bytes
    assert taken.max() == 1 and taken.sum() == sum(sizes)
    assert not flat.data[taken == 0].any()
    flat.data.fill_(7.0)
    assert all((p == 7.0).all() for p in network.parameters())
    with torch.no_grad():
        next(iter(network.parameters())).fill_(3.0)
    assert (flat.data == 3.0).any()


def test_convolution_weights_lie_channels_last():
    network = cnn()
    plain = copy.deepcopy(network)
    flat = FlatParameters(network)
    position = 0
    for parameter, old in zip(network.parameters(), plain.parameters(), strict=True):
        if parameter.dim() == 4:
            _, c, h, w = parameter.shape
            assert parameter.stride() == (c * h * w, 1, w * c, c)
            assert parameter.is_contiguous(memory_format=torch.channels_last)
            expected = old.detach().permute(0, 2, 3, 1).flatten()
        else:
            assert parameter.is_contiguous()
            expected = old.detach().flatten()
        assert torch.equal(flat.data[position : position + old.numel()], expected)
        position += -(-old.numel() // 64) * 64


@NETWORKS
def test_pack_and_views_are_each_others_inverse(make):
    network = make()
    flat = FlatParameters(network)
    gradients = fake_gradients(network)
    out = flat.pack(gradients)
    assert out.shape == flat.data.shape and torch.isfinite(out).all()
    for view, gradient in zip(flat.views(out), gradients, strict=True):
        assert torch.equal(view, gradient) and view.shape == gradient.shape
        assert view.untyped_storage().data_ptr() == out.untyped_storage().data_ptr()
    assert torch.equal(flat.pack(flat.views(out)), out)
    # Gradients as autograd makes them for such weights, channels_last, come out the same.
    strided = [g.to(memory_format=torch.channels_last) if g.dim() == 4 else g for g in gradients]
    assert torch.equal(flat.pack(strided), out)


@NETWORKS
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.Adam(p, lr=1e-2),
        lambda p: torch.optim.RMSprop(p, lr=1e-2, centered=True),
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    ],
    ids=["adam", "rmsprop", "sgd"],
)
def test_stepping_the_buffer_equals_stepping_each_parameter(make, optimizer):
    network = make()
    plain = copy.deepcopy(network)
    flat = FlatParameters(network)
    whole = nn.Parameter(flat.data)
    whole.grad = torch.zeros_like(flat.data)
    one, many = optimizer([whole]), optimizer(list(plain.parameters()))
    for step in range(3):
        gradients = fake_gradients(plain, step)
        whole.grad = flat.pack(gradients)
        for parameter, gradient in zip(plain.parameters(), gradients, strict=True):
            parameter.grad = gradient
        one.step()
        many.step()
    for a, b in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_autograd_reaches_parameters_through_the_views():
    network = cnn()
    plain = copy.deepcopy(network)
    FlatParameters(network)
    observation = torch.randint(0, 256, (2, 2, 36, 36), dtype=torch.uint8)
    own = torch.autograd.grad(network(observation).sum(), list(network.parameters()))
    expected = torch.autograd.grad(plain(observation).sum(), list(plain.parameters()))
    for a, b in zip(own, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@NETWORKS
def test_state_dict_is_canonical_and_loads_in_place(make):
    network, other = make(0), make(1)
    plain = copy.deepcopy(network).state_dict()
    flat, buffer = FlatParameters(network), FlatParameters(other).data
    state = network.state_dict()
    assert {name: t.shape for name, t in state.items()} == {n: t.shape for n, t in plain.items()}
    assert all(torch.equal(state[name], plain[name]) for name in plain)
    assert not torch.equal(buffer, flat.data)
    other.load_state_dict(state)
    assert torch.equal(buffer, flat.data)  # the same buffer, filled
    make(2).load_state_dict(state)  # and a network that is not flat takes it, too


def test_named_views_are_the_parameters_by_name():
    network = cnn()
    flat = FlatParameters(network)
    views = flat.named_views(flat.data)
    assert list(views) == [name for name, _ in network.named_parameters()]
    assert all(torch.equal(views[name], p) for name, p in network.named_parameters())


def test_a_parameter_used_twice_is_stored_once():
    shared = nn.Linear(3, 3)
    network = nn.Sequential(shared, nn.ReLU(), shared)
    flat = FlatParameters(network)
    assert flat.data.numel() == 128  # weight and bias, each aligned
    flat.data.fill_(2.0)
    assert (network[0].weight == 2.0).all() and network[0].weight is network[2].weight


def test_refusals():
    with pytest.raises(ConfigError, match="no parameters to train"):
        FlatParameters(nn.ReLU())
    with pytest.raises(ConfigError, match=r"'weight' is torch.float64; make it float32"):
        FlatParameters(nn.Linear(2, 2).double())

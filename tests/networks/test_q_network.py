"""Networks: shapes, scaling, layouts and precisions, and what they refuse."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastdqn.errors import ConfigError
from fastdqn.networks import onednn, strided_cnn
from fastdqn.networks.batchnorm_cnn import BatchNormCNN
from fastdqn.networks.heads import DuelingHead, LinearHead
from fastdqn.networks.make import make_network
from fastdqn.networks.mlp import MLP
from fastdqn.networks.nature import NatureCNN
from fastdqn.networks.q_network import QNetwork


def make(seed=0, **kwargs):
    torch.manual_seed(seed)
    return make_network(**kwargs)


def nature(stack=4, size=84, actions=6, dueling=False, hidden=64):
    return make(
        observation_shape=(size, size),
        num_actions=actions,
        frame_stack=stack,
        hidden_sizes=(hidden,),
        dueling=dueling,
    )


def frames(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=g)


def parameters_of(network):
    return sum(p.numel() for p in network.parameters())


# --- shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize(
    ("shape", "stack", "kind", "observation", "torso"),
    [
        ((4,), None, "auto", torch.zeros(5, 4), MLP),
        ((4,), 3, "auto", torch.zeros(5, 3, 4), MLP),
        ((7, 9), None, "mlp", torch.zeros(5, 7, 9), MLP),
        ((84, 84), 4, "mlp", frames(5, 4, 84, 84), MLP),
        ((84, 84), 4, "auto", frames(5, 4, 84, 84), NatureCNN),
        ((84, 84), 1, "nature", frames(5, 1, 84, 84), NatureCNN),
        ((3, 36, 40), None, "auto", frames(5, 3, 36, 40), NatureCNN),
        ((3, 36, 40), 2, "auto", frames(5, 2, 3, 36, 40), NatureCNN),
        ((1, 84, 84), 4, "auto", frames(5, 4, 1, 84, 84), NatureCNN),
        ((3, 29, 90), None, "batchnorm_cnn", torch.zeros(5, 3, 29, 90), BatchNormCNN),
        ((3, 40, 90), 2, "batchnorm_cnn", frames(5, 2, 3, 40, 90), BatchNormCNN),
        ((40, 90), 1, "batchnorm_cnn", frames(5, 1, 40, 90), BatchNormCNN),
    ],
)
def test_shapes(shape, stack, kind, observation, torso, dueling):
    network = make(
        observation_shape=shape,
        num_actions=6,
        kind=kind,
        frame_stack=stack,
        hidden_sizes=(32,),
        dueling=dueling,
    )
    assert type(network.torso) is torso
    assert type(network.head) is (DuelingHead if dueling else LinearHead)
    for batch in (1, 5):
        output = network(observation[:batch])
        q = network.q_values(output)
        assert q.shape == (batch, 6) and q.dtype == torch.float32
        assert torch.isfinite(q).all()


def test_image_overrides_the_guess_from_the_shape():
    kwargs = {"observation_shape": (40, 40), "num_actions": 2, "hidden_sizes": (8,)}
    assert isinstance(make(**kwargs, frame_stack=2).torso, NatureCNN)
    assert isinstance(make(**kwargs, frame_stack=2, image=False).torso, MLP)


def test_nature_has_the_parameters_of_the_paper():
    # 4*32*64+32, 32*64*16+64, 64*64*9+64, 3136*512+512, 512*6+6 (Mnih 2015, extended data table)
    assert parameters_of(nature(hidden=512)) == 8224 + 32832 + 36928 + 1606144 + 3078


def test_mlp_has_the_parameters_of_its_sizes():
    network = make(observation_shape=(4,), num_actions=2, hidden_sizes=(120, 84))
    assert parameters_of(network) == (4 * 120 + 120) + (120 * 84 + 84) + (84 * 2 + 2)


def test_batch_norm_adds_a_scale_and_a_shift_for_each_hidden_unit():
    network = make(observation_shape=(4,), num_actions=2, hidden_sizes=(256, 128), batch_norm=True)
    linear = (4 * 256 + 256) + (256 * 128 + 128) + (128 * 2 + 2)
    assert parameters_of(network) == linear + 2 * 256 + 2 * 128
    buffers = {name: b.numel() for name, b in network.named_buffers()}
    assert sum(buffers.values()) == 2 * 256 + 2 * 128 + 2  # means, variances and two counts


def test_batchnorm_cnn_has_the_parameters_of_the_tutorial():
    # 40 x 90 -> 18 x 43 -> 7 x 20 -> 2 x 8: 512 features
    network = make(
        observation_shape=(3, 40, 90), num_actions=2, kind="batchnorm_cnn", hidden_sizes=()
    )
    assert parameters_of(network) == (3 * 16 * 25 + 16) + 2 * 16 + (16 * 32 * 25 + 32) + 2 * 32 + (
        32 * 32 * 25 + 32
    ) + 2 * 32 + (512 * 2 + 2)
    wider = make(
        observation_shape=(3, 40, 90), num_actions=2, kind="batchnorm_cnn", hidden_sizes=(7,)
    )
    assert parameters_of(wider) - parameters_of(network) == 512 * 7 + 7 + 7 * 2 - 512 * 2


def test_a_dueling_network_gives_each_stream_a_hidden_layer_of_the_size_asked_for():
    network = nature(dueling=True, hidden=512)
    assert network.torso.hidden.out_features == 1024
    assert network.head.value.weight.shape == (1, 512)
    assert network.head.advantage.weight.shape == (6, 512)


def test_making_a_network_draws_no_numbers_but_its_weights():
    # The shape is found without random numbers, so a network depends on the seed alone.
    torch.manual_seed(0)
    direct = [nn.Conv2d(4, 32, 8), nn.Conv2d(32, 64, 4), nn.Conv2d(64, 64, 3), nn.Linear(3136, 64)]
    torso = nature().torso
    own = [torso.conv1, torso.conv2, torso.conv3, torso.hidden]
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(direct, own, strict=True))


# --- what they compute ---------------------------------------------------------------------------


def plain_nature(torso, x):
    """The paper's network on floats 0..1, in float64."""
    w = {name: p.detach().double() for name, p in torso.named_parameters()}
    x = x.double()
    x = F.relu(F.conv2d(x, w["conv1.weight"], w["conv1.bias"], stride=4))
    x = F.relu(F.conv2d(x, w["conv2.weight"], w["conv2.bias"], stride=2))
    x = F.relu(F.conv2d(x, w["conv3.weight"], w["conv3.bias"], stride=1))
    return F.relu(F.linear(x.flatten(1), w["hidden.weight"], w["hidden.bias"]))


def test_folding_1_over_255_into_the_weights_equals_dividing_the_input():
    torso, observation = nature().torso, frames(3, 4, 84, 84)
    expected = plain_nature(torso, observation.double() / 255)
    torch.testing.assert_close(torso(observation).double(), expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_the_folded_weights_is_that_of_the_divided_input():
    torso, observation = nature().torso, frames(2, 4, 84, 84)
    (folded,) = torch.autograd.grad(torso(observation).sum(), torso.conv1.weight)
    x = observation.float() / 255
    x = F.relu(torso.conv3(F.relu(torso.conv2(F.relu(torso.conv1(x))))))
    (plain,) = torch.autograd.grad(F.relu(torso.hidden(x.flatten(1))).sum(), torso.conv1.weight)
    torch.testing.assert_close(folded, plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["nature", "mlp", "batchnorm_cnn"])
def test_bytes_are_scaled_and_floats_are_not(kind):
    network = make(
        observation_shape=(40, 40), num_actions=3, kind=kind, frame_stack=2, hidden_sizes=(16,)
    )
    observation = frames(3, 2, 40, 40)
    torch.testing.assert_close(
        network(observation), network(observation.float() / 255), rtol=1e-4, atol=1e-6
    )


def test_colours_and_stack_are_channels_in_order():
    torch.manual_seed(0)
    torso = NatureCNN(6, 40, 40, 8)
    observation = frames(2, 2, 3, 40, 40)
    assert torch.equal(torso(observation), torso(observation.flatten(1, 2)))


def test_mlp_by_hand():
    torso = MLP(2, (2,))
    with torch.no_grad():
        torso.layers[0].weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.5]]))
        torso.layers[0].bias.copy_(torch.tensor([0.5, -1.0]))
    # 1 - 3 + 0.5 < 0; 2 + 1.5 - 1
    assert torso(torch.tensor([[1.0, 3.0]])).tolist() == [[0.0, 2.5]]


def test_dueling_by_hand():
    head = DuelingHead(2, 3)
    with torch.no_grad():
        head.value.weight.fill_(2.0)
        head.value.bias.fill_(1.0)
        head.advantage.weight.copy_(torch.tensor([[1.0], [2.0], [6.0]]))
        head.advantage.bias.zero_()
    # V = 2 * 4 + 1, A = (10, 20, 60), mean 30
    assert head(torch.tensor([[4.0, 10.0]])).tolist() == [[9 - 20.0, 9 - 10.0, 9 + 30.0]]


def test_dueling_identity():
    torch.manual_seed(0)
    head = DuelingHead(64, 18)
    features = torch.randn(32, 64)
    q = head(features)
    value = head.value(features[:, :32]).squeeze(1)
    advantage = head.advantage(features[:, 32:])
    torch.testing.assert_close(q.mean(dim=1), value)  # the advantages of a state have mean 0
    assert torch.equal(q.argmax(dim=1), advantage.argmax(dim=1))
    shifted = DuelingHead(64, 18)
    shifted.load_state_dict(head.state_dict())
    with torch.no_grad():
        shifted.advantage.bias += 5.0
    torch.testing.assert_close(shifted(features), q)  # a constant in A cannot show


# --- precision and layout ------------------------------------------------------------------------


def seen_by(modules):
    """Inputs and outputs of modules in the forwards to come."""
    seen = {}
    for name, module in modules.items():
        module.register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
    return seen


@pytest.mark.parametrize("dueling", [False, True])
def test_the_head_stays_float32_under_autocast(dueling):
    network = nature(dueling=dueling)
    layers = network.head.children()
    seen = seen_by({"conv2": network.torso.conv2, "hidden": network.torso.hidden})
    heads = seen_by({str(number): layer for number, layer in enumerate(layers)})
    observation = frames(4, 4, 84, 84)
    plain = network(observation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = network(observation)
        assert torch.is_autocast_enabled("cpu")  # and it is as the caller left it
    assert seen["conv2"][1].dtype == seen["hidden"][1].dtype == torch.bfloat16
    assert len(heads) == (2 if dueling else 1)
    for inputs, output in heads.values():
        assert inputs.dtype == output.dtype == torch.float32
    assert lowered.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in network.parameters())
    torch.testing.assert_close(lowered, plain, rtol=0.05, atol=0.02)
    assert not torch.equal(lowered, plain)


def test_gradients_under_autocast_are_float32():
    network = nature()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(frames(4, 4, 84, 84))
    grads = torch.autograd.grad(output.sum(), list(network.parameters()))
    assert all(grad.dtype == torch.float32 for grad in grads)


def channels_last(shape):
    _, c, h, w = shape
    return (c * h * w, 1, w * c, c)


@pytest.mark.parametrize("low", [False, True])
def test_activations_lie_channels_last(low, monkeypatch):
    monkeypatch.setattr(strided_cnn, "has_conv_relu", lambda *_: False)
    network = nature()
    seen = seen_by({"conv2": network.torso.conv2, "conv3": network.torso.conv3})
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        network(frames(3, 4, 84, 84))
    shapes = {"conv2": ((3, 32, 20, 20), (3, 64, 9, 9)), "conv3": ((3, 64, 9, 9), (3, 64, 7, 7))}
    for name, tensors in seen.items():
        for tensor, shape in zip(tensors, shapes[name], strict=True):
            assert tensor.shape == shape
            assert tensor.stride() == channels_last(shape)


def test_bytes_become_floats_and_channels_last_at_once(monkeypatch):
    monkeypatch.setattr(strided_cnn, "has_conv_relu", lambda *_: False)
    network, seen = nature(), []
    monkeypatch.setattr(network.torso, "bordered", lambda x, number: (seen.append(x), x)[1])
    network(frames(3, 4, 84, 84))
    x, *_ = seen
    assert x.dtype == torch.float32 and x.stride() == channels_last((3, 4, 84, 84))


# --- convolutions with their ReLU in one pass ----------------------------------------------------


needs_onednn = pytest.mark.skipif(
    not onednn.has_conv_relu("cpu", torch.float32), reason="torch without oneDNN"
)
# Of values and gradients against float64, relative to the whole tensor. bfloat16 rounds away some
# units' signs before their ReLU: the plain layers are off by as much.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.1}


def low_and_high(dtype):
    if not onednn.has_conv_relu("cpu", dtype):
        pytest.skip(f"no oneDNN for {dtype} here")
    # Biases that matter: one scaled too much or too little must show.
    torso = nature(hidden=32).torso
    with torch.no_grad():
        for layer in (torso.conv1, torso.conv2, torso.conv3, torso.hidden):
            layer.bias.copy_(torch.linspace(-0.3, 0.3, layer.bias.numel()))
    return torso.to(dtype)


def values_and_gradients(torso, observation):
    features = torso(observation)
    weights = torch.linspace(-1, 1, features.numel()).view_as(features)
    gradients = torch.autograd.grad((features * weights).sum(), list(torso.parameters()))
    return features.detach(), *gradients


def assert_near(found, expected, tolerance):
    torch.testing.assert_close(found[0].double(), expected[0], rtol=tolerance, atol=tolerance / 10)
    for a, b in zip(found, expected, strict=True):
        a, b = a.double(), b.double()
        assert a.shape == b.shape
        assert (a - b).norm() <= tolerance * b.norm()


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["bytes", "floats", "slice", "strided", "odd"])
def test_one_pass_gives_the_values_and_gradients_of_the_plain_layers(kind, dtype):
    torso = low_and_high(dtype)
    observation = frames(6, 4, 84, 84)
    if kind == "slice":
        observation = observation[1:4]
    elif kind == "strided":
        observation = observation.transpose(2, 3)
    elif kind == "odd":  # contiguous, but no 32-bit words
        observation = frames(4 * 84 * 84 + 1)[1:].view(1, 4, 84, 84)
    scaled = observation.double() / 255
    if kind == "floats":
        observation = (observation.float() / 255).to(dtype)
        scaled = observation.double()
    reference = NatureCNN(4, 84, 84, 32).double()
    reference.load_state_dict(torso.state_dict())
    expected = values_and_gradients(reference, scaled)  # float64 goes the plain way
    assert_near(values_and_gradients(torso, observation), expected, TOLERANCE[dtype])


@needs_onednn
@pytest.mark.parametrize("size", [(36, 36), (37, 41), (40, 38), (36, 44)])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_pass_for_other_sizes(size, channels):
    torch.manual_seed(0)
    torso = NatureCNN(channels, *size, 8)
    reference = NatureCNN(channels, *size, 8).double()
    reference.load_state_dict(torso.state_dict())
    observation = frames(2, channels, *size)
    expected = values_and_gradients(reference, observation.double() / 255)
    assert_near(values_and_gradients(torso, observation), expected, TOLERANCE[torch.float32])


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_pass_compiles_whole_and_to_the_same(dtype):
    if dtype == torch.bfloat16 and torch.__version__ < "2.12":
        pytest.skip("torch 2.11 takes its compiler for an exporter, which gets the plain layers")
    torso, observation = low_and_high(dtype), frames(3, 4, 84, 84)
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(values_and_gradients, fullgraph=True, backend="aot_eager")
        found = compiled(torso, observation)
    for a, b in zip(found, values_and_gradients(torso, observation), strict=True):
        torch.testing.assert_close(a, b)


@needs_onednn
def test_cpu_networks_go_the_short_way(monkeypatch):
    shapes, conv_relu = [], onednn.conv_relu

    def spy(x, weight, bias, stride):
        y = conv_relu(x, weight, bias, stride)
        shapes.append((tuple(x.shape), tuple(y.shape), stride))
        for tensor in (x, y):
            assert tensor.is_contiguous(memory_format=torch.channels_last)
        return y

    monkeypatch.setattr(onednn, "conv_relu", spy)
    torso = nature().torso
    rest = [((3, 32, 20, 20), (3, 64, 9, 9), (2, 2)), ((3, 64, 9, 9), (3, 64, 7, 7), (1, 1))]
    torso(frames(3, 4, 84, 84))
    assert shapes == [((3, 16, 84, 21), (3, 32, 20, 20), (4, 1)), *rest]
    shapes.clear()
    torso(frames(3, 4, 84, 84).float())
    assert shapes == [((3, 4, 84, 84), (3, 32, 20, 20), (4, 4)), *rest]
    shapes.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torso(frames(3, 4, 84, 84))
    torso.double()(frames(3, 4, 84, 84))
    assert shapes == []


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"observation_shape": (84, 84, 3)},
            r"Frames of shape \(84, 84, 3\) have their channels last; .* \(3, 84, 84\)",
        ),
        (
            {"observation_shape": (35, 84), "frame_stack": 4, "kind": "nature"},
            "at least 36 x 36, not 35 x 84; use network = 'small_cnn'",
        ),
        ({"observation_shape": (3, 84, 20), "kind": "nature"}, "at least 36 x 36, not 84 x 20"),
        ({"observation_shape": (84, 84)}, r"with frame_stack set, not frames of shape \(84, 84\)"),
        ({"observation_shape": (4,), "kind": "nature"}, r"not frames of shape \(4,\)"),
        (
            {"observation_shape": (84, 84), "frame_stack": 4, "hidden_sizes": (120, 84)},
            r"hidden_sizes = \(120, 84\) must be one size .*; use 512",
        ),
        (
            {
                "observation_shape": (84, 84),
                "frame_stack": 4,
                "hidden_sizes": (120, 84),
                "dueling": True,
            },
            r"hidden_sizes = \(120, 84\) must be one size",
        ),
    ],
)
def test_refusals(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        make_network(**{"num_actions": 2, "hidden_sizes": (8,), **kwargs})


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"observation_shape": (3, 28, 90)},
            "at least 29 x 29, not 28 x 90; use network = 'small_cnn'",
        ),
        ({"observation_shape": (4,)}, "network = 'batchnorm_cnn' needs images"),
        ({"batch_norm": True}, "batch_norm = True is for network = 'mlp', not 'batchnorm_cnn'"),
        ({"hidden_sizes": (), "dueling": True}, "dueling = True needs a hidden layer"),
    ],
)
def test_refusals_of_batchnorm_cnn(kwargs, message):
    base = {"observation_shape": (3, 40, 90), "num_actions": 2, "kind": "batchnorm_cnn"}
    with pytest.raises(ConfigError, match=message):
        make_network(**{**base, **kwargs})


def test_the_smallest_image_passes():
    network = nature(size=36)
    assert network.torso.hidden.in_features == 64
    assert network(frames(1, 4, 36, 36)).shape == (1, 6)


def test_the_dueling_argument_leaves_the_callers_sizes_alone():
    sizes = [8, 4]
    make_network((3,), 2, hidden_sizes=sizes, dueling=True)
    assert sizes == [8, 4]


def test_any_module_can_be_a_torso():
    class Half(nn.Module):
        features = 2

        def forward(self, observation):
            return observation[:, :2]

    network = QNetwork(Half(), LinearHead(2, 3))
    assert network(torch.zeros(1, 4)).shape == (1, 3)

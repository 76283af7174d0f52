"""Every torso of the registry: a body and hidden layers that together are its forward."""

from typing import get_args, get_type_hints

import pytest
import torch
import torch.nn.functional as F

from fastdqn.config.config import Config
from fastdqn.networks import strided_cnn
from fastdqn.networks.make import make_network
from fastdqn.networks.mlp import MLP
from fastdqn.networks.torsos import TORSOS

FRAME, HIDDEN = (3, 40, 44), 24
OBSERVATIONS = {
    "bytes": torch.randint(0, 256, (5, *FRAME), dtype=torch.uint8),
    "floats": torch.rand(5, *FRAME),
}


def torso_of(kind, dtype=torch.float32):
    torch.manual_seed(0)
    torso = make_network(FRAME, 2, kind=kind, hidden_sizes=(HIDDEN,)).torso.eval()
    with torch.no_grad():  # nothing at zero, and units on both sides of it
        for parameter in torso.parameters():
            parameter += 0.2 * torch.rand_like(parameter) - 0.1
    return torso.to(dtype)


def test_a_configuration_names_the_same_torsos():
    names = get_args(get_type_hints(Config)["network"])
    assert set(names) == {"auto", *TORSOS}


@pytest.mark.parametrize("kind", TORSOS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "autocast"])
@pytest.mark.parametrize("one_pass", [True, False])
def test_forward_is_the_hidden_layer_of_the_body(
    kind, observation, precision, one_pass, monkeypatch
):
    if not one_pass:
        monkeypatch.setattr(strided_cnn, "has_conv_relu", lambda *_: False)
    torso = torso_of(kind, torch.bfloat16 if precision == "bf16" else torch.float32)
    x = OBSERVATIONS[observation]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        body = torso.body(x)
        parts, whole = torso.to_hidden(body), torso(x)
        fused = kind in ("nature", "der") and strided_cnn.has_conv_relu(
            "cpu", torso.conv1.weight.dtype
        )
    assert body.shape == (5, torso.body_features)
    assert whole.shape == parts.shape == (5, torso.features)
    assert 0.1 < (whole > 0).double().mean() < 0.9 and whole.isfinite().all()
    if fused:  # its activations are 255 times as large, and rounded elsewhere
        low = precision == "bf16"
        tolerance = {"rtol": 0.05, "atol": 0.05} if low else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(parts.float(), whole.float(), **tolerance)
    else:
        assert torch.equal(parts, whole)


@pytest.mark.parametrize("kind", TORSOS)
def test_every_parameter_is_of_the_body_or_of_what_follows(kind):
    torso = torso_of(kind)
    names, parameters = zip(*torso.named_parameters(), strict=True)

    def used_by(output):
        found = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
        return {name for name, g in zip(names, found, strict=True) if g is not None}

    features = torch.rand(5, torso.body_features)
    after = used_by(torso.to_hidden(features))
    before = set(names) - after
    body = torso.body(OBSERVATIONS["floats"])
    assert (used_by(body) if body.requires_grad else set()) == before
    assert len(after) == 2, "one layer's weight and bias, its size given once"


def test_the_body_of_the_mlp_is_all_layers_but_the_last():
    torso = MLP(1, (2, 1))
    with torch.no_grad():
        for layer, weight, bias in zip(
            torso.layers, ([[1.0], [-1.0]], [[2.0, 3.0]]), ([0.5, 1.0], [-1.0]), strict=True
        ):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    body = torso.body(torch.tensor([[0.25]]))
    assert body.tolist() == [[0.75, 0.75]]  # 0.25 + 0.5, 1 - 0.25
    assert torso.to_hidden(body).tolist() == [[2.75]]  # 1.5 + 2.25 - 1


def test_the_body_of_nature_is_its_convolutions_in_the_order_of_channels():
    torso = torso_of("nature").double()
    x = OBSERVATIONS["bytes"].double() / 255
    for layer in (torso.conv1, torso.conv2, torso.conv3):
        x = F.relu(F.conv2d(x, layer.weight, layer.bias, stride=layer.stride))
    torch.testing.assert_close(torso.body(OBSERVATIONS["bytes"]), x.reshape(5, -1))

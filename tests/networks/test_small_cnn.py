"""The small convolutional network against plain torch operations, with gradients."""

import pytest
import torch
import torch.nn.functional as F

from fastdqn.errors import ConfigError
from fastdqn.networks import small_cnn
from fastdqn.networks.make import make_network
from fastdqn.networks.small_cnn import SmallCNN

FRAMES = {
    "bytes": torch.randint(0, 256, (5, 4, 10, 9), dtype=torch.uint8),
    "floats": torch.rand(5, 4, 10, 9),
}


def plain(torso, x):
    """conv - ReLU - hidden - ReLU, in the layout and order of the paper."""
    x = x.double() / 255 if x.dtype == torch.uint8 else x.double()
    x = F.relu(F.conv2d(x, torso.conv.weight.double(), torso.conv.bias.double()))
    x = x.reshape(len(x), -1)
    return F.relu(F.linear(x, torso.hidden.weight.double(), torso.hidden.bias.double()))


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("compiled", [False, True])
def test_values_and_gradients(frames, fused, compiled, monkeypatch):
    if not fused:
        monkeypatch.setattr(small_cnn, "has_conv_relu", lambda *_: False)
    torch.manual_seed(0)
    torso, x = SmallCNN(4, 10, 9, 12), FRAMES[frames]
    forward = torch.compile(torso, backend="aot_eager", fullgraph=True) if compiled else torso
    made, wanted = forward(x), plain(torso, x)
    torch.testing.assert_close(made.double(), wanted, rtol=1e-5, atol=1e-6)
    weights = torch.rand_like(made)
    found = torch.autograd.grad((made * weights).sum(), list(torso.parameters()))
    right = torch.autograd.grad((wanted * weights.double()).sum(), list(torso.parameters()))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-5)


def test_by_hand():
    """One pixel of a 3 x 3 frame is lit: its weight, and the bias."""
    torso = SmallCNN(1, 3, 3, 2)
    x = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    x[0, 0, 1, 2] = 255
    body = torso.body(x)
    expected = (torso.conv.weight[:, 0, 1, 2] + torso.conv.bias).clamp(min=0)
    torch.testing.assert_close(body[0], expected)
    assert torso.body_features == 16 and torso.features == 2


def test_sizes():
    network = make_network((4, 10, 10), 6, kind="small_cnn", hidden_sizes=(128,))
    parameters = sum(p.numel() for p in network.parameters())
    # Young 2019: 16 channels of 3 x 3, 128 hidden units.
    assert parameters == (4 * 9 + 1) * 16 + (16 * 8 * 8 + 1) * 128 + (128 + 1) * 6
    stacked = make_network((10, 10), 6, kind="small_cnn", frame_stack=4, hidden_sizes=(8,))
    assert stacked(torch.zeros(3, 4, 10, 10, dtype=torch.uint8)).shape == (3, 6)
    coloured = make_network((3, 10, 10), 6, kind="small_cnn", frame_stack=4, hidden_sizes=(8,))
    assert coloured(torch.zeros(3, 4, 3, 10, 10, dtype=torch.uint8)).shape == (3, 6)
    with pytest.raises(ConfigError, match=r"at least 3 x 3, not 2 x 9; use network = 'mlp'"):
        SmallCNN(1, 2, 9, 8)

"""The small residual network: strided sections, fewer blocks, centred pixels, as plain modules.

What it shares with IMPALA's network is tested with that one.
"""

import pytest
import torch
from torch import nn

from fastdqn.config.config import Config
from fastdqn.errors import ConfigError
from fastdqn.learning.input_gradients import input_gradient
from fastdqn.networks.make import make_network
from fastdqn.networks.small_resnet import SmallResNet

# --- as plain modules ---------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(32, 32, 3, padding=1) for _ in "ab")

    def forward(self, x):
        return x + self.conv2(torch.relu(self.conv1(torch.relu(x))))


class Plain(nn.Module):
    """On floats 0..1; parameters in the order of the torso's."""

    def __init__(self, torso):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(torso.sections[0].conv.in_channels, 16, 3, padding=1),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            Block(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            Block(),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(torso.hidden.in_features, torso.hidden.out_features),
            nn.ReLU(),
        )
        with torch.no_grad():
            for mine, its in zip(self.parameters(), torso.parameters(), strict=True):
                mine.copy_(its)

    def forward(self, x):
        return self.body(x - 0.4)


def torso_of(channels=4, height=20, width=27, hidden=32):
    torch.manual_seed(0)
    torso = SmallResNet(channels, height, width, hidden)
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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_values_and_gradients_are_those_of_plain_modules(kind, dtype, tolerance):
    torso = torso_of().double()
    observation = frames(3, 4, 20, 27)
    scaled = observation.double() / 255
    expected = values_and_gradients(Plain(torso).double(), scaled)
    given = observation if kind == "bytes" else scaled.to(dtype)
    found = values_and_gradients(torso.to(dtype), given)
    assert len(found) == 1 + 2 * (3 + 4 + 1)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype and a.shape == b.shape and b.norm() > 0
        assert (a.double() - b).norm() <= tolerance * b.norm()


def test_a_hand_computed_section():
    """Ones through weights of one: what each pixel of a strided section sees of 4 x 4 ones."""
    section = SmallResNet(1, 8, 8, 4).sections[1]
    section.blocks = nn.ModuleList()
    with torch.no_grad():
        section.conv.weight.fill_(1 / 16)
        section.conv.bias.fill_(0.5)
    made = section(torch.ones(1, 16, 4, 4))
    # Windows begin one pixel outside: 2 x 2, 2 x 3 and 3 x 3 of the 4 x 4 are inside.
    torch.testing.assert_close(made[0, 0], torch.tensor([[4.5, 6.5], [6.5, 9.5]]))


def test_pixels_are_centred_and_what_lies_outside_the_frame_is_at_the_centre():
    torso = torso_of(1, 8, 8)
    with torch.no_grad():
        torso.sections[0].conv.weight.fill_(1.0)
        torso.sections[0].conv.bias.zero_()
    seen = []
    torso.sections[0].register_forward_hook(lambda *call: seen.append(call[-1]))
    for byte, share in ((102, 0.0), (0, -102 / 255), (255, 153 / 255)):
        torso(torch.full((1, 1, 8, 8), byte, dtype=torch.uint8))
        found = seen.pop()
        inside = torch.full_like(found[..., 1:-1, 1:-1], 9 * share)  # 3 x 3 pixels of the frame
        torch.testing.assert_close(found[..., 1:-1, 1:-1], inside)
        # The largest of the windows around a corner is the one with 4 pixels, or the one with 9.
        corner = torch.tensor((4 if share < 0 else 9) * share)
        torch.testing.assert_close(found[0, 0, 0, 0], corner)


def test_the_input_gradient_is_per_grey_level():
    torch.manual_seed(0)
    network = make_network((20, 20), 3, kind="small_resnet", frame_stack=2, hidden_sizes=(32,))
    observation = frames(2, 2, 20, 20)
    floats = (observation / 255).requires_grad_()
    expected = torch.autograd.grad(network(floats).max(dim=1).values.sum(), floats)[0] / 255
    found = input_gradient(network, observation)
    assert (found - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize("size", [(8, 8), (9, 17), (42, 42), (84, 84)])
def test_sizes_are_halved_three_times_and_rounded_up(size):
    torso = torso_of(3, *size)
    height, width = (-(-pixels // 8) for pixels in size)
    assert torso.body_features == torso.hidden.in_features == 32 * height * width
    found, plain = torso(frames(2, 3, *size)), Plain(torso)(frames(2, 3, *size) / 255)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)


def test_the_names_of_its_parameters_are_stable():
    network = make_network((12, 12), 3, kind="small_resnet", frame_stack=2, hidden_sizes=(8,))
    block = ("blocks.0.conv1", "blocks.0.conv2")
    layers = ["sections.0.conv"]
    layers += [f"sections.{s}.{name}" for s in (1, 2) for name in ("conv", *block)]
    assert list(network.state_dict()) == [
        f"{layer}.{kind}"
        for layer in (*(f"torso.{name}" for name in (*layers, "hidden")), "head.q")
        for kind in ("weight", "bias")
    ]


# --- refusals -----------------------------------------------------------------------------------


def test_refusals():
    wrong = r"'small_resnet' needs frames of at least 8 x 8, not 7 x 84; use network = 'small_cnn'"
    with pytest.raises(ConfigError, match=wrong):
        make_network((7, 84), 3, kind="small_resnet", frame_stack=2, hidden_sizes=(8,))
    with pytest.raises(ConfigError, match="is for network = 'impala', not 'small_resnet'"):
        Config(network="small_resnet", impala_width=2)
    for kind, hidden_sizes in (("small_resnet", (8,)), ("nature", (8,)), ("mlp", (8, 8))):
        with pytest.raises(ConfigError, match=f"2 is for network = 'impala', not '{kind}'; leave"):
            make_network((1, 36, 36), 3, kind=kind, impala_width=2, hidden_sizes=hidden_sizes)

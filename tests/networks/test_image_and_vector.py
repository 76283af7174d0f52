"""Two branches that meet in one hidden layer, against plain torch operations, with gradients."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fastdqn.errors import ConfigError
from fastdqn.frame_format import FrameFormat
from fastdqn.networks.copies import lower
from fastdqn.networks.image_and_vector import VECTOR_FEATURES, ImageAndVector
from fastdqn.networks.small_cnn import SmallCNN
from fastdqn.networks.spec import NetworkSpec

SPEC = NetworkSpec(
    frame_shape=(3 * 40 * 44 + 2,), num_actions=3, frame_stack=None, torso="nature",
    hidden_sizes=(12,), dueling=False, batch_norm=False, impala_width=1, frame_dtype="float32",
    frame_format=FrameFormat(False, 1, (), (3, 40, 44)),
)  # fmt: skip


def plain(torso, image, vector):
    """Convolution and layer, end to end, then the hidden layer of the image torso."""
    conv, hidden = torso.image.conv, torso.image.hidden
    a = F.relu(F.conv2d(image, conv.weight, conv.bias)).flatten(1)
    b = F.relu(F.linear(vector, torso.vector.weight, torso.vector.bias))
    return F.relu(F.linear(torch.cat([a, b], 1), hidden.weight, hidden.bias))


@pytest.mark.parametrize("compiled", [False, True])
def test_values_and_gradients(compiled):
    torch.manual_seed(0)
    torso = ImageAndVector(SmallCNN(2, 7, 8, 12, beside=VECTOR_FEATURES), 5)
    image, vector = torch.rand(6, 2, 7, 8), torch.randn(6, 5)
    forward = torch.compile(torso, backend="aot_eager", fullgraph=True) if compiled else torso
    made, wanted = forward((image, vector)), plain(torso, image, vector)
    torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-6)
    assert torch.equal(torso.to_hidden(torso.body((image, vector))), torso((image, vector)))
    weights, parameters = torch.rand_like(made), list(torso.parameters())
    found = torch.autograd.grad((made * weights).sum(), parameters)
    right = torch.autograd.grad((wanted * weights).sum(), parameters)
    for one, other in zip(found, right, strict=True):
        assert other.abs().sum() > 0
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("torso", ["nature", "small_cnn", "impala", "small_resnet"])
@pytest.mark.parametrize("stack", [None, 2])
def test_both_branches_decide_in_every_image_torso(torso, stack):
    torch.manual_seed(0)
    network = replace(SPEC, torso=torso, frame_stack=stack, dueling=True).build()
    frames = torch.rand(4, *((stack,) if stack else ()), *SPEC.frame_shape)
    assert network.torso.vector.in_features == 2 * (stack or 1)
    q = network(frames)
    assert q.shape == (4, 3)
    for where in (slice(0, 9), slice(-2, None)):  # pixels, numbers
        changed = frames.clone()
        changed[..., where] += 1
        assert not torch.allclose(network(changed), q)
    low = lower(network)(frames)
    torch.testing.assert_close(low, q, rtol=0.05, atol=0.05)


def test_a_torso_that_takes_no_vector_says_so():
    with pytest.raises(ConfigError, match="takes no vector beside the image; use network = 'auto'"):
        replace(SPEC, torso="batchnorm_cnn").build()

"""From frames to what a torso takes, against numbers taken apart one by one."""

import struct

import numpy as np
import pytest
import torch
from torch import nn

from fastdqn.errors import ConfigError
from fastdqn.frame_format import FrameFormat, is_image
from fastdqn.networks.encoder import FrameEncoder, as_floats, needs_encoder
from fastdqn.networks.spec import NetworkSpec, resolve_torso

IMAGE, SIZES, NUMBERS = (2, 3, 4), (3, 1, 4), 2
PIXELS, NAMED = 24, len(SIZES)


def parts(seed=0, batch=(5,)):
    """Pixels, categories and numbers of frames, [*batch, ...]."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (*batch, *IMAGE)).astype(np.uint8)
    named = np.stack([rng.integers(0, size, batch) for size in SIZES], -1)
    return pixels, named, rng.normal(0, 3, (*batch, NUMBERS)).astype(np.float32)


def packed(pixels, named, numbers, dtype):
    """One row: the image in front, the vector behind it; bytes are taken from struct."""
    vector = np.concatenate([named, numbers], -1)
    rows = []
    for image, values in zip(
        pixels.reshape(-1, PIXELS), vector.reshape(-1, NAMED + NUMBERS), strict=True
    ):
        behind = struct.pack(f"={len(values)}f", *values)
        rows.append(np.frombuffer(image.tobytes() + behind, np.uint8) if dtype == "uint8"
                    else np.concatenate([image, values]).astype(np.float32))  # fmt: skip
    return torch.from_numpy(np.stack(rows)).reshape(*pixels.shape[:-3], -1)


def expected_vector(named, numbers):
    """One-hot by hand, category by category."""
    out = []
    for row, rest in zip(
        named.reshape(-1, NAMED).tolist(), numbers.reshape(-1, NUMBERS).tolist(), strict=True
    ):
        values = []
        for size, category in zip(SIZES, row, strict=True):
            values += [1.0 if k == category else 0.0 for k in range(size)]
        out.append(values + rest)
    return torch.tensor(out).reshape(*named.shape[:-1], -1)


@pytest.mark.parametrize("stack", [None, 3])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("divisor", [1, 255])
def test_packed_frames_are_taken_apart(dtype, stack, divisor):
    pixels, named, numbers = parts(batch=(5,) if stack is None else (5, stack))
    frames = packed(pixels, named, numbers, dtype)
    format = FrameFormat(False, divisor, SIZES, IMAGE)
    encoder = FrameEncoder(frames.shape[-1:], dtype, format)
    image, vector = encoder(frames)
    torch.testing.assert_close(
        image, torch.from_numpy(pixels).float() / divisor, rtol=1e-6, atol=1e-7
    )
    assert torch.equal(vector, expected_vector(named, numbers))
    assert vector.shape[-1] == encoder.vector_features == 3 + 1 + 4 + 2
    found = encoder.numbers(frames.flatten(0, -2))
    assert torch.equal(found, torch.from_numpy(numbers).flatten(0, -2))
    joined = FrameEncoder(frames.shape[-1:], dtype, format, flat=True)(frames)
    assert torch.equal(joined, torch.cat([image.flatten(1), vector.flatten(1)], 1))


@pytest.mark.parametrize("stack", [None, 3])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_categories_alone_and_beside_numbers(stack, dtype):
    _, named, numbers = parts(batch=(5,) if stack is None else (5, stack))
    if dtype == "uint8":
        frames, numbers = torch.from_numpy(named.astype(np.uint8)), numbers[..., :0]
        expected = expected_vector(named, np.zeros((*named.shape[:-1], NUMBERS)))[..., :8]
    else:
        frames = torch.from_numpy(np.concatenate([named, numbers], -1).astype(np.float32))
        expected = expected_vector(named, numbers)
    encoder = FrameEncoder(frames.shape[-1:], dtype, FrameFormat(False, 1, SIZES))
    assert torch.equal(encoder(frames), expected)


@pytest.mark.parametrize("shape", [(4,), (2, 5), (2, 3, 4)])
def test_numbers_and_images_are_scaled(shape):
    frames = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    for divisor in (1, 2, 255):
        for image in (False, True) if len(shape) == 3 else (False,):
            seen = FrameEncoder(shape, "uint8", FrameFormat(image, divisor))(frames)
            assert seen.dtype == torch.float32 and len(seen) == 5
            torch.testing.assert_close(seen.flatten(), frames.flatten() / divisor)


def test_bytes_are_floats_wherever_they_start():
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    for offset in range(5):
        row = np.zeros((4, offset + 12), np.uint8)
        row[:, offset:] = values.view(np.uint8)
        assert np.array_equal(as_floats(torch.from_numpy(row)[:, offset:]).numpy(), values)
    nan = torch.full((1, 1), torch.nan)
    assert as_floats(nan.view(torch.uint8)).isnan().all()


def test_what_follows_from_the_format_is_in_no_checkpoint():
    encoder = FrameEncoder((3,), "uint8", FrameFormat(False, 1, SIZES))
    assert encoder.state_dict() == {}
    with torch.device("meta"):
        made = FrameEncoder((3,), "uint8", FrameFormat(False, 1, SIZES))
    made = made.to_empty(device="cpu")
    made.fill_constants()
    frames = torch.tensor([[2, 0, 1], [0, 0, 3]], dtype=torch.uint8)
    assert torch.equal(made(frames), encoder(frames))


def test_an_encoder_is_there_where_a_torso_would_see_something_else():
    for dtype, format, normalize, needed in (
        ("uint8", FrameFormat(True, 255), False, False),
        ("uint8", FrameFormat(True, 1), False, True),
        ("float32", FrameFormat(True, 1), False, False),
        ("float32", FrameFormat(True, 255), False, True),
        ("float32", FrameFormat(False, 1), True, True),
        ("float32", FrameFormat(False, 1, (2,)), False, True),
        ("uint8", FrameFormat(False, 255, (), IMAGE), False, True),
    ):
        assert needs_encoder(dtype, format, normalize) == needed


# --- networks with one ---------------------------------------------------------------------------


def spec_of(frame_shape, dtype, format, *, torso="auto", stack=None, dueling=False, **more):
    image = frame_shape if format.image else format.packed_image
    return NetworkSpec(
        frame_shape=frame_shape, num_actions=3, frame_stack=stack, hidden_sizes=(8,),
        torso=resolve_torso(torso, image), dueling=dueling, batch_norm=False, impala_width=1,
        frame_dtype=dtype, frame_format=format, **more,
    )  # fmt: skip


@pytest.mark.parametrize("torso", ["auto", "mlp"])
@pytest.mark.parametrize("stack", [None, 2])
@pytest.mark.parametrize("dueling", [False, True])
def test_q_of_packed_frames_is_that_of_their_parts(torso, stack, dueling):
    pixels, named, numbers = parts(batch=(5,) if stack is None else (5, stack))
    frames = packed(pixels, named, numbers, "uint8")
    format = FrameFormat(False, 255, SIZES, IMAGE)
    spec = spec_of(frames.shape[-1:], "uint8", format, torso=torso, stack=stack, dueling=dueling)
    assert NetworkSpec.from_dict(spec.to_dict()) == spec
    network = spec.build()
    assert spec.describes(network) and network.encoder.format == format
    image, vector = torch.from_numpy(pixels).float() / 255, expected_vector(named, numbers)
    if torso == "mlp":
        seen = torch.cat([image.flatten(1), vector.flatten(1)], 1)
        hidden = nn.functional.linear(seen, *network.torso.layers[0].parameters()).relu()
    else:
        conv, beside = network.torso.image.conv, network.torso.vector
        channels = image.flatten(1, 2) if stack else image
        made = nn.functional.conv2d(channels, conv.weight, conv.bias).relu().flatten(1)
        more = nn.functional.linear(vector.flatten(1), beside.weight, beside.bias).relu()
        last = network.torso.image.hidden
        both = torch.cat([made, more], 1)
        hidden = nn.functional.linear(both, last.weight, last.bias).relu()
    torch.testing.assert_close(network(frames), network.head(hidden), rtol=1e-5, atol=1e-6)


def test_a_format_has_room_in_its_frames():
    packed_format = FrameFormat(False, 255, SIZES, IMAGE)
    for shape, dtype, format in (
        ((24 + 8,), "uint8", packed_format), ((24,), "float32", packed_format),
        ((2,), "float32", FrameFormat(False, 1, SIZES)),
        ((2, 3, 4), "uint8", FrameFormat(True, 1, SIZES)),
    ):  # fmt: skip
        data = {**spec_of((99,), dtype, format).to_dict(), "frame_shape": list(shape)}
        with pytest.raises(ConfigError, match=r"network\.frame_format = .* does not fit frames"):
            NetworkSpec.from_dict(data)


def test_a_format_that_is_none_is_refused_by_name():
    good = FrameFormat(False, 255, SIZES, IMAGE).to_dict()
    assert FrameFormat.from_dict(good) == FrameFormat(False, 255, SIZES, IMAGE)
    huge = 2**31 + 1
    for name, values in {
        "image": [None, 0, 1, "yes"],
        "divisor": [0, -1, huge, 1.0, True, None, "255"],
        "one_hot": [None, 3, "12", [0], [-1], [1.5], [True], [100_001], [1] * 100_001, [[2]]],
        "packed_image": [[], [1, 2], [1, 2, 0], [1, 2, huge], [1, 2, 3, 4], "123", 3, {}],
    }.items():
        for value in values:
            with pytest.raises(ConfigError, match=rf"frame_format\.{name} = .* is no {name}"):
                FrameFormat.from_dict({**good, name: value})
    for data in (None, [], 3, {}, {**good, "more": 1}):
        with pytest.raises(ConfigError, match="must be an object of"):
            FrameFormat.from_dict(data)


def test_what_an_image_is():
    for shape, is_bytes, image in (
        ((3, 3), True, True), ((2, 3), True, False), ((3, 3), False, False),
        ((4, 128), True, False),
        ((3, 3, 3), False, True), ((3, 2, 3), True, False), ((3,), True, False), ((), True, False),
        ((2, 3, 3, 3), True, False),
    ):  # fmt: skip
        assert is_image(shape, is_bytes) == image


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_compiled_is_the_same(dtype):
    pixels, named, numbers = parts()
    frames = packed(pixels, named, numbers, dtype)
    format = FrameFormat(False, 255, SIZES, IMAGE)
    network = spec_of(frames.shape[-1:], dtype, format, normalize=True).build()
    network.encoder.normalizer.add(torch.from_numpy(numbers))
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    both = [network, compiled]
    gradients = []
    for one in both:
        network.zero_grad()
        q = one(frames)
        q.square().sum().backward()
        gradients.append([q.detach(), *(p.grad.clone() for p in network.parameters())])
    for eager, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, eager, rtol=1e-5, atol=1e-6)

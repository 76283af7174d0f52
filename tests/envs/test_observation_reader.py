"""Frames of observations against a reading of one env at a time, over spaces drawn at random."""

import json
import struct

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn.envs.leaves import ObservationOptions
from fastdqn.envs.reader import ObservationReader
from fastdqn.errors import ConfigError
from fastdqn.frame_format import FrameFormat

# --- spaces, and what they mean -------------------------------------------------------------------

BYTES = st.sampled_from(["uint8", "bool"])
NUMBERS = st.sampled_from(["float16", "float32", "float64", "int8", "int32", "int64"])


@st.composite
def boxes(draw):
    """Boxes that are no images."""
    dtype = draw(st.one_of(BYTES, NUMBERS))
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 5), (1, 4), (2, 2, 2), (1, 1, 1, 1, 2)]))
    if dtype == "bool":
        return Box(0, 1, shape, np.bool_)
    low, high = draw(st.sampled_from([(0, 1), (0, 255), (0, 9), (-5, 5), (3, 3)]))
    if dtype in ("uint8", "int8"):
        low, high = max(low, 0), high if dtype == "uint8" else min(high, 100)
    return Box(low, high, shape, np.dtype(dtype).type)


@st.composite
def categories(draw):
    if draw(st.booleans()):
        return Discrete(draw(st.integers(1, 300)), start=draw(st.integers(-5, 5)))
    shape = draw(st.sampled_from([(1,), (3,), (2, 2)]))
    numbers = st.integers(1, 300)
    sizes = np.array([draw(numbers) for _ in range(np.prod(shape))]).reshape(shape)
    return MultiDiscrete(sizes, start=np.full(shape, draw(st.integers(-5, 5))))


@st.composite
def images(draw):
    """An image that can be read in one way, and its layout."""
    layout = draw(st.sampled_from(["hw", "chw", "hwc", "schw", "shwc"]))
    sizes = {"s": 2, "c": draw(st.sampled_from([1, 3, 4])), "h": 6, "w": 6}
    dtype = "uint8" if layout == "hw" else draw(st.sampled_from(["uint8", "bool", "float32"]))
    high = 1 if dtype == "bool" else draw(st.sampled_from([1, 9, 255]))
    shape = tuple(sizes[axis] for axis in layout)
    return Box(0, high, shape, np.dtype(dtype).type), layout


@st.composite
def observations(draw):
    """A space, {path: layout} of its image, if any, and options."""
    parts = draw(
        st.lists(
            st.one_of(
                boxes(), categories(), st.sampled_from([MultiBinary(3), MultiBinary([2, 2])])
            ),
            max_size=4,
        )
    )
    layouts = {}
    if not parts or draw(st.booleans()):
        image, layout = draw(images())
        parts.insert(draw(st.integers(0, len(parts))), image)
        layouts[id(image)] = layout
    if len(parts) == 1 and draw(st.booleans()):
        return parts[0], layouts
    if draw(st.booleans()):
        parts.append(Text(3))
    space = Tuple(parts) if draw(st.booleans()) else Dict(dict(zip("edcba", parts, strict=False)))
    return (Dict(inner=space) if draw(st.booleans()) else space), layouts


def leaves(space, value):
    """(space, value) of every part."""
    if isinstance(space, Dict):
        return [pair for key, part in space.spaces.items() for pair in leaves(part, value[key])]
    if isinstance(space, Tuple):
        return [
            pair for part, v in zip(space.spaces, value, strict=True) for pair in leaves(part, v)
        ]
    return [] if isinstance(space, Text) else [(space, value)]


def naive_image(pixels, layout):
    """[C, H, W], the frames of a stack one behind the other."""
    if layout == "hw":
        return pixels[None]
    frames = pixels if layout.startswith("s") else pixels[None]
    return np.concatenate(
        [np.stack([f[..., c] for c in range(f.shape[-1])]) if layout.endswith("hwc") else f
         for f in frames]
    )  # fmt: skip


def naive_frame(space, value, layouts):
    """One frame of one env, as a flat array in the dtype in which it is stored."""
    image, named, numbers = None, [], []
    parts = leaves(space, value)
    for part, x in parts:
        if id(part) in layouts:
            image = naive_image(np.asarray(x), layouts[id(part)])
        elif isinstance(part, Discrete):
            named.append(int(x) - int(part.start))
        elif isinstance(part, MultiDiscrete):
            pairs = zip(np.ravel(x), np.ravel(part.start), strict=True)
            named += [int(v) - int(s) for v, s in pairs]
        else:
            bytes_ = isinstance(part, Box) and part.dtype == np.uint8
            whole = bytes_ and part.low.min() == 0 and part.high.max() == 255
            scale = 255 if whole and len(parts) > 1 else 1
            numbers += [float(v) / scale for v in np.ravel(x)]
    vector = [*named, *numbers]
    if image is None:
        part = parts[0][0]
        small = all(size <= 256 for size in getattr(part, "nvec", np.array(getattr(part, "n", 0)))
                    .ravel()) if named else part.dtype in (np.uint8, np.bool_)  # fmt: skip
        return np.array(vector, np.uint8 if len(parts) == 1 and small else np.float32)
    stored = np.uint8 if image.dtype in (np.uint8, np.bool_) else np.float32
    flat = image.astype(stored).ravel()
    if not vector:
        return flat
    if stored == np.uint8:
        return np.frombuffer(flat.tobytes() + struct.pack(f"={len(vector)}f", *vector), np.uint8)
    return np.concatenate([flat, np.array(vector, np.float32)])


def batch(space, values):
    return concatenate(space, values, create_empty_array(space, len(values)))


def tensors(x):
    if isinstance(x, dict):
        return {key: tensors(value) for key, value in x.items()}
    if isinstance(x, tuple):
        return tuple(map(tensors, x))
    return torch.as_tensor(x) if isinstance(x, np.ndarray) else x


@given(observations(), st.integers(0, 2**31 - 1))
@settings(max_examples=120, deadline=None)
def test_frames_of_any_space(observation, seed):
    space, layouts = observation
    space.seed(seed)
    values = [space.sample() for _ in range(3)]
    reader = ObservationReader.of_space(space, ObservationOptions(), frame_stack=None, name="them")
    expected = np.stack([naive_frame(space, value, layouts) for value in values])
    raw = batch(space, values)
    frames = reader.frames(raw, 3)
    assert frames.shape == (3, *reader.frame_shape) and str(frames.dtype) == reader.frame_dtype
    assert frames.dtype == expected.dtype
    assert np.array_equal(frames.reshape(3, -1), expected)
    assert reader.frame_space.contains(frames[0])
    for value, frame in zip(values, frames, strict=True):
        assert np.array_equal(reader.single(value), frame)
        alone, single = reader.of_caller(value)
        assert single and np.array_equal(alone[0], frame)
    many, single = reader.of_caller(raw)
    assert not single and np.array_equal(many, frames)
    in_torch = reader.frames(tensors(raw), 3)
    assert isinstance(in_torch, torch.Tensor) and np.array_equal(in_torch.numpy(), frames)
    # From a checkpoint.
    again = ObservationReader.from_dict(json.loads(json.dumps(reader.to_dict())), None)
    assert (again.frame_shape, again.frame_dtype) == (reader.frame_shape, reader.frame_dtype)
    assert again.format == reader.format == FrameFormat.from_dict(reader.format.to_dict())
    assert np.array_equal(again.frames(raw, 3), frames)


def test_an_oracle_of_the_oracle():
    """A row by hand: an image [1, 3, 3] of bytes, a category from 2, a byte of 0..255, a float."""
    space = Dict(
        a=Box(0, 255, (3, 3), np.uint8), b=Box(0, 255, (1,), np.uint8), c=Discrete(3, start=2),
        d=Box(-1, 1, (1,)),
    )  # fmt: skip
    value = {"a": np.arange(9, dtype=np.uint8).reshape(3, 3), "b": np.array([51], np.uint8),
             "c": 4, "d": np.array([-0.5], np.float32)}  # fmt: skip
    row = np.array([*range(9), *struct.pack("=3f", 2, 0.2, -0.5)], np.uint8)
    assert np.array_equal(naive_frame(space, value, {id(space["a"]): "hw"}), row)
    reader = ObservationReader.of_space(space, ObservationOptions(), frame_stack=4, name="them")
    assert np.array_equal(reader.single(value), row)
    assert reader.format == FrameFormat(False, 1, (3,), (1, 3, 3))


def test_what_is_plain_is_handed_on():
    for space, plain in (
        (Box(-1, 1, (3,)), True), (Box(0, 255, (3, 40, 40), np.uint8), True),
        (Box(0, 1, (3,), np.bool_), True), (Box(0, 255, (40, 40, 3), np.uint8), False),
        (Dict(a=Box(-1, 1, (3,))), False), (Discrete(3), False), (Box(-1, 1, ()), False),
        (Box(0, 255, (40, 40), np.uint8), False), (Box(0, 255, (4, 40, 40, 3), np.uint8), False),
    ):  # fmt: skip
        reader = ObservationReader.of_space(
            space, ObservationOptions(), frame_stack=None, name="them"
        )
        assert reader.plain == plain, space
    grey = Box(0, 255, (40, 40), np.uint8)
    reader = ObservationReader.of_space(grey, ObservationOptions(), frame_stack=4, name="them")
    assert reader.plain and reader.frame_shape == (40, 40)
    bounded = Box(np.array([-1, 0], np.float64), np.array([1, 1e300]), dtype=np.float64)
    reader = ObservationReader.of_space(bounded, ObservationOptions(), frame_stack=None, name="it")
    assert reader.frame_space == Box(
        np.array([-1, 0], np.float32), np.array([1, np.inf], np.float32)
    )


def test_floats_that_are_bytes_are_those_bytes():
    """0 to 1 in float32 is never exactly k / 255; every k comes back."""
    levels = np.arange(256, dtype=np.float32).reshape(1, 16, 16)
    for high, divisor, values in ((1, 255, levels / np.float32(255)), (255, 255, levels)):
        reader = ObservationReader.of_space(
            Box(0, high, (1, 16, 16)), ObservationOptions(store_uint8=True), frame_stack=None,
            name="them",
        )  # fmt: skip
        assert np.array_equal(reader.single(values), levels.astype(np.uint8))
        assert np.array_equal(reader.single(torch.from_numpy(values)), levels.astype(np.uint8))
        assert reader.format == FrameFormat(True, divisor)


def test_what_is_no_reader_is_refused():
    reader = ObservationReader.of_space(
        Dict(a=Discrete(2), b=Box(0, 255, (9, 9), np.uint8)), ObservationOptions(),
        frame_stack=None, name="them",
    )  # fmt: skip
    good = reader.to_dict()
    assert ObservationReader.from_dict(good, None).to_dict() == good
    bad_options = [None, {}, [], 3, {**good["options"], "more": 1},
                   {**good["options"], "observation_keys": 5},
                   {**good["options"], "image_layout": {}}]  # fmt: skip
    for data in (
        None, [], 3, {}, {"leaves": []}, {**good, "leaves": "ab"}, {**good, "leaves": [1]},
        {**good, "leaves": good["leaves"] * 501}, *({**good, "options": o} for o in bad_options),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            ObservationReader.from_dict(data, None)


def test_a_forged_reader_of_any_size_takes_no_memory():
    leaf = {"path": [], "kind": "numbers", "shape": [2**31], "dtype": "float32", "layout": None,
            "divisor": 1, "sizes": [], "starts": [], "to_bytes": None}  # fmt: skip
    options = ObservationReader.of_space(
        Discrete(2), ObservationOptions(), frame_stack=None, name="them"
    ).to_dict()["options"]
    for changes in ({}, {"kind": "image", "layout": "schw", "shape": [8, 2**9, 2**9, 2**9]}):
        data = {"leaves": [{**leaf, **changes}], "options": options}
        assert ObservationReader.from_dict(data, None).frame_dtype == "float32"

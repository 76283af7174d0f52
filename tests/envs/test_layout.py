"""Where images have their channels, against loops and a list of sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn.envs.layout import LAYOUTS, moved, read_layout, to_chw
from fastdqn.errors import EnvError


def naive(image, layout):
    """One image as [C, H, W], pixel by pixel."""
    if layout == "hw":
        image, layout = image[..., None], "hwc"
    if not layout.startswith("s"):
        image, layout = image[None], "s" + layout
    out = {}
    for place, value in np.ndenumerate(image):
        where = dict(zip(layout, place, strict=True))
        channels = image.shape[layout.index("c")]
        out[where["s"] * channels + where["c"], where["h"], where["w"]] = value
    made = np.zeros([1 + max(place[axis] for place in out) for axis in range(3)], image.dtype)
    for place, value in out.items():
        made[place] = value
    return made


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_channels_are_moved_to_the_front(data):
    layout = data.draw(st.sampled_from(LAYOUTS))
    shape = tuple(data.draw(st.integers(1, 4)) for _ in layout)
    images = np.arange(2 * np.prod(shape)).reshape(2, *shape)
    expected = np.stack([naive(image, layout) for image in images])
    assert np.array_equal(to_chw(images, layout), expected)
    tensors = to_chw(torch.from_numpy(images), layout)
    assert isinstance(tensors, torch.Tensor) and np.array_equal(tensors.numpy(), expected)
    assert moved(shape, layout) == expected.shape[1:]


def test_the_size_is_known_without_memory():
    assert moved((2**20, 2**30, 2**30, 3), "shwc") == (3 * 2**20, 2**30, 2**30)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((84, 84), "hw"), ((3, 3), "hw"), ((2, 84), None), ((84, 2), None), ((4, 128), None),
        ((20, 10), "hw"), ((12, 3), "hw"), ((13, 3), None),
        ((84, 84, 3), "hwc"), ((3, 84, 84), "chw"), ((1, 84, 84), "chw"), ((84, 84, 1), "hwc"),
        ((4, 84, 84), "chw"), ((84, 84, 12), "hwc"), ((12, 84, 84), "chw"), ((7, 7, 3), "hwc"),
        ((210, 160, 3), "hwc"), ((3, 210, 160), "chw"), ((210, 160, 12), "hwc"),
        ((12, 210, 160), "chw"), ((6, 7, 2), "hwc"), ((2, 6, 7), "chw"), ((3, 4, 4), "chw"),
        ((4, 4, 3), "hwc"), ((8, 8, 111), "hwc"), ((111, 8, 8), "chw"), ((3, 3, 4), "hwc"),
        ((2, 2, 2), None), ((2, 2, 3), None), ((5,), None), ((), None), ((2, 3, 4, 5, 6), None),
        ((4, 84, 84, 3), "shwc"), ((4, 3, 84, 84), "schw"), ((4, 84, 84, 1), "shwc"),
        ((3, 84, 3), "open"), ((5, 5, 5), "open"), ((84, 84, 84), "open"), ((10, 5, 6), "open"),
        ((4, 3, 84, 3), "open"), ((1, 84, 1), None),
    ],
)  # fmt: skip
def test_sizes_say_which_it_is(shape, layout):
    if layout == "open":
        with pytest.raises(EnvError, match="may have their channels first or last in them; set"):
            read_layout(shape, "uint8", "auto", "them")
        assert read_layout(shape, "uint8", "hwc", "them") in ("hwc", "shwc")
        assert read_layout(shape, "uint8", "chw", "them") in ("chw", "schw")
    else:
        assert read_layout(shape, "uint8", "auto", "them") == layout


@given(st.tuples(*[st.integers(1, 100)] * 3))
@settings(max_examples=100, deadline=None)
def test_turned_images_are_read_the_other_way(shape):
    """Where [C, H, W] is read as that, [H, W, C] of the same sizes is, too; never both."""
    channels, height, width = shape

    def read(shape):
        try:
            return read_layout(shape, "uint8", "auto", "them")
        except EnvError:
            return "open"

    one, other = read((channels, height, width)), read((width, height, channels))
    assert (one, other) in {
        ("chw", "hwc"), ("hwc", "chw"), ("open", "open"), (None, None),
    }  # fmt: skip


def test_two_dimensions_of_floats_are_a_table():
    assert read_layout((84, 84), "float32", "auto", "them") is None
    with pytest.raises(EnvError, match=r"'chw' leaves images of shape .* less than 3 x 3 pixels"):
        read_layout((84, 84, 1), "uint8", "chw", "them")

"""Descriptions of the parts of an observation: from spaces, there and back, and forged."""

import json

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from fastdqn.envs.leaves import Leaf, ObservationOptions, read_leaves
from fastdqn.errors import ConfigError, EnvError

SPACE = Dict(
    image=Box(0, 255, (9, 9, 3), np.uint8),
    rest=Tuple([Discrete(4, start=-1), MultiDiscrete([2, 300]), MultiBinary(2)]),
    ram=Box(0, 255, (6,), np.uint8),
)


def leaves_of(space, **options):
    return read_leaves(space, ObservationOptions(**options), "them")[0]


def test_by_hand():
    assert leaves_of(SPACE) == [
        Leaf(path=("image",), kind="image", shape=(9, 9, 3), dtype="uint8", layout="hwc"),
        Leaf(path=("rest", 0), kind="categories", shape=(), dtype="int64", sizes=(4,),
             starts=(-1,)),
        Leaf(path=("rest", 1), kind="categories", shape=(2,), dtype="int64", sizes=(2, 300),
             starts=(0, 0)),
        Leaf(path=("rest", 2), kind="numbers", shape=(2,), dtype="int8"),
        Leaf(path=("ram",), kind="numbers", shape=(6,), dtype="uint8", divisor=255),
    ]  # fmt: skip
    assert [leaf.stored for leaf in leaves_of(SPACE)] == [
        "uint8", "uint8", "float32", "float32", "uint8",
    ]  # fmt: skip
    assert [leaf.name for leaf in leaves_of(SPACE)] == ["image", "rest.0", "rest.1", "rest.2",
                                                        "ram"]  # fmt: skip


def test_a_scale_is_for_the_images_where_there_are_some():
    def divisors(**options):
        return [leaf.divisor for leaf in leaves_of(SPACE, **options)]

    assert divisors(observation_scale="255") == [255, 1, 1, 1, 255]
    assert divisors(observation_scale="none") == [1, 1, 1, 1, 255]
    (ram,) = leaves_of(SPACE, observation_scale="none", observation_keys=("ram",))
    assert ram.divisor == 1


def test_floats_stored_as_bytes():
    (whole,) = leaves_of(Box(0, 255, (9, 9, 3)), store_uint8=True)
    (part,) = leaves_of(Box(0, 1, (9, 9, 3)), store_uint8=True)
    # The network sees bytes / divisor: what it would have seen of the floats.
    assert (whole.to_bytes, whole.divisor, whole.stored) == (1, 1, "uint8"), "a small grid"
    assert (part.to_bytes, part.divisor, part.stored) == (255, 255, "uint8")
    (told,) = leaves_of(Box(0, 1, (9, 9, 3)), store_uint8=True, observation_scale="255")
    assert told.divisor == 255 * 255


@pytest.mark.parametrize("leaf", leaves_of(SPACE), ids=lambda leaf: leaf.name)
def test_it_comes_back_from_json(leaf):
    assert Leaf.from_dict(json.loads(json.dumps(leaf.to_dict()))) == leaf


IMAGE, _, NAMED, NUMBERS, _ = leaves_of(SPACE)
NO_SIZE = [0, -1, 2**31 + 1, 10**400, 1.0, True, None, "4", [4]]
FORGED = {
    "path": [None, "a", [1.5], [None], {}],
    "kind": [None, "text", 1, [], {}],
    "shape": [None, 3, "3", *([size] for size in NO_SIZE), [1] * 33, [2**20] * 4],
    "dtype": [None, "complex64", "O", "f4,f4", "float128", 3, [], "x" * 10_000],
    "layout": [None, "cwh", "hw", "schw", 1, [], {}],
    "divisor": NO_SIZE,
    "to_bytes": [0, -1, 256, True, "1", [1]],
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_none_is_refused_by_name(name):
    for value in FORGED[name]:
        with pytest.raises(ConfigError, match=f"^{name} = .* describes no observation") as error:
            Leaf.from_dict({**IMAGE.to_dict(), name: value})
        assert len(str(error.value)) < 400


def test_what_does_not_go_together_is_refused():
    for leaf, changes in (
        (NAMED, {"sizes": [2]}), (NAMED, {"sizes": [2, 0]}), (NAMED, {"sizes": [2, 100_001]}),
        (NAMED, {"starts": [0]}), (NAMED, {"starts": [0, 2**63]}), (NAMED, {"starts": [0, 0.5]}),
        (NAMED, {"shape": [3]}), (NAMED, {"layout": "hw"}), (NAMED, {"to_bytes": 1}),
        (NUMBERS, {"sizes": [2, 2]}), (NUMBERS, {"starts": [0]}), (NUMBERS, {"layout": "hw"}),
        (NUMBERS, {"kind": "image"}), (NUMBERS, {"kind": "categories"}),
        (IMAGE, {"kind": "numbers"}), (IMAGE, {"shape": [9, 9]}), (IMAGE, {"layout": "schw"}),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="describes no observation"):
            Leaf.from_dict({**leaf.to_dict(), **changes})
    for data in (None, [], 3, {}, {**IMAGE.to_dict(), "more": 1}, {**IMAGE.to_dict(), 1: 1}):
        with pytest.raises(ConfigError, match="an observation is described by"):
            Leaf.from_dict(data)


def test_options_are_checked():
    good = {"observation_scale": "auto", "image_layout": "auto", "observation_keys": None,
            "store_uint8": False}  # fmt: skip
    assert ObservationOptions.checked(**good) == ObservationOptions()
    for name, value in (("observation_scale", 255), ("observation_scale", None),
                        ("image_layout", "HWC"), ("store_uint8", "yes"),
                        ("observation_keys", "a"), ("observation_keys", ())):  # fmt: skip
        with pytest.raises(EnvError, match=f"^{name} = "):
            ObservationOptions.checked(**{**good, name: value})

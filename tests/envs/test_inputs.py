"""Observations that people have: what is made of each, and what is refused with its way out.

One table. What has one obvious meaning reaches the network as that and a line says so; what is open
is refused, and the advice in the refusal is tried; nothing raises anything but a sentence.
"""

import warnings
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

from fastdqn.acting.policy import Policy
from fastdqn.config.config import Config
from fastdqn.envs import make_envs
from fastdqn.errors import ConfigError, EnvError, FastDQNError
from fastdqn.spaces import Spaces
from fastdqn.training.network_spec import network_spec

U8, F32 = "uint8", "float32"


class Showing(gymnasium.Env):
    """Shows one observation, whatever is done."""

    def __init__(self, space, observation, actions=None):
        self.observation_space, self.observation = space, observation
        self.action_space = actions or Discrete(2)

    def reset(self, *, seed=None, options=None):
        return self.observation, {}

    def step(self, action):
        return self.observation, 1.0, False, False, {}


def stream_of(space, observation, actions=None, **options):
    envs = SyncVectorEnv([lambda: Showing(space, observation, actions)] * 2)
    return make_envs(envs, **options)


def image(low, high, shape, dtype=U8):
    """A Box, and an observation of it in which every value of the range may be."""
    values = np.random.default_rng(0).integers(0, 256, shape)
    values.flat[:2] = 0, 255
    if dtype == "bool":
        return Box(0, 1, shape, np.bool_), values > 127
    scaled = values / 255 if high == 1 and "float" in dtype else values % (int(high) + 1)
    return Box(low, high, shape, np.dtype(dtype).type), scaled.astype(dtype)


def first(x):
    """Channels to the front."""
    return np.moveaxis(x, -1, 0)


class Seen(NamedTuple):
    """What must come of an observation."""

    shape: tuple[int, ...]  # of a frame
    dtype: str  # as stored
    said: str  # the line at the start
    torso: str
    inputs: Any  # what the torso sees, an array or a pair of them; or a function of the observation


def one_hot(*hot, size):
    return np.isin(np.arange(size), hot).astype(F32)


PIXEL = {"spaces": Box(0, 255, (84, 84, 3), np.uint8), "speed": Box(-1, 1, (2,))}
AS_THEY_ARE, BY_255 = "numbers as they are", "numbers divided by 255"
PICTURES, SYMBOLS = "images divided by 255", "images as they are"
MOVED = "; images {} moved to channels first"


def same(x):
    return x


def by_255(x):
    return x / np.float32(255)


def flat(x):
    return x.reshape(-1)


READ: dict[str, tuple[Any, Any, dict[str, Any], Seen]] = {
    # --- vectors -----------------------------------------------------------------------------
    "floats": (Box(-np.inf, np.inf, (3,)), np.array([1, -2, 3], F32), {},
               Seen((3,), F32, AS_THEY_ARE, "MLP", same)),
    "float64": (Box(-1, 1, (2,), np.float64), np.array([0.25, -1]), {},
                Seen((2,), F32, AS_THEY_ARE, "MLP", same)),
    "float16": (Box(-1, 1, (2,), np.float16), np.array([0.25, -1], np.float16), {},
                Seen((2,), F32, AS_THEY_ARE, "MLP", same)),
    "whole numbers": (Box(-9, 9, (2,), np.int64), np.array([7, -9]), {},
                      Seen((2,), F32, AS_THEY_ARE, "MLP", same)),
    "flags": (Box(0, 1, (4,), np.bool_), np.array([True, False, False, True]), {},
              Seen((4,), U8, AS_THEY_ARE, "MLP", np.array([1, 0, 0, 1], F32))),
    "one-hot bytes": (Box(0, 1, (8,), np.uint8), np.eye(8, dtype=np.uint8)[3], {},
                      Seen((8,), U8, AS_THEY_ARE, "MLP", one_hot(3, size=8))),
    "counters in bytes": (Box(0, 20, (3,), np.uint8), np.array([0, 7, 20], np.uint8), {},
                          Seen((3,), U8, AS_THEY_ARE, "MLP", np.array([0, 7, 20], F32))),
    "RAM": (*image(0, 255, (128,)), {}, Seen((128,), U8, BY_255, "MLP", by_255)),
    "RAM as it is": (*image(0, 255, (128,)), {"observation_scale": "none"},
                     Seen((128,), U8, AS_THEY_ARE, "MLP", same)),
    "RAM stacked by a wrapper": (*image(0, 255, (4, 128)), {},
                                 Seen((4, 128), U8, BY_255, "MLP", lambda x: flat(by_255(x)))),
    "floats told to be bytes": (Box(0, 255, (3,)), np.array([0, 51, 255], F32),
                                {"observation_scale": "255"},
                                Seen((3,), F32, BY_255, "MLP", np.array([0, 0.2, 1], F32))),
    "a number without a dimension": (Box(-1, 1, ()), np.array(0.5, F32), {},
                                     Seen((1,), F32, AS_THEY_ARE, "MLP", np.array([0.5], F32))),
    "one number": (Box(-1, 1, (1,)), np.array([0.5], F32), {},
                   Seen((1,), F32, AS_THEY_ARE, "MLP", same)),
    "a Python number": (Box(-9, 9, (1,)), 3, {},
                        Seen((1,), F32, AS_THEY_ARE, "MLP", np.array([3], F32))),
    "a list": (Box(-9, 9, (3,)), [1.0, 2.0, 3.0], {},
               Seen((3,), F32, AS_THEY_ARE, "MLP", np.array([1, 2, 3], F32))),
    "a constant": (Box(1, 1, (2,)), np.ones(2, F32), {},
                   Seen((2,), F32, AS_THEY_ARE, "MLP", same)),
    "a table of floats": (Box(-1, 1, (3, 5)), np.arange(15, dtype=F32).reshape(3, 5) / 15, {},
                          Seen((3, 5), F32, AS_THEY_ARE, "MLP", flat)),
    "vectors that the replay stacks": (Box(-1, 1, (2,)), np.array([0.25, -1], F32),
                                       {"frame_stack": 2},
                                       Seen((2,), F32, AS_THEY_ARE, "MLP",
                                            lambda x: np.stack([x, x]))),
    "MultiBinary": (MultiBinary(3), np.array([1, 0, 1], np.int8), {},
                    Seen((3,), F32, AS_THEY_ARE, "MLP", same)),
    "MultiBinary in two dimensions": (MultiBinary((2, 3)), np.eye(2, 3, dtype=np.int8), {},
                                      Seen((2, 3), F32, AS_THEY_ARE, "MLP", flat)),
    # --- categories --------------------------------------------------------------------------
    "Discrete": (Discrete(5), 3, {},
                 Seen((1,), U8, "categories one-hot (5)", "MLP", one_hot(3, size=5))),
    "Discrete of one": (Discrete(1), 0, {},
                        Seen((1,), U8, "categories one-hot (1)", "MLP", one_hot(0, size=1))),
    "Discrete from 10": (Discrete(4, start=10), 12, {},
                         Seen((1,), U8, "categories one-hot (4)", "MLP", one_hot(2, size=4))),
    "Discrete from -2": (Discrete(4, start=-2), -2, {},
                         Seen((1,), U8, "categories one-hot (4)", "MLP", one_hot(0, size=4))),
    "Taxi's Discrete": (Discrete(500), 499, {},
                        Seen((1,), F32, "categories one-hot (500)", "MLP",
                             one_hot(499, size=500))),
    "MultiDiscrete": (MultiDiscrete([2, 3]), np.array([1, 2]), {},
                      Seen((2,), U8, "categories one-hot (2, 3)", "MLP",
                           one_hot(1, 4, size=5))),
    "MultiDiscrete in two dimensions": (MultiDiscrete([[2, 3], [2, 2]]), np.array([[0, 1], [1, 1]]),
                                        {}, Seen((4,), U8, "categories one-hot (2, 3, 2, 2)", "MLP",
                                                 one_hot(0, 3, 6, 8, size=9))),
    "MultiDiscrete from 5": (MultiDiscrete([2, 300], start=[5, -1]), np.array([6, -1]), {},
                             Seen((2,), F32, "categories one-hot (2, 300)", "MLP",
                                  one_hot(1, 2, size=302))),
    # --- images ------------------------------------------------------------------------------
    "Atari's frames": (*image(0, 255, (84, 84)), {"frame_stack": 2},
                       Seen((84, 84), U8, PICTURES, "NatureCNN",
                            lambda x: by_255(np.stack([x, x])))),
    "grey, not stacked": (*image(0, 255, (84, 84)), {},
                          Seen((1, 84, 84), U8, PICTURES, "NatureCNN", lambda x: by_255(x[None]))),
    "grey with an axis": (*image(0, 255, (84, 84, 1)), {},
                          Seen((1, 84, 84), U8, PICTURES + MOVED.format((84, 84, 1)), "NatureCNN",
                               lambda x: by_255(first(x)))),
    "colours last": (*image(0, 255, (84, 84, 3)), {},
                     Seen((3, 84, 84), U8, PICTURES + MOVED.format((84, 84, 3)), "NatureCNN",
                          lambda x: by_255(first(x)))),
    "colours first": (*image(0, 255, (3, 84, 84)), {},
                      Seen((3, 84, 84), U8, PICTURES, "NatureCNN", by_255)),
    "colours and depth": (*image(0, 255, (84, 84, 4)), {},
                          Seen((4, 84, 84), U8, PICTURES + MOVED.format((84, 84, 4)), "NatureCNN",
                               lambda x: by_255(first(x)))),
    "a screen, not square": (*image(0, 255, (210, 160, 3)), {},
                             Seen((3, 210, 160), U8, PICTURES + MOVED.format((210, 160, 3)),
                                  "NatureCNN", lambda x: by_255(first(x)))),
    "a wrapper's 4 frames as channels": (*image(0, 255, (4, 84, 84)), {},
                                         Seen((4, 84, 84), U8, PICTURES, "NatureCNN", by_255)),
    "12 channels last": (*image(0, 255, (84, 84, 12)), {},
                         Seen((12, 84, 84), U8, PICTURES + MOVED.format((84, 84, 12)), "NatureCNN",
                              lambda x: by_255(first(x)))),
    "a wrapper's stack of colours": (*image(0, 255, (2, 84, 84, 3)), {},
                                     Seen((6, 84, 84), U8,
                                          PICTURES + MOVED.format((2, 84, 84, 3)), "NatureCNN",
                                          lambda x: by_255(np.concatenate(list(map(first, x)))))),
    "a wrapper's stack, colours first": (*image(0, 255, (2, 3, 84, 84)), {},
                                         Seen((6, 84, 84), U8, PICTURES, "NatureCNN",
                                              lambda x: by_255(np.concatenate(list(x))))),
    "colours that the replay stacks": (*image(0, 255, (40, 40, 3)), {"frame_stack": 2},
                                       Seen((3, 40, 40), U8, PICTURES + MOVED.format((40, 40, 3)),
                                            "NatureCNN",
                                            lambda x: by_255(np.stack([first(x)] * 2)))),
    "36 pixels": (*image(0, 255, (36, 36, 3)), {},
                  Seen((3, 36, 36), U8, PICTURES + MOVED.format((36, 36, 3)), "NatureCNN",
                       lambda x: by_255(first(x)))),
    "35 pixels": (*image(0, 255, (35, 35, 3)), {},
                  Seen((3, 35, 35), U8, PICTURES + MOVED.format((35, 35, 3)), "SmallCNN",
                       lambda x: by_255(first(x)))),
    "16 pixels": (*image(0, 255, (16, 16)), {},
                  Seen((1, 16, 16), U8, PICTURES, "SmallCNN", lambda x: by_255(x[None]))),
    "MiniGrid's symbols": (*image(0, 255, (7, 7, 3)), {},
                           Seen((3, 7, 7), U8, SYMBOLS + MOVED.format((7, 7, 3)), "SmallCNN",
                                first)),
    "7 pixels of grey levels": (*image(0, 255, (7, 7, 3)), {"observation_scale": "255"},
                                Seen((3, 7, 7), U8, PICTURES + MOVED.format((7, 7, 3)), "SmallCNN",
                                     lambda x: by_255(first(x)))),
    "MinAtar": (*image(0, 1, (10, 10, 4), "bool"), {},
                Seen((4, 10, 10), U8, SYMBOLS + MOVED.format((10, 10, 4)), "SmallCNN", first)),
    "a board of planes": (*image(0, 1, (8, 8, 111), "bool"), {},
                          Seen((111, 8, 8), U8, SYMBOLS + MOVED.format((8, 8, 111)), "SmallCNN",
                               first)),
    "2048's board": (*image(0, 1, (4, 4, 16), "bool"), {},
                     Seen((16, 4, 4), U8, SYMBOLS + MOVED.format((4, 4, 16)), "SmallCNN", first)),
    "noughts and crosses": (*image(0, 1, (3, 3, 2), "int8"), {},
                            Seen((2, 3, 3), F32, SYMBOLS + MOVED.format((3, 3, 2)), "SmallCNN",
                                 first)),
    "3 pixels": (*image(0, 2, (3, 3)), {},
                 Seen((1, 3, 3), U8, SYMBOLS, "SmallCNN", lambda x: x[None])),
    "2 pixels": (*image(0, 255, (2, 2)), {},
                 Seen((2, 2), U8, BY_255, "MLP", lambda x: flat(by_255(x)))),
    "floats from 0 to 1": (*image(0, 1, (3, 40, 40), F32), {},
                           Seen((3, 40, 40), F32, SYMBOLS, "NatureCNN", same)),
    "floats from 0 to 255": (*image(0, 255, (40, 40, 3), F32), {},
                             Seen((3, 40, 40), F32, PICTURES + MOVED.format((40, 40, 3)),
                                  "NatureCNN", lambda x: by_255(first(x)))),
    "dtype left out": ((Box(0, 255, (40, 40, 3))), image(0, 255, (40, 40, 3))[1], {},
                       Seen((3, 40, 40), F32, PICTURES + MOVED.format((40, 40, 3)), "NatureCNN",
                            lambda x: by_255(first(x)))),
    "bytes that are named int32": (*image(0, 255, (40, 40, 3), "int32"), {},
                                   Seen((3, 40, 40), F32, PICTURES + MOVED.format((40, 40, 3)),
                                        "NatureCNN", lambda x: by_255(first(x)))),
    "floats 0 to 1 stored as bytes": (*image(0, 1, (40, 40, 3), F32), {"store_uint8": True},
                                      Seen((3, 40, 40), U8, PICTURES + MOVED.format((40, 40, 3))
                                           + "; images stored as bytes", "NatureCNN", first)),
    "floats 0 to 255 stored as bytes": (*image(0, 255, (3, 40, 40), F32), {"store_uint8": True},
                                        Seen((3, 40, 40), U8, PICTURES + "; images stored as bytes",
                                             "NatureCNN", by_255)),
    "a cube with its layout": (*image(0, 255, (3, 84, 3)), {"image_layout": "hwc"},
                               Seen((3, 3, 84), U8, SYMBOLS + MOVED.format((3, 84, 3)), "SmallCNN",
                                    first)),
    # --- several parts -----------------------------------------------------------------------
    "two vectors": (Dict(a=Box(-1, 1, (2,)), b=Box(0, 9, (), np.int64)),
                    {"a": np.array([0.5, -1], F32), "b": np.int64(4)}, {},
                    Seen((3,), F32, "numbers as they are; made of a, b", "MLP",
                         np.array([0.5, -1, 4], F32))),
    "nested": (Dict(me=Dict(x=Box(-1, 1, (1,)), item=Discrete(3)), t=Tuple([Discrete(2)])),
               {"me": {"x": np.array([0.5], F32), "item": 2}, "t": (1,)}, {},
               Seen((3,), F32, "categories one-hot (3, 2); made of me.x, me.item, t.0", "MLP",
                    np.array([0, 0, 1, 0, 1, 0.5], F32))),
    "Blackjack's Tuple": (Tuple([Discrete(32), Discrete(11), Discrete(2)]), (5, 10, 0), {},
                          Seen((3,), F32, "categories one-hot (32, 11, 2); made of 0, 1, 2", "MLP",
                               one_hot(5, 42, 43, size=45))),
    "a Dict of one": (Dict(only=Box(-1, 1, (2,))), {"only": np.array([0.5, -1], F32)}, {},
                      Seen((2,), F32, AS_THEY_ARE, "MLP", np.array([0.5, -1], F32))),
    "bytes beside flags": (Dict(ram=Box(0, 255, (2,), np.uint8), on=MultiBinary(2)),
                           {"ram": np.array([51, 255], np.uint8), "on": np.array([0, 1], np.int8)},
                           {}, Seen((4,), F32, "numbers as they are; ram divided by 255; made of "
                                    "ram, on", "MLP", np.array([0.2, 1, 0, 1], F32))),
    "one of several": (Dict(a=Box(-1, 1, (2,)), b=Box(-1, 1, (1,))),
                       {"a": np.array([0.5, -1], F32), "b": np.array([1], F32)},
                       {"observation_keys": ("b",)},
                       Seen((1,), F32, AS_THEY_ARE, "MLP", np.array([1], F32))),
    "by a parent's name, twice": (Dict(a=Dict(x=Box(-1, 1, (1,)), y=Box(-1, 1, (1,))),
                                       b=Discrete(2)),
                                  {"a": {"x": np.array([0.5], F32), "y": np.array([1], F32)},
                                   "b": 0}, {"observation_keys": ("a", "a.x")},
                                  Seen((2,), F32, "numbers as they are; made of a.x, a.y", "MLP",
                                       np.array([0.5, 1], F32))),
    "a mission beside symbols": (Dict(image=Box(0, 255, (7, 7, 3), np.uint8), mission=Text(9)),
                                 {"image": np.full((7, 7, 3), 5, np.uint8), "mission": "go"}, {},
                                 Seen((3, 7, 7), U8, "images as they are; mission is text and left "
                                      "out; image (7, 7, 3) moved to channels first", "SmallCNN",
                                      np.full((3, 7, 7), 5, F32))),
    "two cameras": (Dict(left=Box(0, 255, (40, 40, 3), np.uint8),
                         right=Box(0, 255, (40, 40, 1), np.uint8)),
                    {"left": np.full((40, 40, 3), 51, np.uint8),
                     "right": np.full((40, 40, 1), 255, np.uint8)}, {},
                    Seen((4, 40, 40), U8, "images divided by 255; left (40, 40, 3) moved to "
                         "channels first; right (40, 40, 1) moved to channels first; made of left, "
                         "right", "NatureCNN",
                         np.stack([np.full((40, 40), v, F32) for v in (0.2, 0.2, 0.2, 1)]))),
    "image, vector and category": (
        Dict(image=Box(0, 255, (40, 40), np.uint8), speed=Box(-9, 9, (2,)), gear=Discrete(3)),
        {"image": np.full((40, 40), 51, np.uint8), "speed": np.array([2.5, -1], F32), "gear": 1},
        {}, Seen((1600 + 4 * 3,), U8, "an image 1 x 40 x 40 divided by 255 and categories one-hot "
                 "(3); made of image, speed, gear", "ImageAndVector",
                 (np.full((1, 40, 40), 0.2, F32), np.array([0, 1, 0, 2.5, -1], F32)))),
    "image and vector, stacked": (
        Dict(image=Box(0, 255, (36, 36), np.uint8), speed=Box(-9, 9, (1,))),
        {"image": np.full((36, 36), 51, np.uint8), "speed": np.array([2.5], F32)},
        {"frame_stack": 2},
        Seen((1296 + 4,), U8, "an image 1 x 36 x 36 divided by 255; made of image, speed",
             "ImageAndVector",
             (np.full((2, 1, 36, 36), 0.2, F32), np.array([[2.5], [2.5]], F32)))),
    "an image told to stay, RAM beside it": (
        Dict(image=Box(0, 255, (36, 36), np.uint8), ram=Box(0, 255, (1,), np.uint8)),
        {"image": np.full((36, 36), 51, np.uint8), "ram": np.array([51], np.uint8)},
        {"observation_scale": "none"},
        Seen((1296 + 4,), U8, "an image 1 x 36 x 36 as they are; ram divided by 255; made of "
             "image, ram", "ImageAndVector",
             (np.full((1, 36, 36), 51, F32), np.array([0.2], F32)))),
    "image of floats and a vector": (
        Dict(image=Box(0, 1, (3, 12, 12)), speed=Box(-9, 9, (1,))),
        {"image": np.full((3, 12, 12), 0.5, F32), "speed": np.array([2.5], F32)}, {},
        Seen((433,), F32, "an image 3 x 12 x 12 as they are; made of image, speed",
             "ImageAndVector", (np.full((3, 12, 12), 0.5, F32), np.array([2.5], F32)))),
}  # fmt: skip


def build(stream, **options):
    config = Config(hidden_sizes=(8,), **options)
    return network_spec(config, Spaces.of(stream)).build()


def torso_inputs(network, frames):
    """What a torso is shown, as floats; bytes become 0..1 in it (Torso.body)."""
    caught = []
    handle = network.torso.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    assert network(frames).shape == (len(frames), 2)
    handle.remove()
    parts = caught[0] if isinstance(caught[0], tuple) else (caught[0],)
    return [part.float() / 255 if part.dtype == torch.uint8 else part for part in parts]


@pytest.mark.parametrize("name", READ)
def test_it_reaches_the_network_as_what_it_means(name):
    space, observation, options, seen = READ[name]
    stream = stream_of(space, observation, **options)
    frames = stream.reset(seed=0).observation
    assert str(stream.reader) == seen.said
    assert stream.observation_space.shape == seen.shape == frames.shape[1:]
    assert stream.observation_space.dtype == frames.dtype == seen.dtype
    stream.send(np.zeros(2, np.int64))
    assert np.array_equal(stream.recv().observation, frames)
    network, stack = build(stream), options.get("frame_stack")
    assert type(network.torso).__name__ == seen.torso
    shown = torch.from_numpy(np.ascontiguousarray(frames))
    shown = shown if stack is None else torch.stack([shown] * stack, 1)
    expected = seen.inputs(np.asarray(observation)) if callable(seen.inputs) else seen.inputs
    expected = expected if isinstance(expected, tuple) else (expected,)
    inputs = torso_inputs(network, shown)
    for part, value in zip(inputs, expected, strict=True):
        row = torch.as_tensor(np.asarray(value, F32)).reshape(part[0].shape)
        torch.testing.assert_close(part, torch.stack([row] * 2), rtol=0, atol=1e-6)
    # A policy of it acts on what the env shows as on the frames.
    policy = Policy(network.eval(), spaces=Spaces.of(stream), reader=stream.reader)
    alone = policy.act(observation)
    policy.reset()
    assert np.shape(alone) == () and policy.act(frames).tolist() == [alone] * 2


# --- what is refused, and the way out -----------------------------------------------------------

TWO_SIZES = Dict(a=Box(0, 255, (40, 40, 3), np.uint8), b=Box(0, 255, (36, 36, 3), np.uint8))
GRAPH = spaces.Graph(Box(-1, 1, (2,)), None)
NO_EFFECT = "has no effect on the observations of .*; leave it out"

REFUSED: dict[str, tuple[Any, dict[str, Any], str, dict[str, Any] | None]] = {
    # space, options, words, the options that the words ask for (None: it is the space)
    "100,001 categories": (Discrete(100_001), {}, "100001 categories; at most 100000", None),
    "too many in all": (Dict(a=Discrete(60_000), b=Discrete(60_000)), {},
                        "has 120000 categories in all; .* choose fewer by observation_keys",
                        {"observation_keys": ("a",)}),
    "an empty Box": (Box(-1, 1, (0,)), {}, r"holds no numbers; wrap each env so that it has", None),
    "an empty part": (Dict(a=Box(-1, 1, (0,)), b=Box(-1, 1, (1,))), {},
                      "'a' of .* holds no numbers; choose others by observation_keys",
                      {"observation_keys": ("b",)}),
    "an empty Dict": (Dict(), {}, "holds no numbers; wrap each env", None),
    "text alone": (Text(5), {}, "holds no numbers; wrap each env", None),
    "only text": (Dict(a=Text(5)), {}, "holds no numbers; wrap each env", None),
    "a Graph": (GRAPH, {}, "has Graph.*which has no fixed number of numbers; wrap each env", None),
    "a Sequence": (spaces.Sequence(Box(-1, 1, (2,))), {}, "no fixed .*; wrap each env", None),
    "a OneOf": (spaces.OneOf([Discrete(2), Discrete(3)]), {}, "no fixed .*; wrap each env", None),
    "a Sequence among others": (Dict(a=Discrete(2), b=spaces.Sequence(Discrete(2))), {},
                                "for 'b', which has no fixed .*; choose others by observation_keys",
                                {"observation_keys": ("a",)}),
    "a name misspelt": (Dict(pos=Discrete(2), vel=Discrete(2)), {"observation_keys": ("poss",)},
                        "'poss' is no part of .*; choose from pos, vel",
                        {"observation_keys": ("pos",)}),
    "a text for a tuple": (Dict(pos=Discrete(2)), {"observation_keys": "pos"},
                           "observation_keys = 'pos' must be .* as a tuple",
                           {"observation_keys": ("pos",)}),
    "names for one array": (Box(-1, 1, (2,)), {"observation_keys": ("pos",)},
                            "has no effect on .*, whose observation is one array; leave it out",
                            {}),
    "two sizes": (TWO_SIZES, {}, r"images of two kinds, 'a' .* and 'b' .*; choose one by observat",
                  {"observation_keys": ("b",)}),
    "a cube": (Box(0, 255, (84, 84, 84), np.uint8), {}, "set image_layout to chw or hwc",
               {"image_layout": "chw"}),
    "3 x 84 x 3": (Box(0, 255, (3, 84, 3), np.uint8), {}, "set image_layout to chw or hwc",
                   {"image_layout": "chw"}),
    "a block of floats": (Box(-1, 1, (10, 5, 6)), {}, "set image_layout", {"image_layout": "hwc"}),
    "the layout that it cannot be": (Box(0, 255, (84, 84, 1), np.uint8), {"image_layout": "chw"},
                                     "'chw' leaves images .* less than 3 x 3 .*; use the other one",
                                     {"image_layout": "hwc"}),
    "a layout for grey frames": (Box(0, 255, (84, 84), np.uint8), {"image_layout": "hwc"},
                                 f"image_layout = 'hwc' {NO_EFFECT}", {}),
    "a layout for a vector": (Box(-1, 1, (4,)), {"image_layout": "hwc"}, NO_EFFECT, {}),
    "a layout that is none": (Box(-1, 1, (4,)), {"image_layout": "whc"},
                              "image_layout = 'whc' must be one of 'auto', 'chw', 'hwc'", {}),
    "a scale for categories": (Discrete(3), {"observation_scale": "255"}, NO_EFFECT, {}),
    "a scale that is a number": (Box(0, 255, (4,)), {"observation_scale": 255},
                                 "observation_scale = 255 must be one of 'auto', 'none', '255'",
                                 {"observation_scale": "255"}),
    "bytes of bytes": (Box(0, 255, (84, 84, 3), np.uint8), {"store_uint8": True}, NO_EFFECT, {}),
    "bytes of a vector": (Box(0, 1, (4,)), {"store_uint8": True}, NO_EFFECT, {}),
    "bytes without bounds": (Box(-np.inf, np.inf, (3, 40, 40)), {"store_uint8": True},
                             "not from -inf to inf as .* says; leave it out", {}),
    "bytes from -1 to 1": (Box(-1, 1, (3, 40, 40)), {"store_uint8": True},
                           "needs images from 0 to 1 or from 0 to 255, not from -1 to 1", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_open_is_refused_and_the_advice_works(name):
    space, options, words, way_out = REFUSED[name]
    with pytest.raises(FastDQNError, match=words) as error:
        stream_of(space, None, **options)
    assert str(error.value).count("\n") == 0 and str(error.value).endswith(".")
    if way_out is not None:
        stream = stream_of(space, space.sample(), **way_out)
        assert torso_inputs(
            build(stream), torch.from_numpy(stream.reset(seed=0).observation.copy())
        )


def wrapped(env_space, observation, to, space):
    env = Showing(env_space, observation)
    return SyncVectorEnv([lambda: gymnasium.wrappers.TransformObservation(env, to, space)])


def test_a_wrapper_is_a_way_out_where_there_is_no_option():
    box = Box(-1, 1, (2,))
    for space in (Discrete(100_001), Box(-1, 1, (0,)), Dict(), Text(5), GRAPH):
        envs = wrapped(space, None, lambda observation: np.zeros(2, np.float32), box)
        assert make_envs(envs).reset(seed=0).observation.shape == (1, 2)


# --- envs that do not keep their word -----------------------------------------------------------

BROKEN: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "a category too high": (Discrete(5), 5, {}, "of category 5, but its space says 0 to 4"),
    "a category too low": (Discrete(5, start=2), 1, {}, "of category 1, .* 2 to 6"),
    "a category in a Dict": (Dict(a=MultiDiscrete([2, 3])), {"a": np.array([1, 3])}, {},
                             "observation 'a' of category 3, but its space says 0 to 2"),
    "a pixel between two bytes": (Box(0, 1, (3, 40, 40)), np.full((3, 40, 40), 0.3, F32) + 0.0007,
                                  {"store_uint8": True},
                                  "a pixel of 0.3007, which is no byte; set store_uint8 = False"),
    "a pixel that is NaN": (Box(0, 1, (3, 40, 40)), np.full((3, 40, 40), np.nan, F32),
                            {"store_uint8": True}, "a pixel of nan, which is no byte"),
    "a pixel above 255": (Box(0, 255, (3, 40, 40)), np.full((3, 40, 40), 256, F32),
                          {"store_uint8": True}, "a pixel of 256, which is no byte"),
    "another shape": (Dict(a=Box(-1, 1, (2,))), {"a": np.zeros(3, F32)}, {}, "wrong shape.*mend"),
    "a part left out": (Dict(a=Box(-1, 1, (2,))), {}, {}, "KeyError: 'a' .*; mend the env"),
    "floats for categories": (Discrete(4), 2.0, {}, "from dtype.'float64'. to .*; mend the env"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_an_env_that_breaks_its_word_is_told_so(name):
    space, observation, options, words = BROKEN[name]
    stream = stream_of(space, observation, **options)
    with pytest.raises(FastDQNError, match=words) as error:
        stream.reset(seed=0)
    assert str(error.value).count("\n") == 0


# --- normalising --------------------------------------------------------------------------------


def test_numbers_are_normalised_and_nothing_else():
    for name, numbers in {"floats": 3, "RAM": 128, "nested": 1, "one-hot bytes": 8,
                          "image, vector and category": 2}.items():  # fmt: skip
        network = build(stream_of(*READ[name][:2], **READ[name][2]), normalize_observations=True)
        assert network.encoder.normalizer.mean.shape == (numbers,)
    for name in ("Discrete", "colours last", "two cameras", "Blackjack's Tuple"):
        stream = stream_of(*READ[name][:2], **READ[name][2])
        with pytest.raises(FastDQNError, match=r"finds no numbers in .*; leave it out"):
            build(stream, normalize_observations=True)


# --- actions ------------------------------------------------------------------------------------


def test_actions_are_counted_as_their_space_does():
    space, observation = Box(-1, 1, (1,)), np.zeros(1, F32)
    for actions, start in ((Discrete(3), 0), (Discrete(3, start=5), 5), (Discrete(1), 0)):
        stream = stream_of(space, observation, actions)
        assert (stream.num_actions, stream.action_start) == (actions.n, start)
        policy = Policy(build(stream).eval(), spaces=Spaces.of(stream), reader=stream.reader)
        assert policy.act(observation, epsilon=1.0) in range(start, start + actions.n)
    for actions in (MultiDiscrete([2, 2]), MultiBinary(2), Box(-1, 1, (2,)), Tuple([Discrete(2)])):
        with pytest.raises(FastDQNError, match=r"a DQN needs Discrete.*; discretise the actions"):
            stream_of(space, observation, actions)
    env = Showing(space, observation, MultiDiscrete([2, 2]))
    envs = [lambda: gymnasium.wrappers.TransformAction(env, lambda a: divmod(a, 2), Discrete(4))]
    assert make_envs(SyncVectorEnv(envs)).num_actions == 4


# --- real ones ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "said", "shape"),
    [
        ("FrozenLake-v1", "categories one-hot (16)", (1,)),
        ("CliffWalking-v1", "categories one-hot (48)", (1,)),
        ("Taxi-v4", "categories one-hot (500)", (1,)),
        ("Blackjack-v1", "categories one-hot (32, 11, 2); made of 0, 1, 2", (3,)),
        ("MountainCar-v0", AS_THEY_ARE, (2,)),
    ],
)
def test_envs_by_their_id(env_id, said, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium's own, on versions
        stream = make_envs(env_id, 3)
    frames = stream.reset(seed=0).observation
    assert str(stream.reader) == said and frames.shape == (3, *shape)
    stream.send(np.zeros(3, np.int64))
    assert stream.recv().reward.shape == (3,)
    stream.close()


# --- batches, and what a policy is shown --------------------------------------------------------


def reader_of(name):
    return stream_of(*READ[name][:2], **READ[name][2]).reader


def test_vector_envs_that_break_their_word_are_told_so():
    reader = reader_of("image, vector and category")
    good = {"image": np.zeros((2, 40, 40), np.uint8), "speed": np.zeros((2, 2), F32),
            "gear": np.zeros(2, np.int64)}  # fmt: skip
    assert reader.frames(good, 2).shape == (2, 1612)
    for changes, words in (
        ({"gear": None}, r"'gear' of shape \(\), but its space says \(2,\); correct one"),
        ({"gear": np.zeros(2)}, "'gear' of dtype float64, but its space says int64; correct one"),
        ({"image": np.zeros((2, 40, 41), np.uint8)}, r"'image' of shape \(2, 40, 41\), but its sp"),
        ({"speed": [np.zeros(2), np.zeros(3)]}, "'speed' of type list, but its space says"),
    ):
        with pytest.raises(EnvError, match=f"^SyncVectorEnv.* returned observation {words}"):
            reader.frames({**good, **changes}, 2)
    with pytest.raises(EnvError, match="returned observation without 'gear', which its space has"):
        reader.frames({name: good[name] for name in ("image", "speed")}, 2)
    with pytest.raises(EnvError, match="returned final_obs without 'gear'"):
        reader.frames([1, 2], 2, "final_obs")


def test_a_policy_says_what_is_wrong_with_what_it_is_shown():
    stream = stream_of(*READ["image, vector and category"][:2])
    policy = Policy(build(stream).eval(), spaces=Spaces.of(stream), reader=stream.reader)
    good = READ["image, vector and category"][1]
    assert policy.act(good) in (0, 1)
    for shown, words in (
        (None, "it is without 'image'"),
        ({}, "it is without 'image', which its space has; pass all parts"),
        ({**good, "gear": 7}, "'gear' is of category 7, where .* have 0 to 2; pass what such"),
        ({**good, "speed": ["a", "b"]}, "'speed' is of dtype <U1, where .* have float32"),
        ({**good, "image": np.zeros((41, 40), np.uint8)}, r"'image' is of shape \(1, 41, 40\), "),
    ):
        with pytest.raises(ConfigError, match=f"^observation does not fit this policy: {words}"):
            policy.act(shown)


STACKED = {name for name, row in READ.items() if "frame_stack" in row[2]}


@pytest.mark.parametrize("name", sorted({*READ} - STACKED - {"a Python number"}))
def test_a_batch_is_told_from_one_observation(name):
    space, observation, options, _ = READ[name]
    reader = stream_of(space, observation, **options).reader
    one, single = reader.of_caller(observation)
    assert single and one.shape == (1, *reader.frame_shape)
    raw = gymnasium.vector.utils.concatenate(
        space, [observation] * 3, gymnasium.vector.utils.create_empty_array(space, 3)
    )
    many, single = reader.of_caller(raw)
    assert not single and np.array_equal(many, np.repeat(one, 3, 0))


class DenseFinals(VectorEnv):
    """SAME_STEP with all rows in ``final_obs``, and junk in those whose episode goes on."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, space: gymnasium.Space, observed: Any, final: Any, as_torch: bool) -> None:
        self.num_envs, self.single_observation_space = 3, space
        self.single_action_space = Discrete(2)
        self.observation_space = batch_space(space, 3)
        self.action_space = batch_space(self.single_action_space, 3)
        self._observed, self._final, self._as_torch = observed, final, as_torch

    def _given(self, nest: Any) -> Any:
        if isinstance(nest, dict):
            return {key: self._given(value) for key, value in nest.items()}
        return torch.as_tensor(nest) if self._as_torch else nest

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self._given(self._observed), {}

    def step(self, actions: Any) -> Any:
        ended = np.array([False, True, False])
        flags = ended, np.zeros(3, bool)
        info = {"final_obs": self._given(self._final)}
        return self._given(self._observed), self._given(np.zeros(3)), *map(self._given, flags), info


@pytest.mark.parametrize("as_torch", [False, True])
@pytest.mark.parametrize("junk", [-1, 99])
def test_junk_in_dense_final_observations_is_not_read(junk: int, as_torch: bool) -> None:
    observed, final = np.array([1, 2, 0]), np.array([junk, 3, junk])
    stream = make_envs(DenseFinals(Discrete(4), observed, final, as_torch))
    stream.reset(seed=0)
    stream.send(np.zeros(3, np.int64))
    step = stream.recv()
    assert np.asarray(step.observation).ravel().tolist() == [1, 3, 0]
    assert np.asarray(step.reset_observation).ravel().tolist() == [1, 2, 0]

    space = Dict(gear=Discrete(4), speed=Box(-1, 1, (1,)))
    speed = np.ones((3, 1), np.float32)
    inner = {"gear": final, "speed": speed / 2}
    stream = make_envs(DenseFinals(space, {"gear": observed, "speed": speed}, inner, as_torch))
    stream.reset(seed=0)
    stream.send(np.zeros(3, np.int64))
    got = np.asarray(stream.recv().observation)
    assert got[1].tolist() == [3, 0.5]
    assert got[[0, 2], 1].tolist() == [1, 1]


def test_a_final_category_that_is_none_is_refused() -> None:
    for wrong in (np.array([0, 4, 0]), np.array([0, 3])):
        stream = make_envs(DenseFinals(Discrete(4), np.array([1, 2, 0]), wrong, False))
        stream.reset(seed=0)
        stream.send(np.zeros(3, np.int64))
        with pytest.raises(EnvError, match="returned final_obs of"):
            stream.recv()

"""What each part of an observation is, read from its space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from gymnasium import spaces

from fastdqn.envs import layout
from fastdqn.errors import ConfigError, EnvError, cut_short
from fastdqn.frame_format import MOST_CATEGORIES, FrameFormat

Kind = Literal["image", "numbers", "categories"]
Stored = Literal["uint8", "float32"]

_MOST = 2**31  # numbers in an array: leaves are read from files, too
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_DTYPES = ("bool", *_INTEGERS, "float16", "float32", "float64")


@dataclass(frozen=True, kw_only=True)
class ObservationOptions:
    """What a caller says of observations; the fields are those of ``Config``."""

    observation_scale: str = "auto"
    image_layout: str = "auto"
    observation_keys: tuple[str, ...] | None = None
    store_uint8: bool = False

    @classmethod
    def checked(
        cls,
        observation_scale: str,
        image_layout: str,
        observation_keys: Sequence[str] | None,
        store_uint8: bool,
    ) -> ObservationOptions:
        """These, or EnvError where one is none."""
        for field, value, choices in (
            ("observation_scale", observation_scale, ("auto", "none", "255")),
            ("image_layout", image_layout, ("auto", "chw", "hwc")),
            ("store_uint8", store_uint8, (True, False)),
        ):
            if value not in choices:
                raise EnvError(
                    f"{field} = {value!r} must be one of {', '.join(map(repr, choices))}."
                )
        keys = observation_keys
        if keys is not None and (not isinstance(keys, list | tuple) or not keys):
            raise EnvError(f"observation_keys = {keys!r} must be one name or more, as a tuple.")
        return cls(
            observation_scale=observation_scale,
            image_layout=image_layout,
            observation_keys=None if keys is None else tuple(keys),
            store_uint8=store_uint8,
        )


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One array of an observation.

    Attributes:
        path: Keys and positions that lead to it; empty where the observation is one array.
        kind: An image; numbers; or categories, integers that are names.
        shape: As the env returns it.
        dtype: As its space says.
        layout: Of an image: chw, hwc, hw, or either of the first two behind an axis of frames:
            schw, shwc.
        divisor: What its numbers are divided by for the network.
        sizes: Of the categories, one per entry.
        starts: The lowest of each.
        to_bytes: Stored as bytes: the numbers times this. None: as they are.
    """

    path: tuple[str | int, ...]
    kind: Kind
    shape: tuple[int, ...]
    dtype: str
    layout: str | None = None
    divisor: int = 1
    sizes: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    to_bytes: int | None = None

    @property
    def name(self) -> str:
        """Its path in one word."""
        return ".".join(map(str, self.path))

    @property
    def stored(self) -> Stored:
        """The dtype in which a frame of it alone is stored."""
        small = self.kind == "categories" and max(self.sizes, default=0) <= 256
        is_bytes = self.dtype in ("uint8", "bool") and self.kind != "categories"
        return "uint8" if small or is_bytes or self.to_bytes is not None else "float32"

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Any) -> Leaf:
        """What :meth:`to_dict` made, read back; ConfigError where it is something else."""
        names = [field.name for field in fields(cls)]
        if not isinstance(data, dict) or sorted(data, key=str) != sorted(names):
            raise ConfigError(f"an observation is described by {cut_short(data)}, not by {names}.")

        def are(value: Any, low: int, high: int) -> bool:
            return isinstance(value, list) and all(
                type(v) is int and low <= v <= high for v in value
            )

        kind, path, arrangement = data["kind"], data["path"], data["layout"]
        has_shape = are(data["shape"], 1, _MOST) and len(data["shape"]) <= 32
        numbers = math.prod(data["shape"]) if has_shape else _MOST + 1
        named = numbers if kind == "categories" else 0
        right = {
            "path": isinstance(path, list) and all(type(key) in (str, int) for key in path),
            "kind": kind in ("image", "numbers", "categories"),
            "shape": numbers <= _MOST,
            "dtype": isinstance(data["dtype"], str) and data["dtype"] in _DTYPES,
            "layout": arrangement is None
            if kind != "image"
            else isinstance(arrangement, str)
            and arrangement in layout.LAYOUTS
            and has_shape
            and len(arrangement) == len(data["shape"]),
            "divisor": are([data["divisor"]], 1, _MOST),
            "sizes": are(data["sizes"], 1, MOST_CATEGORIES) and len(data["sizes"]) == named,
            "starts": are(data["starts"], -(2**63), 2**63 - 1) and len(data["starts"]) == named,
            "to_bytes": data["to_bytes"] is None
            or (kind == "image" and are([data["to_bytes"]], 1, 255)),
        }
        for name, good in right.items():
            if not good:
                raise ConfigError(f"{name} = {cut_short(data[name])} describes no observation.")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)


def read_leaves(
    space: spaces.Space, options: ObservationOptions, name: str
) -> tuple[list[Leaf], list[str]]:
    """The arrays that an observation is made of, and a word on each thing that was decided.

    Args:
        space: Of one env's observation.
        options: What the caller says of it.
        name: Of the envs, for messages.

    Raises:
        EnvError: Where a part has no one meaning, or none for a network.
    """
    notes: list[str] = []
    chosen = list(_parts(space, ()))
    if options.observation_keys is not None:
        chosen = _choose(chosen, options.observation_keys, name)
    parts = []
    for path, part in chosen:
        label = ".".join(map(str, path))
        if _is_text(part):
            notes.append(f"{label} is text and left out")
            continue
        parts.append((path, part))
    leaves = [_leaf(path, part, options, name) for path, part in parts]
    if any(leaf.kind == "image" for leaf in leaves):
        # The scale is that of the images; numbers beside them have their own.
        own = replace(options, observation_scale="auto")
        leaves = [
            leaf if leaf.kind == "image" else _leaf(path, part, own, name)
            for leaf, (path, part) in zip(leaves, parts, strict=True)
        ]
    if not leaves:
        raise EnvError(
            f"The observation space of {name} is {space}, which holds no numbers; wrap each env so "
            f"that its observation has some."
        )
    _check_used(options, leaves, name)
    return leaves, notes


def _parts(space: spaces.Space, path: tuple[str | int, ...]) -> Any:
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _parts(part, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _parts(part, (*path, index))
    else:
        yield path, space


def _choose(parts: list[Any], keys: Sequence[str], name: str) -> list[Any]:
    """The parts at or below the keys, in the order of the keys."""
    found: list[Any] = []
    known = [".".join(map(str, path)) for path, _ in parts]
    if known == [""]:
        raise EnvError(
            f"observation_keys = {list(keys)} has no effect on {name}, whose observation is one "
            f"array; leave it out."
        )
    for key in keys:
        below = [
            part
            for label, part in zip(known, parts, strict=True)
            if label == key or label.startswith(f"{key}.")
        ]
        if not below:
            raise EnvError(
                f"observation_keys = {key!r} is no part of an observation of {name}; choose from "
                f"{', '.join(known)}."
            )
        found += [part for part in below if not any(part is other for other in found)]
    return found


def _is_text(space: spaces.Space) -> bool:
    """Text, and spaces of people's own whose samples are (MiniGrid's missions)."""
    return (
        isinstance(space, spaces.Text)
        or space.dtype is str
        or getattr(space.dtype, "kind", "") in ("U", "S")
    )


def _leaf(
    path: tuple[str | int, ...], space: spaces.Space, options: ObservationOptions, name: str
) -> Leaf:
    if isinstance(space, spaces.Box):
        return _box(path, space, options, name)
    shape, dtype = tuple(space.shape or ()), str(space.dtype)
    if isinstance(space, spaces.MultiBinary):  # 0 and 1 are numbers already
        return Leaf(path=path, kind="numbers", shape=shape, dtype=dtype)
    if isinstance(space, spaces.Discrete):
        sizes: tuple[int, ...] = (int(space.n),)
        starts: tuple[int, ...] = (int(space.start),)
    elif isinstance(space, spaces.MultiDiscrete):
        sizes = tuple(int(n) for n in space.nvec.flat)
        starts = tuple(int(n) for n in space.start.flat)
    else:
        label = ".".join(map(str, path))
        of = f" for {label!r}" if label else ""
        fix = "choose others by observation_keys" if label else "wrap each env so that it is a Box"
        raise EnvError(
            f"The observation space of {name} has {space}{of}, which has no fixed number of "
            f"numbers; {fix}."
        )
    if sum(sizes) > MOST_CATEGORIES:
        raise EnvError(
            f"The observation space of {name} has {space}, {sum(sizes)} categories; at most "
            f"{MOST_CATEGORIES} fit a one-hot vector, so wrap each env so that it is a Box."
        )
    return Leaf(path=path, kind="categories", shape=shape, dtype=dtype, sizes=sizes, starts=starts)


def _box(
    path: tuple[str | int, ...], space: spaces.Box, options: ObservationOptions, name: str
) -> Leaf:
    shape, dtype = tuple(space.shape), str(space.dtype)
    label = f"{'.'.join(map(str, path))!r} of " if path else ""
    if 0 in shape:
        fix = "choose others by observation_keys" if path else "wrap each env so that it has some"
        raise EnvError(
            f"The observation space of {label}{name} is {space}, which holds no numbers; {fix}."
        )
    arrangement = layout.read_layout(shape, dtype, options.image_layout, f"{label}{name}")
    divisor = {"auto": None, "none": 1, "255": 255}[options.observation_scale]
    moved = shape if arrangement is None else layout.moved(shape, arrangement)
    by = FrameFormat.of_bounds(moved, dtype, space.low.min(), space.high.max(), divisor).divisor
    leaf = Leaf(
        path=path,
        kind="numbers" if arrangement is None else "image",
        shape=shape,
        dtype=dtype,
        layout=arrangement,
        divisor=by,
    )
    if options.store_uint8 and leaf.kind == "image" and leaf.stored != "uint8":
        return _as_bytes(leaf, space, divisor, f"{label}{name}")
    return leaf


def _as_bytes(leaf: Leaf, space: spaces.Box, divisor: int | None, name: str) -> Leaf:
    low, high = float(space.low.min()), float(space.high.max())
    if low != 0 or high not in (1, 255):
        raise EnvError(
            f"store_uint8 = True needs images from 0 to 1 or from 0 to 255, not from {low:g} to "
            f"{high:g} as {name} says; leave it out."
        )
    if high == 255:
        return replace(leaf, to_bytes=1)
    return replace(leaf, to_bytes=255, divisor=255 * (divisor or 1))


def _check_used(options: ObservationOptions, leaves: list[Leaf], name: str) -> None:
    """Refuse options that nothing here uses."""
    images = [leaf for leaf in leaves if leaf.kind == "image"]
    plain = [leaf for leaf in leaves if leaf.kind != "categories"]
    floats = [leaf for leaf in images if leaf.dtype not in ("uint8", "bool")]
    coloured = [leaf for leaf in images if leaf.layout != "hw"]
    for field, used in (
        ("observation_scale", plain or options.observation_scale == "auto"),
        ("image_layout", coloured or options.image_layout == "auto"),
        ("store_uint8", floats or not options.store_uint8),
    ):
        if not used:
            raise EnvError(
                f"{field} = {getattr(options, field)!r} has no effect on the observations of "
                f"{name}; leave it out."
            )

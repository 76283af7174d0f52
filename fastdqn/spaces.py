"""What envs, policies and checkpoints must agree on, and the one comparison of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastdqn.errors import ConfigError
from fastdqn.frame_format import FrameFormat

if TYPE_CHECKING:
    from fastdqn.envs import EnvStream
    from fastdqn.types import StackPadding

_SPACES = ("frames", "format", "parts", "num_actions", "action_start")
_STACKS = ("frame_stack", "stack_padding")


@dataclass(frozen=True)
class Spaces:
    """What a network sees of one env, and what it decides."""

    frame_shape: tuple[int, ...]
    frame_dtype: str | None  # uint8 or float32; None: an older checkpoint does not say
    format: FrameFormat
    num_actions: int
    action_start: int
    frame_stack: int | None
    stack_padding: StackPadding
    parts: tuple[str, ...] | None = None  # of an observation, in order; None: unknown

    @classmethod
    def of(cls, envs: EnvStream) -> Spaces:
        """Those of a stream; ConfigError where its frames are none."""
        space, format = envs.observation_space, getattr(envs, "frame_format", None)
        dtype = str(getattr(space, "dtype", None))
        if dtype not in ("uint8", "float32") or not hasattr(space, "low") or not space.shape:
            raise ConfigError(
                f"observation_space = {space} of the stream is no space of frames; make it a Box "
                f"of uint8 or float32 with one dimension or more, and return such arrays."
            )
        if not isinstance(format, FrameFormat | None):
            raise ConfigError(
                f"frame_format = {format!r} of the stream is no FrameFormat; leave it out, and it "
                f"follows from observation_space."
            )
        shape = tuple(space.shape)
        return cls(
            shape,
            dtype,
            FrameFormat.of_box(space) if format is None else format,
            envs.num_actions,
            envs.action_start,
            envs.frame_stack,
            envs.stack_padding,
            getattr(getattr(envs, "reader", None), "parts", None),
        )

    @classmethod
    def of_spec(cls, spec: Mapping[str, Any]) -> Spaces:
        """Those that a checkpoint's spec describes."""
        shape = tuple(spec["frame_shape"])
        dtype = spec.get("frame_dtype", "uint8" if spec["image"] else None)
        saved = spec.get("frame_format")
        return cls(
            shape,
            dtype,
            FrameFormat.of_bytes(shape, dtype) if saved is None else FrameFormat.from_dict(saved),
            spec["num_actions"],
            spec["action_start"],
            spec["frame_stack"],
            spec["stack_padding"],
            _parts(spec.get("observation")),
        )

    @property
    def image(self) -> bool:
        """Whether frames are images."""
        return self.format.image

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Of one observation, as the network sees it: [S, *O] or O."""
        return (*(() if self.frame_stack is None else (self.frame_stack,)), *self.frame_shape)

    def looks_like(self, other: Spaces) -> bool:
        """Whether a network cannot tell the observations apart: a stack may be the env's own."""
        dtypes = {self.frame_dtype, other.frame_dtype} - {None}
        alike = self.observation_shape == other.observation_shape and len(dtypes) < 2
        return alike and (None in (self.frame_dtype, other.frame_dtype) or self.means(other))

    def means(self, other: Spaces) -> bool:
        """Whether equal numbers in a frame mean the same."""
        names = ("divisor", "one_hot", "packed_image")
        return all(getattr(self.format, n) == getattr(other.format, n) for n in names)


def check_eval_envs(envs: EnvStream, eval_envs: EnvStream) -> None:
    """Refuse to evaluate in envs of other spaces than those trained in, by a ConfigError.

    The policy stacks frames by itself, so evaluation envs may leave that open.
    """
    wanted, found = Spaces.of(envs), Spaces.of(eval_envs)
    fields = _SPACES if found.frame_stack is None else (*_SPACES, "frame_stack")
    _check(wanted, found, fields, ("the training envs", "eval_envs"), "pass eval_envs like those")


def check_resumed(saved: Spaces, now: Spaces, run_dir: object) -> None:
    """Refuse to go on with a run in envs of other spaces, by a ConfigError."""
    names = f"those of the run in {str(run_dir)!r}", "The envs"
    fix = "use envs like those, or start in another run_dir"
    _check(saved, now, (*_SPACES, *_STACKS), names, fix)


def check_played(spaces: Spaces, envs: EnvStream) -> None:
    """Refuse to play in envs of other spaces than the policy's, by a ConfigError."""
    names = "those that the policy was trained on", "The envs"
    _check(spaces, Spaces.of(envs), _SPACES, names, "play it in envs like those")


def _check(
    wanted: Spaces, found: Spaces, fields: Collection[str], names: tuple[str, str], fix: str
) -> None:
    """One sentence for the first difference; ``names`` are those of both, in the plural."""
    for field in fields:
        if field == "frames":
            dtypes = {wanted.frame_dtype, found.frame_dtype} - {None}
            same = wanted.frame_shape == found.frame_shape and len(dtypes) < 2
        elif field == "format":
            same = None in (wanted.frame_dtype, found.frame_dtype) or wanted.means(found)
        elif field == "parts":
            same = None in (wanted.parts, found.parts) or wanted.parts == found.parts
        else:
            same = getattr(wanted, field) == getattr(found, field)
        if not same:
            raise ConfigError(
                f"{names[1]} have {_shown(found, field)}, where {names[0]} have "
                f"{_shown(wanted, field)}; {fix}."
            )


def _shown(spaces: Spaces, field: str) -> str:
    if field == "frames":
        return f"frames of shape {spaces.frame_shape} {spaces.frame_dtype or ''}".rstrip()
    if field == "format":
        return f"observations that are {spaces.format}"
    if field == "parts":
        return f"observations made of {', '.join(spaces.parts or ()) or 'one array'}"
    if field == "num_actions":
        return f"{spaces.num_actions} actions"
    if field == "action_start":
        return f"actions that start at {spaces.action_start}"
    return f"{field} = {getattr(spaces, field)!r}"


def _parts(observation: Any) -> tuple[str, ...] | None:
    """As ``ObservationReader.parts``, of what a checkpoint holds of it."""
    if observation is None:
        return None
    return tuple(".".join(map(str, leaf["path"])) for leaf in observation["leaves"])

"""What envs and callers promise, checked: spaces, autoreset mode, arrays, actions and seeds.

Everything here raises EnvError with one sentence that says what to change.
"""

from __future__ import annotations

import operator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from fastdqn.envs import arrays, layout
from fastdqn.envs.leaves import ObservationOptions
from fastdqn.envs.reader import ObservationReader
from fastdqn.envs.stream import EnvStream
from fastdqn.errors import EnvError
from fastdqn.types import Array

_MAX_SEED = 2**31 - 1


def check_is_vector_env(envs: Any) -> None:
    """Refuse everything but a VectorEnv, above all a single Env.

    Simulators on a GPU, such as Isaac Lab, subclass Env and have all that a VectorEnv has.
    """
    if isinstance(envs, VectorEnv):
        return
    many = ("num_envs", "single_observation_space", "single_action_space")
    if isinstance(envs, gymnasium.Env) and all(hasattr(envs, name) for name in many):
        return
    if isinstance(envs, gymnasium.Env):
        raise EnvError(
            f"{envs} is a single env, not a VectorEnv; make it with gymnasium.make_vec(id, "
            f"num_envs=...) or wrap it: gymnasium.vector.SyncVectorEnv([lambda: env])."
        )
    raise EnvError(
        f"{type(envs).__name__} is not a gymnasium.vector.VectorEnv; make one with "
        f"gymnasium.make_vec or put an adapter that subclasses VectorEnv around it."
    )


def read_autoreset_mode(envs: VectorEnv) -> AutoresetMode:
    """When the envs reset themselves.

    The attribute of the env itself goes before its metadata, and metadata that is the dictionary
    of the class VectorEnv does not count: ale-py writes the mode of whatever it built last there,
    so that every env without metadata of its own seems to have that mode.
    """
    auto_reset = getattr(envs, "auto_reset", None)  # of ManiSkillVectorEnv, as are both names
    if auto_reset is False:
        raise EnvError(f"{envs} resets nothing by itself; make it with auto_reset=True.")
    mode = getattr(envs.unwrapped, "autoreset_mode", None)
    if mode is None and envs.metadata is not VectorEnv.metadata:
        mode = (envs.metadata or {}).get("autoreset_mode")
    if mode is None and auto_reset is True and hasattr(envs, "ignore_terminations"):
        mode = AutoresetMode.SAME_STEP
    if mode is not None:
        try:
            return AutoresetMode(getattr(mode, "value", mode))
        except ValueError:
            pass
    raise EnvError(
        f"{envs} does not say when it resets (autoreset mode {mode!r}); set its "
        f'metadata = {{"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}} '
        f"(or SAME_STEP, or DISABLED)."
    )


def read_actions(envs: VectorEnv) -> tuple[int, int]:
    """Number of actions, and the number that the env has for the first of them."""
    space = getattr(envs, "single_action_space", None)
    if not isinstance(space, spaces.Discrete):
        raise EnvError(
            f"The action space of {envs} is {space}, but a DQN needs Discrete(n); discretise "
            f"the actions with a wrapper such as gymnasium.wrappers.TransformAction."
        )
    return int(space.n), int(space.start)


def read_observation(
    envs: VectorEnv, options: ObservationOptions, frame_stack: int | None
) -> ObservationReader:
    """What makes frames of the observations of envs."""
    space = getattr(envs, "single_observation_space", None)
    if not isinstance(space, spaces.Space):
        raise EnvError(
            f"{envs} has no single_observation_space ({space}); set it to the space of one env's "
            f"observation."
        )
    batch = getattr(envs, "observation_space", None)
    if (
        isinstance(space, spaces.Box)
        and batch is not None
        and batch.shape != (envs.num_envs, *space.shape)
    ):
        raise EnvError(
            f"{envs} has num_envs = {envs.num_envs} but batches of shape {batch.shape}; all envs "
            f"must step together, so make it with batch_size = num_envs."
        )
    return ObservationReader.of_space(space, options, frame_stack=frame_stack, name=str(envs))


def check_stream(stream: EnvStream) -> None:
    """Refuse a stream of images that nobody has moved the channels of."""
    shape = tuple(getattr(stream.observation_space, "shape", None) or ())
    if len(shape) != 3 or getattr(stream, "frame_format", None) is not None:
        return
    if shape[2] in layout.COLOURS and shape[0] not in layout.COLOURS and min(shape[:2]) >= 3:
        raise EnvError(
            f"The frames of {type(stream).__name__}, {shape}, have their channels last; move them "
            f"to the front, e.g. by np.moveaxis(frames, -1, 1), and make its observation_space "
            f"{(shape[2], *shape[:2])}."
        )


def check_frames(envs: VectorEnv, raw: Any) -> Array:
    """The observations as one array [N, *O] of the kind that the space promises, or EnvError."""
    space = envs.single_observation_space
    shape = (envs.num_envs, *(space.shape or ()))
    if not isinstance(raw, Array):
        raise EnvError(
            f"{envs} returned observation of type {type(raw).__name__}; return a numpy array or a "
            f"torch tensor of shape {shape}."
        )
    if tuple(raw.shape) != shape:
        if arrays.without_ones(raw.shape) != arrays.without_ones(shape):
            raise EnvError(
                f"{envs} returned observation of shape {tuple(raw.shape)}, but its space says "
                f"{shape}; correct one of them."
            )
        raw = raw.reshape(shape)
    if not arrays.fits(arrays.kind(raw.dtype), arrays.kind(space.dtype)):
        raise EnvError(
            f"{envs} returned observation of dtype {raw.dtype}, but its space says {space.dtype}; "
            f"correct one of them."
        )
    return raw


def check_per_env(envs: VectorEnv, name: str, value: Array) -> Array:
    """Rewards or flags as [N], from [N, 1] too; EnvError where they are not one per env."""
    shape = tuple(value.shape)
    if shape == (envs.num_envs,):
        return value
    if arrays.without_ones(shape) == arrays.without_ones((envs.num_envs,)):
        return value.reshape(envs.num_envs)
    raise EnvError(
        f"{envs} returned {name} of shape {shape}; one value per env, shape {(envs.num_envs,)}, is "
        f"needed."
    )


def check_actions(actions: Array, num_envs: int, num_actions: int) -> None:
    """Refuse actions that are not [N] integers, or, on the host, outside of 0 .. num_actions - 1.

    An action out of range makes ALE wait for ever, and Gymnasium's envs take some in silence.
    """
    if getattr(actions, "is_meta", False):
        raise EnvError("Actions are on meta and hold no numbers; use some that do.")
    if arrays.kind(actions.dtype) not in ("int", "uint8"):
        raise EnvError(f"Actions are of dtype {actions.dtype}; use integers such as int64.")
    if tuple(actions.shape) != (num_envs,):
        raise EnvError(
            f"Actions are of shape {tuple(actions.shape)}; one per env, shape {(num_envs,)}, is "
            f"needed."
        )
    if isinstance(actions, np.ndarray) and (actions.min() < 0 or actions.max() >= num_actions):
        i = int(((actions < 0) | (actions >= num_actions)).argmax())
        raise EnvError(
            f"The action of env {i} is {actions[i]}; actions go from 0 to {num_actions - 1}, "
            f"whatever the start of the env's own space."
        )


def check_seed(seed: Any, num_envs: int) -> int:
    """``seed`` as a Python int, which is all that every env takes; env i gets seed + i."""
    try:
        value = operator.index(seed)
    except TypeError:
        raise EnvError(f"seed = {seed!r} is not an integer.") from None
    if not 0 <= value <= _MAX_SEED - num_envs:  # ALE has 32 bits
        raise EnvError(f"seed = {value} is out of range; use 0 to {_MAX_SEED - num_envs}.")
    return value

"""What TorchRL's collectors and envs deliver, as transitions in order of time."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from fastdqn.errors import FastDQNError
from fastdqn.integrations.torchrl.actions import to_numbers


class Collected(NamedTuple):
    """Transitions [T, N, ...]: the arguments of ``ReplayBuffer.extend``."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    terminated: Tensor
    truncated: Tensor


def collected(
    data: Any, num_envs: int, frame_shape: tuple[int, ...], frame_stack: int | None, key: Any
) -> tuple[Collected, int | None, torch.dtype]:
    """Transitions of a TensorDict.

    Args:
        data: [N, T], as a collector delivers it, or flattened, [N * T]; with one env also [T].
        num_envs: N.
        frame_shape: O. Of a stack [S, *O] the newest frame is taken.
        frame_stack: S.
        key: Of the observation.

    Returns:
        The transitions; the A of one-hot actions, else None; the dtype of the actions.

    Raises:
        FastDQNError: Where the data are of another kind.
    """
    if not isinstance(data, TensorDictBase):
        raise FastDQNError(f"data is {type(data).__name__}; pass a TensorDict.")
    batch = _split(data.batch_size, num_envs)
    if data.get(("collector", "mask"), None) is not None:
        raise FastDQNError("data has a mask of split trajectories; set split_trajs = False.")
    following = data.get("next", None)
    if not isinstance(following, TensorDictBase):
        raise FastDQNError("data has no 'next'; pass what a collector or env.step returned.")

    def by_time(name: Any, value: Tensor | None) -> Tensor:
        if value is None:
            raise FastDQNError(f"data has no {name!r}; rename it, or name observation_key.")
        return value.reshape(*batch, *value.shape[data.batch_dims :]).transpose(0, 1)

    def frames(name: Any, value: Tensor | None) -> Tensor:
        found = by_time(name, value)
        event = tuple(found.shape[2:])
        if frame_stack is not None and event == (frame_stack, *frame_shape):
            return found[:, :, -1]
        if event != frame_shape:
            raise FastDQNError(
                f"{name!r} has shape {list(event)} for each step; use that of one frame, "
                f"{list(frame_shape)}."
            )
        return found

    def single(name: str, value: Tensor | None) -> Tensor:
        found = by_time(("next", name), value)
        if math.prod(found.shape[2:]) != 1:
            raise FastDQNError(
                f"('next', {name!r}) has shape {list(found.shape[2:])} for each step; use one "
                f"number for each, [1]."
            )
        return found.reshape(batch[1], batch[0])

    def flag(name: str) -> Tensor | None:
        value = following.get(name, None)
        if value is None:
            return None
        return single(name, value).to(torch.bool)

    done, terminated, truncated = flag("done"), flag("terminated"), flag("truncated")
    if terminated is None:
        if done is None:
            raise FastDQNError("data has no ('next', 'done'); pass what env.step returned.")
        terminated = done if truncated is None else done & ~truncated
    if truncated is None:
        truncated = torch.zeros_like(terminated) if done is None else done & ~terminated
    given = by_time("action", data.get("action", None))
    action, num_actions = to_numbers(given, torch.Size((batch[1], batch[0])))
    if num_actions is not None and given.device.type == "cpu" and not bool(_is_one_hot(given)):
        raise FastDQNError(
            f"action has {num_actions} numbers for each step that are not one-hot; use one "
            f"discrete action for each, as a number or one-hot."
        )
    reward = single("reward", following.get("reward", None))
    return (
        Collected(
            frames(key, data.get(key, None)),
            action,
            reward,
            frames(("next", key), following.get(key, None)),
            terminated,
            truncated,
        ),
        num_actions,
        given.dtype,
    )


def _is_one_hot(action: Tensor) -> Tensor:
    """Whether all of [..., A] have a single 1 and otherwise 0."""
    ones = action == 1
    return (ones.sum(-1) == 1).all() & (ones | (action == 0)).all()


def _split(batch_size: torch.Size, num_envs: int) -> tuple[int, int]:
    """N and T of a batch size, or FastDQNError."""
    count = math.prod(batch_size)
    flat = len(batch_size) <= 1 and count % num_envs == 0
    if flat or (len(batch_size) == 2 and batch_size[0] == num_envs):
        return num_envs, count // num_envs
    raise FastDQNError(
        f"data has batch_size {list(batch_size)}; use [{num_envs}, T], env by env as a collector "
        f"delivers it, or that flattened."
    )

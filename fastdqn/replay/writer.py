"""From a caller's arrays to rows: looked at, brought to the device, written, on CUDA by a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastdqn.replay.add_rows import add_rows
from fastdqn.replay.captured_add import CapturedAdds
from fastdqn.replay.incoming import Incoming
from fastdqn.replay.transitions import add_transition, extend
from fastdqn.system.compilation import weakly
from fastdqn.system.staging import HostStaging
from fastdqn.types import Array, TimeStep

if TYPE_CHECKING:
    from fastdqn.replay.buffer import ReplayBuffer

_TRANSITION = ("observation", "action", "reward", "next_observation", "terminated", "truncated")


class Writer:
    """Writes to a replay, which it does not hold: a cycle would keep its memory.

    Args:
        num_envs: N.
        frame_shape: O.
        frame_dtype: Of the stored frames.
        num_actions: Actions that come lie in [0, num_actions); None: they are not looked at.
        device: Of the replay.
    """

    def __init__(
        self,
        num_envs: int,
        frame_shape: tuple[int, ...],
        frame_dtype: torch.dtype,
        num_actions: int | None,
        device: torch.device,
    ) -> None:
        self._incoming = Incoming(num_envs, frame_shape, frame_dtype, num_actions, device)
        self._num_actions = num_actions
        self._no_action = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._no = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self._staging = HostStaging(device)
        self._captured = CapturedAdds(device)

    def add(self, replay: ReplayBuffer, step: TimeStep, actions: Array | None) -> None:
        """As :meth:`fastdqn.replay.buffer.ReplayBuffer.add`."""
        arrays = self._incoming.row(step, actions, anew=replay._rows_added == 0)
        actions = self._no_action if actions is None else actions
        (observation, reward, terminated, truncated, first, action, *second) = self._staged(
            replay, [*arrays[:5], actions, *arrays[5:]], 5
        )
        row = (observation, action, reward, terminated, truncated, first)
        if replay._rows_added < replay.n_step:
            add_rows(replay, row, second)
        elif replay.mode == "graph" and self._staging.fixed:
            self._capture((*row, *second), replay, lambda replay: write_rows(replay, row, second))
        else:
            write_rows(replay, row, second)

    def add_transition(self, replay: ReplayBuffer, arrays: list[Array], mask: Array | None) -> None:
        """As :meth:`fastdqn.replay.buffer.ReplayBuffer.add_transition`."""
        names = _TRANSITION if mask is None else (*_TRANSITION, "mask")
        arrays = arrays if mask is None else [*arrays, mask]
        self._incoming.check(names, arrays)
        before, action, reward, following, *ends = parts = self._staged(replay, arrays, 1)
        loops = replay._loops if mask is None and replay._rows_added >= replay.n_step else None
        if loops is not None and loops.all_go_on(replay, before):
            write_rows(replay, (following, action, reward, *ends, self._no), [])
        elif replay.mode == "graph" and self._staging.fixed:
            self._capture(tuple(parts), replay, lambda replay: add_transition(replay, *parts))
        else:
            add_transition(replay, *parts)

    def extend(self, replay: ReplayBuffer, arrays: list[Any]) -> Tensor:
        """As :meth:`fastdqn.replay.buffer.ReplayBuffer.extend`."""
        flat = replay.num_envs == 1 and all(isinstance(a, Array) and len(a.shape) for a in arrays)
        flat = flat and len(arrays[1].shape) == 1
        if flat:
            arrays = [array[:, None] for array in arrays]
        first = arrays[0]
        length = first.shape[0] if isinstance(first, Array) and len(first.shape) else 0
        self._incoming.check(_TRANSITION, arrays, (length,))
        index = extend(replay, arrays)
        return index.squeeze(1) if flat else index

    def _staged(self, replay: ReplayBuffer, arrays: list[Array], action: int) -> list[Tensor]:
        """The arrays on the device, where actions that are none become 0 and raise a flag."""
        parts = self._staging(arrays)
        if self._num_actions is not None and arrays[action] is parts[action] and parts[0].is_cuda:
            actions = parts[action].to(torch.int64)  # A may be more than its own dtype counts to
            replay.invalid.logical_or_(((actions < 0) | (actions >= self._num_actions)).any())
            parts[action] = actions.clamp(0, self._num_actions - 1)
        return parts

    def _capture(
        self, arrays: tuple[Tensor, ...], replay: ReplayBuffer, write: Callable[[Any], None]
    ) -> None:
        """Write by a graph of arrays that lie where the last ones lay."""
        graph = self._captured.of(arrays)
        if graph is None:

            def add(replay: ReplayBuffer) -> tuple[Tensor, ...]:
                write(replay)
                return ()

            # Rows need not be put back: the graph writes them again.
            state = [replay.cursor, replay._newest, *replay.tree.tensors()]
            graph = self._captured.capture(arrays, weakly(add, replay), state)
        graph()


def write_rows(replay: ReplayBuffer, row: tuple[Tensor, ...], second: list[Tensor]) -> None:
    """Write rows behind n others; see :func:`fastdqn.replay.add_rows.add_rows`."""
    if second:
        add_rows(replay, row, second)
    else:
        replay._way.add_row(replay, row)

"""The contract between environments and everything that consumes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fastdqn.types import StackPadding

if TYPE_CHECKING:
    from gymnasium.spaces import Box

    from fastdqn.types import Array, TimeStep


@runtime_checkable
class EnvStream(Protocol):
    """N environments as one stream of rows (see :class:`fastdqn.TimeStep`).

    A subclass gets :meth:`step`; a class with all the rest, but without that, is a stream, too.

    Actions are counted from 0 here; a stream whose space starts elsewhere adds ``action_start``
    itself. Optional: ``state_dict()`` and ``load_state_dict(state)``, called between :meth:`recv`
    and :meth:`send`, which make a resumed run exact. The state is made of dictionaries, lists,
    numbers, texts, and arrays or tensors (not both: arrays come back as arrays, tensors as tensors
    on the host).
    """

    num_envs: int
    """N."""
    num_actions: int
    """A."""
    action_start: int
    """What the space of the envs counts actions from."""
    observation_space: Box
    """Of one frame of one env."""
    frame_stack: int | None
    """Frames that the replay shall stack; None: observations are whole."""
    stack_padding: StackPadding
    """What stands before an episode's first frame: ``zero`` or ``repeat``."""

    def reset(self, *, seed: int | None = None) -> TimeStep:
        """Start every env anew; every row of the answer is ``first``.

        Args:
            seed: Env i is seeded with seed + i; None: as the envs have it.
        """
        ...

    def send(self, actions: Array) -> None:
        """Hand over the actions; the envs may work until :meth:`recv`.

        Args:
            actions: int [N] in [0, num_actions).
        """
        ...

    def recv(self) -> TimeStep:
        """Wait for the rows that the last :meth:`send` leads to."""
        ...

    def step(self, actions: Array) -> TimeStep:
        """:meth:`send` and :meth:`recv`, with nothing to do in between.

        Args:
            actions: int [N] in [0, num_actions).
        """
        self.send(actions)
        return self.recv()

    def close(self) -> None:
        """Release the envs."""
        ...


def is_stream(envs: object) -> bool:
    """Whether it has all that a run asks of an :class:`EnvStream`, be it through a ``__getattr__``.

    ``isinstance`` does not look there since Python 3.12.
    """
    names = (*EnvStream.__annotations__, "reset", "send", "recv", "close")
    return all(hasattr(envs, name) for name in names)


def saves_state(envs: object) -> bool:
    """Whether its state can be saved; a stream that may be unable says so in ``can_save_state``."""
    both = hasattr(envs, "state_dict") and hasattr(envs, "load_state_dict")
    return both and bool(getattr(envs, "can_save_state", True))

"""What the network made of the observation it last acted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastdqn.acting.policy import Policy
from fastdqn.learning.input_gradients import network_of
from fastdqn.learning.perturbation import perturbation_saliency
from fastdqn.networks.forward import to_q
from fastdqn.plotting.saliency_picture import newest_frame

# A map of an 84 x 84 frame then takes 121 forwards; its bumps are as wide as the gaps.
_STRIDE, _MASK_SIGMA = 8, 5.0


@dataclass(frozen=True)
class Insight:
    """Of one observation."""

    action: int  # taken, from 0
    q: np.ndarray  # [A]
    saliency: np.ndarray | None = None  # [H, W], >= 0
    frame: np.ndarray | None = None  # [H, W] in 0..1, the newest that the network saw


@contextmanager
def watched(
    policy: Policy, *, saliency: bool, wanted: bool
) -> Iterator[Callable[[int], Insight | None]]:
    """A function to call after each ``policy.act``, with the action taken.

    Args:
        policy: Of one env.
        saliency: Also compute maps.
        wanted: If not, it returns None.
    """
    kept: dict[str, Any] = {}

    def keep(network: Any, inputs: tuple[Any, ...], output: Any) -> None:
        kept["observation"], kept["q"] = inputs[0], to_q(network, output.float())

    explained = network_of(policy) if saliency else None

    def look(action: int) -> Insight | None:
        if not wanted:
            return None
        q = kept["q"][0].float().cpu().numpy()
        if explained is None:
            return Insight(action, q)
        seen = kept["observation"].detach()
        maps = perturbation_saliency(explained, seen, stride=_STRIDE, mask_sigma=_MASK_SIGMA)
        frame = newest_frame(seen.cpu().numpy(), policy.frame_stack)
        return Insight(action, q, np.asarray(maps[0].cpu()), frame[0])

    handle = policy.acting_network.register_forward_hook(keep) if wanted else None
    try:
        yield look
    finally:
        if handle is not None:
            handle.remove()

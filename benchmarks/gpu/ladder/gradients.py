"""Forward, loss and backward of an update in pieces that can run side by side.

Each makes a function as :func:`fastdqn.learning.update.make_gradients` does, with the same
arguments and results. The pieces are pure, and compiled one by one: a compiled function runs on one
stream.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.gpu.ladder.nature import Kept, backward, forward, nature_torso, to_input
from benchmarks.gpu.ladder.streams import Fork
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.learning.objectives import ONLINE_S, ONLINE_S2, TARGET_S2, Objective
from fastdqn.learning.update import Gradients, attached, weighted_loss
from fastdqn.networks.forward import to_q
from fastdqn.networks.q_network import QNetwork

Compile = Callable[[Callable[..., Any]], Any]


class Pieces:
    """What an update of a Nature network consists of.

    Args:
        network: Online; its parameters correspond to those of ``flat``.
        target_network: Values a'.
        flat: Packs the gradient.
        objective: One that asks for no more than double Q-learning does.
        compiled: Makes each piece fast.
    """

    def __init__(
        self,
        network: QNetwork,
        target_network: QNetwork,
        flat: FlatParameters,
        *,
        objective: Objective,
        compiled: Compile,
    ) -> None:
        self._network, self._target = network, target_network
        self._flat, self._objective = flat, objective
        nature_torso(network), nature_torso(target_network)  # or ConfigError
        self._zero = torch.zeros((), device=flat.data.device, requires_grad=True)
        self.online = compiled(self._online)
        self.choice = compiled(partial(self._output, network))
        self.following = compiled(partial(self._output, target_network))
        self.both = compiled(self._both)
        self.finish = compiled(self._finish)

    @torch.no_grad()
    def _online(self, observation: Tensor) -> Kept:
        """Online torso on s, keeping what the backward needs."""
        torso = nature_torso(self._network)
        return forward(torso, to_input(observation, torso.conv1.weight.dtype))

    @torch.no_grad()
    def _output(self, network: QNetwork, observation: Tensor) -> Tensor:
        """The head's output, without a gradient."""
        torso = nature_torso(network)
        features = forward(torso, to_input(observation, torso.conv1.weight.dtype))[-1]
        output: Tensor = network.head(features.float())
        return output

    @torch.no_grad()
    def _both(self, *observations: Tensor) -> tuple[Tensor, ...]:
        """Online torso on s and s' in one forward: output on s', then what :meth:`_online` returns.

        Args:
            observations: s and s', or one tensor that holds s before s'.
        """
        torso = nature_torso(self._network)
        inputs = [to_input(x, torso.conv1.weight.dtype) for x in observations]
        x = torch.cat(inputs) if len(inputs) > 1 else inputs[0]
        kept = forward(torso, x)
        following = kept[-1][len(x) // 2 :]
        return self._network.head(following.float()), *kept

    def _finish(
        self,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        weight: Tensor,
        choice: Tensor,
        following: Tensor,
        *kept: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Loss and backward, of the first B rows of what was kept."""
        rows = cast(Kept, tuple(x[: len(action)] for x in kept))
        features = attached(rows[-1].float().detach(), self._zero)
        head = self._network.head
        outputs = {ONLINE_S2: choice, TARGET_S2: following, ONLINE_S: head(features)}
        mean_loss, summary, td, priority = weighted_loss(
            self._objective,
            outputs.__getitem__,
            partial(to_q, self._network),
            (features, action, reward, discount, features, weight),
            {},
        )
        gradient, *of_head = torch.autograd.grad(mean_loss, [features, *head.parameters()])
        with torch.no_grad():
            of_torso = backward(nature_torso(self._network), rows, gradient.to(rows[-1].dtype))
            flat = self._flat.pack([*of_torso, *of_head])
        return flat, summary, td, priority


def three_streams(pieces: Pieces, device: torch.device) -> Gradients:
    """Online(s), online(s') and target(s') side by side, joined before the loss."""
    fork = Fork(device, 3)

    def gradients(
        observation: Tensor, action: Tensor, reward: Tensor, discount: Tensor,
        next_observation: Tensor, weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        kept, choice, following = fork(
            partial(pieces.online, observation),
            partial(pieces.choice, next_observation),
            partial(pieces.following, next_observation),
        )
        return pieces.finish(action, reward, discount, weight, choice, following, *kept)

    return gradients


def one_online_forward(pieces: Pieces, device: torch.device) -> Gradients:
    """Online network once over s and s', beside the target network on s'.

    By autograd the backward would run over 2B rows, a third more arithmetic, and repay only up to
    B = 64. Here it runs over the rows of s alone; the price is that the activations of s' stay in
    memory until then, and that a' waits for a forward of twice the rows.
    """
    fork = Fork(device, 2)

    def gradients(
        observation: Tensor, action: Tensor, reward: Tensor, discount: Tensor,
        next_observation: Tensor, weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        (choice, *kept), following = fork(
            partial(pieces.both, observation, next_observation),
            partial(pieces.following, next_observation),
        )
        return pieces.finish(action, reward, discount, weight, choice, following, *kept)

    return gradients


def from_inputs(pieces: Pieces, device: torch.device) -> Gradients:
    """As :func:`one_online_forward`, of batches of space-to-depth input.

    The function takes s and s' in one tensor in the place of s, as
    :class:`benchmarks.gpu.ladder.fused_gather.KernelReplay` draws them.
    """
    fork = Fork(device, 2)

    def gradients(
        both: Tensor, action: Tensor, reward: Tensor, discount: Tensor,
        following_inputs: Tensor, weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        (choice, *kept), following = fork(
            partial(pieces.both, both),
            partial(pieces.following, following_inputs),
        )
        return pieces.finish(action, reward, discount, weight, choice, following, *kept)

    return gradients

"""A plain update: double DQN as single-file scripts write it, on stored stacks, checked by ours."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdqn.bench.cases.update import eager_learner
from fastdqn.bench.checks import expect_close
from fastdqn.bench.context import Context, is_mlp, network_work
from fastdqn.bench.floors import FRAME, STACK
from fastdqn.bench.workload import Workload
from fastdqn.types import Batch

_GAMMA = 0.99
_TARGET_PERIOD = 2_000


def make(context: Context, *, net: str, batch_size: int) -> Workload:
    """The update on random stacks; a repeat is one update."""
    batch_size = context.small(batch_size, 4)
    generator = context.generator(0)
    if is_mlp(net):
        shape: tuple[int, ...] = (context.small(100_000, 500), 4)
        stacks = [torch.randn(shape, generator=generator, device=context.device) for _ in "ab"]
    else:
        shape = (context.small(5_000, 100), STACK, *FRAME)
        stacks = [
            torch.empty(shape, dtype=torch.uint8, device=context.device).random_(
                0, 256, generator=generator
            )
            for _ in "ab"
        ]
    network = _plain_network(net).to(context.device)
    learner = eager_learner(context, net)
    pairs = zip(network.parameters(), learner.network.parameters(), strict=True)
    with torch.no_grad():
        for own, ours in pairs:
            own.copy_(ours)
    peer = EagerUpdate(network, stacks[0], stacks[1], batch_size, generator)

    def run(repeats: int) -> None:
        for _ in range(repeats):
            peer.update(peer.draw())

    def check() -> None:
        index = peer.draw()
        discount = _GAMMA * (~peer.dones[index]).float()
        batch = Batch(
            peer.observations[index],
            peer.actions[index],
            peer.rewards[index],
            discount,
            peer.following[index],
            torch.ones_like(discount),
            index,
        )
        expected = learner.update(batch)
        expect_close(peer.update(index), expected.td_error, 1e-2, "TD errors")  # TF32
        changed = list(zip(network.parameters(), learner.network.parameters(), strict=True))
        for own, ours in changed:
            expect_close(own, ours, 1e-4, "parameters after an update")

    return Workload(
        run=run,
        check=check,
        unit="update",
        counts={"updates": 1, "samples": batch_size},
        floor=network_work(net).update(batch_size, double=True, precision="fp32"),
        threads=context.threads(net),
        details={"precision": "fp32", "stored": shape[0]},
    )


class EagerUpdate:
    """An update as single-file scripts write it: stacks stored, one operation after the other.

    Args:
        network: Maps observations to Q; trained in place.
        observations: [C, *O] and, as ``following``, their successors, on the device.
        following: [C, *O].
        batch_size: B.
        generator: Draws the batches.
    """

    def __init__(
        self, network: nn.Module, observations: Tensor, following: Tensor, batch_size: int,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        self.q_network, self.target_network = network, copy.deepcopy(network)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=6.25e-5, eps=1.5e-4)
        self.observations, self.following = observations, following
        self.batch_size, self.generator, self.updates = batch_size, generator, 0
        device, size = observations.device, len(observations)
        num_actions = list(network.parameters())[-1].numel()
        self.actions = torch.randint(0, num_actions, (size,), device=device, generator=generator)
        self.rewards = torch.randn(size, device=device, generator=generator)
        self.dones = torch.rand(size, device=device, generator=generator) < 0.01

    def draw(self) -> Tensor:
        """Indices of a batch."""
        return torch.randint(
            0, len(self.actions), (self.batch_size,),
            device=self.actions.device, generator=self.generator,
        )  # fmt: skip

    def update(self, index: Tensor) -> Tensor:
        """One step of double DQN; the TD errors."""
        with torch.no_grad():
            following = self.following[index]
            best = self.q_network(following).argmax(dim=1, keepdim=True)
            next_q = self.target_network(following).gather(1, best).squeeze(1)
            target = self.rewards[index] + _GAMMA * next_q * (~self.dones[index])
        q = self.q_network(self.observations[index])
        q = q.gather(1, self.actions[index].unsqueeze(1)).squeeze(1)
        loss = F.smooth_l1_loss(q, target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.updates += 1
        if self.updates % _TARGET_PERIOD == 0:
            pairs = zip(self.target_network.parameters(), self.q_network.parameters(), strict=True)
            for old, new in pairs:
                old.data.copy_(new.data)
        return (q - target).detach()


class _Scale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 255.0


def _plain_network(net: str) -> nn.Sequential:
    if is_mlp(net):
        return nn.Sequential(
            nn.Linear(4, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 2)
        )
    return nn.Sequential(
        _Scale(),
        nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
        nn.Conv2d(64, 64, 3), nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3136, 512), nn.ReLU(),
        nn.Linear(512, 18),
    )  # fmt: skip

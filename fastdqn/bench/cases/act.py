"""Acting: newest stacks from the replay, one forward, epsilon-greedy, actions on the host."""

from __future__ import annotations

import torch

from fastdqn.acting.actor import Actor
from fastdqn.bench.checks import expect
from fastdqn.bench.context import Context, network_work
from fastdqn.bench.workload import Workload
from fastdqn.networks.copies import lower
from fastdqn.networks.forward import forward_q

_EPSILON = 0.01


def make(context: Context, *, net: str, num_envs: int) -> Workload:
    """The workload of one ``act/`` case: a repeat gives actions for N envs."""
    num_envs = context.small(num_envs, 8)
    replay = context.replay(net, num_envs=num_envs)
    precision = context.precision(net)
    network = context.network(net).eval()
    bf16 = precision == "bf16"
    actor = Actor(
        lower(network) if bf16 else network,
        num_envs,
        device=context.device,
    )

    def run(repeats: int) -> None:
        for _ in range(repeats):
            actor.act_from(replay)

    @torch.no_grad()
    def one_q(env: int) -> torch.Tensor:
        return forward_q(network, replay.latest()[env : env + 1], autocast=False)[0]

    def check() -> None:
        actor.epsilon.fill_(0.0)
        actions = actor.act_from(replay).to(context.device)
        actor.epsilon.fill_(_EPSILON)
        for env in range(num_envs):  # one at a time, in float32
            q = one_q(env)
            gap = float(q.max() - q[actions[env]])
            allowed = 0.05 * float(q.abs().max()) if bf16 else 1e-5
            expect(gap <= allowed, f"the action of env {env} is {gap:.2g} below the best")

    floor = network_work(net).forward(num_envs, backward=False, precision=precision)
    return Workload(
        run=run,
        check=check,
        unit="vector step",
        counts={"env_steps": num_envs},
        floor=floor,
        host_clock=True,
        threads=context.threads(net),
        details={"precision": precision, "num_envs": num_envs},
    )

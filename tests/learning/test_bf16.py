"""Twins in bfloat16: what they compute, what they share, when they follow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastdqn.learning.bf16 import Bfloat16Twin
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.learning.learner import Learner
from fastdqn.networks.copies import lower
from fastdqn.networks.make import make_network
from fastdqn.types import Batch


def nature(seed=0):
    torch.manual_seed(seed)
    return make_network((36, 36), 3, frame_stack=2, hidden_sizes=(32,), dueling=True)


def frames(n=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 2, 36, 36), dtype=torch.uint8, generator=g)


def batch(n=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Batch(
        frames(n, seed),
        torch.randint(0, 3, (n,), generator=g),
        torch.randn(n, generator=g),
        torch.full((n,), 0.99),
        frames(n, seed + 1),
        torch.ones(n),
        torch.arange(n),
    )


def test_a_twin_has_a_bfloat16_torso_and_the_same_head():
    network = nature()
    flat = FlatParameters(network)
    twin = Bfloat16Twin(network, flat)
    masters = dict(network.named_parameters())
    for name, parameter in twin.network.named_parameters():
        if name.startswith("head."):
            assert parameter is masters[name]
        else:
            assert parameter.dtype == torch.bfloat16 and parameter.requires_grad
            assert torch.equal(parameter, masters[name].to(torch.bfloat16))
            assert parameter.stride() == masters[name].stride()
    assert [n for n, _ in twin.network.named_parameters()] == list(masters)
    output = twin.network(frames())
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, network(frames()), rtol=0.05, atol=0.02)


def test_a_twin_follows_when_told():
    network = nature()
    flat = FlatParameters(network)
    twin = Bfloat16Twin(network, flat)
    flat.data.mul_(2)
    stale = next(twin.network.parameters()).clone()
    twin.refresh()
    assert torch.equal(next(twin.network.parameters()), 2 * stale)


def test_lowering_leaves_the_original_alone():
    network = nature()
    lowered = lower(network)
    assert next(lowered.parameters()).dtype == torch.bfloat16
    assert next(network.parameters()).dtype == torch.float32
    assert torch.equal(
        lowered(frames()), Bfloat16Twin(network, FlatParameters(network)).network(frames())
    )


@pytest.mark.parametrize("double", [True, False])
def test_the_learner_keeps_twins_and_masters_together(double):
    learner = Learner(
        nature(), precision="bf16", double=double, target_period_updates=3, learning_rate=1e-2
    )
    for i in range(7):
        learner.update(batch(seed=i))
        online = dict(learner.network.named_parameters())
        acting = dict(learner.acting_network.named_parameters())
        for name, master in online.items():
            assert master.dtype == torch.float32
            assert torch.equal(acting[name], master.detach().to(acting[name].dtype)), name
        target = learner.target.twin.network.state_dict()
        for name, master in learner.target_network.state_dict().items():
            assert torch.equal(target[name], master.to(target[name].dtype)), name
    assert learner.updates == 7


def test_loading_a_state_reaches_the_twins():
    trained, fresh = (Learner(nature(seed), precision="bf16") for seed in (0, 1))
    trained.update(batch())
    trained.sync_target()
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.acting_network(frames()), trained.acting_network(frames()))
    a, b = trained.update(batch(seed=5)), fresh.update(batch(seed=5))
    assert torch.equal(a.td_error, b.td_error)


def test_a_learners_policy_has_the_masters_and_acts_with_their_twins():
    learner = Learner(nature(), precision="bf16", learning_rate=1e-2)
    policy = learner.policy(frame_stack=2)
    for seed in range(2):
        assert {p.dtype for p in policy.network.parameters()} == {torch.float32}
        assert not policy.network.training and policy.acting_network is learner.acting_network
        for name, master in learner.network.state_dict().items():
            assert torch.equal(policy.network.state_dict()[name], master), name
        learner.update(batch(seed=seed))


def test_gradients_are_near_those_of_float32():
    low, full = (Learner(nature(), precision=p, learning_rate=0.0) for p in ("bf16", "fp32"))
    a, b = (learner._gradients(*batch()[:6])[0] for learner in (low, full))
    assert a.dtype == torch.float32 and a.shape == b.shape
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.99
    assert (a - b).norm() < 0.1 * b.norm()


def test_a_network_without_a_torso_runs_under_autocast():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    learner = Learner(plain, precision="bf16")
    assert learner.autocast and learner._twin is None
    assert not Learner(nature(), precision="bf16").autocast

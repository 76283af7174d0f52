"""The records, and that TorchRL makes the same loss of a batch."""

import pytest
import torch
from torch import nn

from fastdqn.learning.losses import double_q_target, huber_loss, mse_loss, q_target, td_error
from fastdqn.types import Batch, TimeStep

GAMMA = 0.9
# TorchRL wants an updater of its target network; here nothing is trained.
NO_UPDATER = pytest.mark.filterwarnings("ignore:No target network updater:UserWarning")


def make_batch(size=64, n=1, stack=None, seed=0, weights=False):
    """Random transitions of 1 to n steps, a quarter of them terminal."""
    g = torch.Generator().manual_seed(seed)
    shape = (size, 4) if stack is None else (size, stack, 4)
    steps = torch.randint(1, n + 1, (size,), generator=g)
    alive = torch.rand(size, generator=g) > 0.25
    return Batch(
        torch.randn(shape, generator=g),
        torch.randint(3, (size,), generator=g),
        torch.randn(size, generator=g),
        GAMMA**steps * alive,
        torch.randn(shape, generator=g),
        torch.rand(size, generator=g) if weights else torch.ones(size),
        torch.arange(size) * 7,
    )


def test_timestep_has_no_second_row_by_default():
    step = TimeStep(1, 2, 3, 4, 5)
    assert step.reset is None and step.reset_observation is None


def test_keys_shapes_and_values():
    batch = make_batch(stack=2, n=3)
    td = batch.to_tensordict(gamma=GAMMA)
    assert td.batch_size == (64,)
    assert td["observation"] is batch.observation  # no copy
    assert torch.equal(td["action"], batch.action) and td["action"].dtype == torch.int64
    assert torch.equal(td["index"], batch.index)
    assert torch.equal(td["priority_weight"], batch.weight)
    assert torch.equal(td["next", "reward"], batch.reward.unsqueeze(-1))
    assert torch.equal(td["next", "observation"], batch.next_observation)
    terminal = (batch.discount == 0).unsqueeze(-1)
    assert terminal.any() and not terminal.all()
    for name in ("done", "terminated"):
        assert torch.equal(td["next", name], terminal)
    assert torch.equal(td["gamma"], batch.discount.unsqueeze(-1))
    # Raised to the steps, gamma gives the discount back.
    steps = td["steps_to_next_obs"]
    assert steps.shape == (64, 1) and steps.dtype == torch.int64
    assert set(steps[~terminal].tolist()) == {1, 2, 3}
    torch.testing.assert_close(GAMMA**steps * ~terminal, td["gamma"])
    assert "steps_to_next_obs" not in batch.to_tensordict().keys()  # noqa: SIM118


@pytest.mark.parametrize("gamma", [0.5, 0.99, 0.999, 0.99999])
def test_steps_are_read_from_float32_discounts(gamma):
    steps = torch.arange(1, 21)
    batch = make_batch(20)._replace(discount=(gamma ** steps.double()).float())
    assert batch.to_tensordict(gamma)["steps_to_next_obs"].squeeze(-1).tolist() == steps.tolist()


@pytest.mark.parametrize("gamma", [0.0, 1.0, -0.5, 1.5])
def test_gammas_without_a_logarithm_are_refused(gamma):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        make_batch().to_tensordict(gamma)


@NO_UPDATER
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(("name", "ours"), [("smooth_l1", huber_loss), ("l2", mse_loss)])
@pytest.mark.parametrize(("n", "stack"), [(1, None), (1, 2), (3, 2), (5, None)])
def test_torchrl_makes_the_same_loss(double, name, ours, n, stack):
    objectives = pytest.importorskip("torchrl.objectives")
    modules = pytest.importorskip("torchrl.modules")
    torch.manual_seed(0)
    flatten = nn.Flatten(-2) if stack else nn.Identity()
    network = nn.Sequential(flatten, nn.Linear(4 * (stack or 1), 16), nn.ReLU(), nn.Linear(16, 3))
    actor = modules.QValueActor(network, in_keys=["observation"], action_space="categorical")
    loss = objectives.DQNLoss(
        actor, loss_function=name, delay_value=True, double_dqn=double, action_space="categorical"
    )
    loss.make_value_estimator(gamma=GAMMA)
    online = [p.detach().clone() for p in network.parameters()]
    target = [p + 0.3 * torch.randn_like(p) for p in online]
    for p, value in zip(loss.target_value_network_params.values(True, True), target, strict=True):
        p.data.copy_(value)

    def q(parameters, observation):
        named = dict(zip((k for k, _ in network.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(network, named, (observation,))

    batch = make_batch(n=n, stack=stack)
    following = q(target, batch.next_observation)
    if double:
        chooser = q(online, batch.next_observation)
        assert (chooser.argmax(1) != following.argmax(1)).any()  # else double would not show
        wanted = double_q_target(chooser, following, batch.reward, batch.discount)
    else:
        wanted = q_target(following, batch.reward, batch.discount)
    td = td_error(q(online, batch.observation), batch.action, wanted)
    given = batch.to_tensordict() if n == 1 else batch.to_tensordict(gamma=GAMMA)
    assert loss(given)["loss"].item() == pytest.approx(ours(td).mean().item(), rel=1e-5)
    # TorchRL's priority is the squared TD error.
    torch.testing.assert_close(given["td_error"].squeeze(-1), td.square(), rtol=1e-4, atol=1e-6)


@NO_UPDATER
def test_torchrl_reads_the_weights():
    objectives = pytest.importorskip("torchrl.objectives")
    modules = pytest.importorskip("torchrl.modules")
    torch.manual_seed(0)
    actor = modules.QValueActor(
        nn.Linear(4, 3), in_keys=["observation"], action_space="categorical"
    )
    loss = objectives.DQNLoss(actor, action_space="categorical")
    loss.make_value_estimator(gamma=GAMMA)
    batch = make_batch(weights=True)
    got = loss(batch.to_tensordict())["loss"]
    plain = batch._replace(weight=torch.ones(64))
    assert loss(plain.to_tensordict())["loss"].item() != pytest.approx(got.item(), rel=1e-3)

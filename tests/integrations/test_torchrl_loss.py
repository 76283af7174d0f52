"""Our networks as TorchRL's actors, and our objectives as its loss."""

import copy
import pickle
from typing import ClassVar

import pytest
import torch
from helpers.head_details import of_head
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torch import nn
from torch.nn import functional
from torchrl.collectors import Collector
from torchrl.data import Categorical, LazyTensorStorage, OneHot, TensorDictReplayBuffer
from torchrl.envs import GymEnv, SerialEnv
from torchrl.modules import EGreedyModule
from torchrl.objectives import DistributionalDQNLoss, DQNLoss, HardUpdate, SoftUpdate

from fastdqn import Batch, Learner
from fastdqn.integrations.torchrl import DQNLossModule, SumTreeSampler, q_value_actor
from fastdqn.learning.munchausen import Munchausen
from fastdqn.learning.optimizers import Optimizer
from fastdqn.learning.q_learning import QLearning
from fastdqn.networks.make import make_network

B, A, GAMMA = 24, 3, 0.9


def network(head="scalar", seed=0, **options):
    torch.manual_seed(seed)
    return make_network(
        (4,), A, head=head, hidden_sizes=(16,), **of_head(head, {"atoms": 11}), **options
    )


def batch(seed=0, one_hot=True):
    """As FrameReplayBuffer makes it of 3-step returns."""
    torch.manual_seed(seed)
    action, ended = torch.randint(A, (B,)), torch.rand(B, 1) < 0.3
    steps = torch.randint(1, 4, (B, 1))
    return TensorDict(
        {
            "observation": torch.randn(B, 4),
            "action": functional.one_hot(action, A) if one_hot else action,
            "gamma": GAMMA**steps * ~ended,
            "steps_to_next_obs": steps,
            "priority_weight": torch.rand(B) + 0.1,
            "next": {
                "observation": torch.randn(B, 4),
                "reward": torch.randn(B, 1),
                "done": ended,
                "terminated": ended,
            },
        },
        [B],
    )


def loss_of(net, **options):
    made = DQNLossModule(net, gamma=GAMMA, **options)
    if options.get("delay_value", True):
        target = SoftUpdate(made, eps=0.5)
        with torch.no_grad():  # another target, so that it shows which network is asked
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        target.step()
    return made


# --- the loss ------------------------------------------------------------------------------------


class StandStill(Optimizer):
    """Keeps the gradient and takes no step."""

    moments: ClassVar[dict] = {}

    def step(self, gradient):
        self.seen = gradient.clone()


VARIANTS = {
    "double": ("scalar", {}),
    "plain mse": ("scalar", {"double": False, "loss": "mse"}),
    "munchausen": ("scalar", {"munchausen": Munchausen()}),
    "c51": ("c51", {}),
    "qr": ("qr", {}),
    "qr munchausen": ("qr", {"munchausen": Munchausen()}),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("one_hot", [True, False])
def test_loss_gradient_and_priority_are_those_of_a_learner(variant, one_hot):
    head, options = VARIANTS[variant]
    net = network(head)
    made, data = loss_of(net, **options), batch(one_hot=one_hot)
    twin = copy.deepcopy(net)
    learner = Learner(
        twin,
        objective=made.objective,
        optimizer=lambda flat, lowered: StandStill(flat, 0.0),
    )
    with made.target_value_network_params.to_module(net):
        target = copy.deepcopy(net.state_dict())
    learner.target_network.load_state_dict(target)
    given = Batch(
        data["observation"],
        data["action"].argmax(-1) if one_hot else data["action"],
        data["next", "reward"].squeeze(1),
        data["gamma"].squeeze(1),
        data["next", "observation"],
        data["priority_weight"],
        torch.arange(B),
    )
    result = learner.update(given)
    value = made(data)["loss"]
    value.backward()
    torch.testing.assert_close(value.detach(), result.loss)
    torch.testing.assert_close(data["td_error"].squeeze(1), result.priority)
    assert data["td_error"].shape == (B, 1)
    seen = learner.flat.named_views(learner._optimizer.seen)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, seen[name], rtol=1e-4, atol=1e-6)


def test_an_objective_without_length_is_one():
    class Empty(QLearning, list):
        """What Python takes for false."""

    objective = Empty(double=False)
    assert loss_of(network("scalar"), objective=objective).objective is objective


def test_iqn_draws_from_a_generator_of_its_own():
    values = [loss_of(network("iqn"), seed=seed)(batch())["loss"].item() for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("keys", ["gamma", "steps", "neither"])
def test_the_discount_by_hand(keys):
    """Q is 1 for all actions and networks: td = 1 - (r + gamma^m), and 1 - r at an end."""
    net = nn.Linear(4, A)
    nn.init.zeros_(net.weight)
    nn.init.ones_(net.bias)
    made, data = DQNLossModule(net, gamma=GAMMA, delay_value=False), batch()
    steps, ended = data["steps_to_next_obs"].squeeze(1), data["next", "terminated"].squeeze(1)
    if keys != "gamma":
        del data["gamma"]
    if keys == "neither":
        del data["steps_to_next_obs"]
        steps = torch.ones(B)
    made(data)
    target = data["next", "reward"].squeeze(1) + GAMMA**steps * ~ended
    torch.testing.assert_close(data["td_error"].squeeze(1), (1 - target).abs())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reductions_and_weights(reduction):
    made, data = loss_of(network(), reduction=reduction), batch()
    found = made(data.clone())["loss"]
    del data["priority_weight"]
    made.reduction = "none"
    plain, weight = made(data.clone())["loss"], batch()["priority_weight"]
    expected = {
        "mean": (plain * weight).mean(), "sum": (plain * weight).sum(), "none": plain * weight,
    }  # fmt: skip
    torch.testing.assert_close(found, expected[reduction])


@pytest.mark.parametrize("updater", [SoftUpdate, HardUpdate])
def test_target_parameters_follow(updater):
    net = network()
    made = DQNLossModule(net)
    options = {"eps": 0.75} if updater is SoftUpdate else {"value_network_update_interval": 1}
    target = updater(made, **options)
    before = made.target_value_network_params.clone()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    for _ in range(2 if updater is HardUpdate else 1):  # which moves with the second
        target.step()
    moved = (made.target_value_network_params - before).flatten_keys()
    far = 0.25 if updater is SoftUpdate else 1.0
    assert any(torch.allclose(value, torch.full_like(value, far)) for value in moved.values())
    assert not any(p.requires_grad for p in made.target_value_network_params.values(True, True))


def test_parameters_are_the_networks_and_the_state_comes_back():
    net = network()
    made = loss_of(net)
    assert {id(p) for p in made.parameters()} == {id(p) for p in net.parameters()}
    other = loss_of(network(seed=5))
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(other(batch())["loss"], made(batch())["loss"])


def test_after_a_copy_and_a_change_of_dtype_modules_have_the_parameters():
    made = loss_of(network())
    other = copy.deepcopy(made)
    expected = made(batch())["loss"]
    for module in (other, other.to(torch.float32), other.double().float()):
        torch.testing.assert_close(module(batch())["loss"], expected)
    other(batch())["loss"].backward()
    assert all(p.grad is not None for p in other.parameters())
    target = HardUpdate(other, value_network_update_interval=1)
    for _ in range(2):
        target.step()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert other(batch())["loss"] != expected and made(batch())["loss"] == expected


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))],  # noqa: S301
    ids=["copy", "pickle"],
)
def test_a_copy_computes_with_its_own_parameters(copied):
    made = loss_of(network())
    other = copied(made)
    other(batch())["loss"].backward()
    assert all(p.grad is not None for p in other.parameters())
    assert all(p.grad is None for p in made.parameters())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    SoftUpdate(other, eps=0.5).step()
    again = loss_of(network(seed=5))
    again.load_state_dict(other.state_dict())
    torch.testing.assert_close(other(batch())["loss"], again(batch())["loss"])


@pytest.mark.gpu
def test_on_a_gpu():
    made = loss_of(network("iqn")).to("cuda")
    data = batch().to("cuda")
    made(data)["loss"].backward()
    assert data["td_error"].is_cuda and all(p.grad.is_cuda for p in made.parameters())


def test_batch_norm_learns_in_training_and_judges_in_evaluation():
    net = network(batch_norm=True)
    made = DQNLossModule(net, double=True)
    HardUpdate(made, value_network_update_interval=1)
    layer = next(m for m in net.modules() if isinstance(m, nn.BatchNorm1d))
    before = layer.running_mean.clone()
    made(batch())
    once = layer.running_mean.clone()
    assert not torch.equal(once, before)
    mean = made(batch())["loss"]
    made(batch())
    (target,) = (m for m in made._target.modules() if isinstance(m, nn.BatchNorm1d))
    assert torch.equal(target.running_mean, layer.running_mean), "which no updater moves"
    assert mean.isfinite() and layer.num_batches_tracked == 3, "one of the three forwards counts"


def test_a_loop_with_torchrls_buffer_lowers_the_loss():
    net = network()
    made = DQNLossModule(net, gamma=GAMMA)
    target = SoftUpdate(made, eps=0.99)
    replay = TensorDictReplayBuffer(
        storage=LazyTensorStorage(B), sampler=SumTreeSampler(B), batch_size=16,
        priority_key="td_error", generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    replay.extend(batch().exclude("priority_weight"))
    optimizer = torch.optim.Adam(made.parameters(), 1e-2)
    values = []
    for _ in range(120):
        sample = replay.sample()
        optimizer.zero_grad()
        loss = made(sample)["loss"]
        loss.backward()
        optimizer.step()
        target.step()
        replay.update_tensordict_priority(sample)
        values.append(loss.item())
    assert sum(values[-20:]) < 0.6 * sum(values[:20])


def test_keys_have_names_of_choice():
    made, data = loss_of(network()), batch()
    expected = made(data.clone())["loss"]
    renamed = data.rename_key_("observation", "pixels")
    renamed["next"].rename_key_("observation", "pixels")
    made.set_keys(observation="pixels", priority="p")
    torch.testing.assert_close(made(renamed)["loss"], expected)
    assert "p" in renamed and ("next", "pixels") in made.in_keys


# --- actors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["scalar", "c51", "qr", "iqn"])
@pytest.mark.parametrize("spec", [OneHot(A), Categorical(A)])
@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
def test_an_actor_takes_the_best_action(head, spec, lead):
    net = network(head)
    observation = torch.randn(*lead, 4)
    data = q_value_actor(net, spec)(TensorDict({"observation": observation}, lead))
    q = net.q_values(net(observation.reshape(-1, 4))).reshape(*lead, A)
    torch.testing.assert_close(data["action_value"], q)
    action = data["action"].argmax(-1) if isinstance(spec, OneHot) else data["action"]
    assert action.shape == lead and torch.equal(action, q.argmax(-1))
    torch.testing.assert_close(data["chosen_action_value"].squeeze(-1), q.amax(-1))


@pytest.mark.parametrize("categorical", [False, True])
def test_in_a_collector_with_exploration(categorical):
    def make():
        return GymEnv("CartPole-v1", categorical_action_encoding=categorical)

    spec = make().action_spec
    actor = q_value_actor(make_network((4,), 2), spec)
    explore = EGreedyModule(spec, eps_init=1.0, eps_end=1.0)
    collector = Collector(
        SerialEnv(2, make), TensorDictSequential(actor, explore), frames_per_batch=64,
        total_frames=64,
    )  # fmt: skip
    (data,) = list(collector)
    collector.shutdown()
    chosen = data["action"] if categorical else data["action"].argmax(-1)
    assert chosen.unique().tolist() == [0, 1]


def test_dqn_loss_and_ours_agree_where_they_say_the_same():
    net = network()
    theirs = DQNLoss(q_value_actor(net, OneHot(A)), loss_function="l2", double_dqn=True)
    theirs.make_value_estimator(gamma=GAMMA)
    ours = DQNLossModule(net, gamma=GAMMA, loss="mse")
    for made in (theirs, ours):
        HardUpdate(made, value_network_update_interval=1)
    data = batch().exclude("priority_weight", "gamma")
    one, other = data.clone(), data.clone()
    torch.testing.assert_close(theirs(one)["loss"], ours(other)["loss"])
    torch.testing.assert_close(one["td_error"], other["td_error"] ** 2)


@pytest.mark.parametrize("spec", [OneHot(A), Categorical(A)])
def test_distributional_loss_and_ours_agree(spec):
    net = network("c51")
    actor = q_value_actor(net, spec, distributional=True)
    theirs, ours = DistributionalDQNLoss(actor, gamma=GAMMA), DQNLossModule(net, gamma=GAMMA)
    for made in (theirs, ours):
        HardUpdate(made, value_network_update_interval=1)
    data = batch(one_hot=isinstance(spec, OneHot)).exclude("priority_weight", "gamma")
    one, other = data.clone(), data.clone()
    torch.testing.assert_close(theirs(one)["loss"], ours(other)["loss"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one["td_error"], other["td_error"], rtol=1e-4, atol=1e-5)

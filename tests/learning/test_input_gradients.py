"""input_gradient and perturbation_saliency against finite differences, by hand, and naively."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastdqn
from fastdqn.acting.policy import Policy
from fastdqn.errors import ConfigError
from fastdqn.learning.choose_objective import objective_for
from fastdqn.learning.input_gradients import (
    float_form,
    input_gradient,
)
from fastdqn.learning.learner import Learner
from fastdqn.learning.objectives import Outputs, Transitions
from fastdqn.learning.perturbation import perturbation_saliency, positions
from fastdqn.networks.make import make_network

FIELDS = ("action", "reward", "discount", "next_observation")


class SmallConv(nn.Module):
    """Smooth, with BatchNorm; a head's output that is not Q: half of it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, stride=2)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3 * 3 * 4, 6)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.conv(x))).flatten(1))

    def q_values(self, output):
        return output[:, :3] - output[:, 3:]


def small_conv() -> SmallConv:
    torch.manual_seed(3)
    network = SmallConv().double()
    network.train()
    network(torch.randn(16, 2, 7, 9, dtype=torch.float64))  # statistics that are not 0 and 1
    return network


def mlp(inputs: int = 5, actions: int = 3) -> nn.Module:
    torch.manual_seed(4)
    return copy.deepcopy(make_network((inputs,), actions, hidden_sizes=(16, 8))).double()


CASES = {"mlp": (mlp, (5,)), "conv": (small_conv, (2, 7, 9))}


def plain(network):
    """Q of an evaluated copy, written without fastdqn."""
    network = copy.deepcopy(network).eval()

    @torch.no_grad()
    def q(x):
        output = network(x)
        return network.q_values(output) if hasattr(network, "q_values") else output

    return q


def finite_differences(f, x, h=1e-6):
    """Central differences of a function [B, ...] -> [B], one entry after the other."""
    gradient = torch.zeros_like(x)
    for sample in range(len(x)):
        for entry in range(x[sample].numel()):
            up, down = x.clone(), x.clone()
            up[sample].view(-1)[entry] += h
            down[sample].view(-1)[entry] -= h
            gradient[sample].view(-1)[entry] = (f(up)[sample] - f(down)[sample]) / (2 * h)
    return gradient


def transition(shape, batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    return {
        "observation": draw(batch, *shape),
        "action": torch.tensor([0, 2, 1, 0])[:batch],
        "reward": 2 * draw(batch),
        "discount": torch.tensor([0.99, 0.0, 0.9, 0.97], dtype=torch.float64)[:batch],
        "next_observation": draw(batch, *shape),
    }


# --- d Q(s, a) / d s ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("given", [True, False], ids=["action", "greedy"])
def test_the_gradient_of_q_is_that_of_finite_differences(case, given):
    make, shape = CASES[case]
    network, t = make(), transition(shape)
    q = plain(network)
    action = t["action"] if given else q(t["observation"]).argmax(1)
    gradient = input_gradient(network, t["observation"], t["action"] if given else None)
    expected = finite_differences(lambda x: q(x)[torch.arange(4), action], t["observation"])
    assert gradient.shape == t["observation"].shape
    assert gradient.dtype == torch.float64
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)
    assert gradient.abs().sum(dim=tuple(range(1, gradient.dim()))).min() > 0


def test_of_a_linear_network_it_is_the_row_of_the_action():
    network = nn.Linear(3, 2)
    x = torch.randn(2, 3)
    gradient = input_gradient(network, x, torch.tensor([1, 0]))
    assert torch.equal(gradient, network.weight.detach()[[1, 0]])


# --- d loss / d s ---------------------------------------------------------------------------------


def plain_loss(q, action, target, loss, delta):
    """Sample by sample, in Python floats."""
    losses = []
    for row, a, y in zip(q.tolist(), action.tolist(), target, strict=True):
        td = row[a] - y
        if loss == "mse":
            losses.append(td * td)
        elif abs(td) <= delta:
            losses.append(0.5 * td * td)
        else:
            losses.append(delta * (abs(td) - 0.5 * delta))
    return torch.tensor(losses, dtype=torch.float64)


def plain_target(network, target_network, t, double):
    online = plain(network)(t["next_observation"]).tolist()
    frozen = plain(target_network)(t["next_observation"]).tolist()
    targets = []
    for i in range(len(online)):
        chooser = online[i] if double else frozen[i]
        best = max(range(len(chooser)), key=chooser.__getitem__)
        targets.append(float(t["reward"][i]) + float(t["discount"][i]) * frozen[i][best])
    return targets


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize(("loss", "delta"), [("mse", 1.0), ("huber", 1.0), ("huber", 0.25)])
@pytest.mark.parametrize("own_target", [True, False])
def test_the_gradient_of_the_loss_is_that_of_finite_differences(
    case, double, loss, delta, own_target
):
    make, shape = CASES[case]
    network, t = make(), transition(shape)
    target_network = network
    if not own_target:
        torch.manual_seed(9)
        target_network = copy.deepcopy(network)
        for parameter in target_network.parameters():
            parameter.data += 0.5 * torch.randn_like(parameter)
    # The target is a constant: it does not follow s, not even where s' is s itself.
    t["next_observation"][0] = t["observation"][0]
    target = plain_target(network, target_network, t, double)
    gradient = input_gradient(
        network,
        **t,
        of="loss",
        target_network=None if own_target else target_network,
        double=double,
        loss=loss,
        huber_delta=delta,
    )
    q = plain(network)
    expected = finite_differences(
        lambda x: plain_loss(q(x), t["action"], target, loss, delta),
        t["observation"],
    )
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)
    assert gradient.abs().max() > 1e-3


def test_double_q_and_the_target_network_matter():
    network, t = mlp(), transition((5,), seed=2)
    torch.manual_seed(1)
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.data += torch.randn_like(parameter)
    double, plain, own = (
        input_gradient(network, **t, of="loss", loss="mse", target_network=net, double=two)
        for net, two in ((other, True), (other, False), (None, True))
    )
    assert not torch.allclose(double, plain)
    assert not torch.allclose(double, own)


def test_the_loss_of_a_linear_network_by_hand():
    network = nn.Linear(2, 2, bias=False)
    network.weight.data = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    # Q(s) = (5, 1), Q(s') = (1, 3): target 1 + 0.5 * 3 = 2.5, td = 5 - 2.5 = 2.5.
    arguments = {
        "observation": torch.tensor([[1.0, 2.0]]),
        "action": torch.tensor([0]),
        "reward": torch.tensor([1.0]),
        "discount": torch.tensor([0.5]),
        "next_observation": torch.tensor([[1.0, 0.0]]),
    }
    mse = input_gradient(network, **arguments, of="loss", loss="mse")
    assert mse.tolist() == [[2 * 2.5 * 1.0, 2 * 2.5 * 2.0]]
    huber = input_gradient(network, **arguments, of="loss")
    assert huber.tolist() == [[1.0, 2.0]]
    wide = input_gradient(network, **arguments, of="loss", huber_delta=10.0)
    assert wide.tolist() == [[2.5, 5.0]]


@pytest.mark.parametrize("head", ["c51", "qr", "iqn"])
@pytest.mark.parametrize("cvar", [1.0, 0.5])
def test_distributions_have_gradients_of_their_q_and_of_their_loss(head, cvar):
    """Deterministic: mean weights, and the fractions that evaluation acts by."""
    torch.manual_seed(0)
    details = {"quantiles": 3} if head == "qr" else {}
    if head == "iqn":
        details = {"iqn_policy_samples": 4, "iqn_cvar": cvar}
    network = make_network((5,), 3, hidden_sizes=(8,), head=head, noisy=True, **details).double()
    t = transition((5,), seed=2)

    def q(x):
        return network.q_values(network(x))

    def q_taken(x):
        return q(x).gather(1, t["action"].unsqueeze(1)).squeeze(1)

    def loss(x):
        batch = Transitions(x, *(t[name] for name in FIELDS))
        objective = objective_for(network)
        outputs = {
            forward: network(x if forward.state == "s" else t["next_observation"])
            for forward in objective.forwards
        }
        tau = (torch.arange(4, dtype=torch.float64) + 0.5) / 4 * cvar
        given = {forward: {"tau": tau.expand(len(x), 4)} for forward in outputs}
        given = given if head == "iqn" else {}
        return objective(Outputs(outputs, network.q_values), batch, given)[0]

    with torch.no_grad():
        expected = [finite_differences(f, t["observation"]) for f in (q_taken, loss)]
    for of, slope in zip(("q", "loss"), expected, strict=True):
        more = {} if of == "q" else {name: t[name] for name in FIELDS[1:]}
        found = input_gradient(network, t["observation"], t["action"], of, **more)
        torch.testing.assert_close(found, slope, rtol=1e-4, atol=1e-7)
        assert found.abs().max() > 1e-4


# --- bytes ----------------------------------------------------------------------------------------


class Bytes(nn.Module):
    """Three ways to take bytes."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x):
        scaled = self.kind == "always" or (self.kind == "bytes only" and x.dtype == torch.uint8)
        x = x.float().flatten(1)
        return self.body(x / 255 if scaled else x / 100 if self.kind == "neither" else x)


@pytest.mark.parametrize("kind", ["bytes only", "always", "never", "neither"])
def test_bytes_are_differentiated_per_grey_level_however_they_are_scaled(kind):
    torch.manual_seed(5)
    network = Bytes(kind)
    if kind != "bytes only":
        network.body[0].weight.data /= 100 if kind != "always" else 1
    x = torch.randint(0, 256, (3, 2, 3), dtype=torch.uint8)
    action = torch.tensor([0, 1, 1])
    scale = {"never": 1.0, "neither": 100.0}.get(kind, 255.0)
    body = copy.deepcopy(network.body).double()
    expected = finite_differences(
        lambda v: body(v.flatten(1) / scale).detach()[torch.arange(3), action], x.double(), 1e-3
    )
    gradient = input_gradient(network, x, action)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", ["bytes only", "always", "never"])
def test_black_is_differentiated_as_it_is_beside_other_greys(kind):
    torch.manual_seed(5)
    network = Bytes(kind)
    black = torch.zeros(1, 2, 3, dtype=torch.uint8)
    beside = input_gradient(network, torch.cat((black, black + 9)), torch.tensor([0, 0]))[:1]
    torch.testing.assert_close(input_gradient(network, black, torch.tensor([0])), beside)


def test_a_network_that_takes_bytes_in_a_way_of_its_own_is_refused():
    class Own(Bytes):
        def forward(self, x):
            return self.body((x.float() / 17 if x.dtype == torch.uint8 else x).flatten(1))

    with pytest.raises(ConfigError, match="pass floats"):
        input_gradient(Own("own"), torch.full((2, 6), 200, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="pass floats"):
        input_gradient(Own("own"), torch.zeros((2, 6), dtype=torch.uint8))


def test_the_nature_network_on_bytes():
    torch.manual_seed(6)
    network = make_network((36, 36), 3, frame_stack=2, hidden_sizes=(16,))
    x = torch.randint(0, 256, (2, 2, 36, 36), dtype=torch.uint8)

    def oracle(value):
        """The same network in float64, in plain functional calls, on grey levels."""
        torso, h = network.torso, value / 255
        for layer, stride in ((torso.conv1, 4), (torso.conv2, 2), (torso.conv3, 1)):
            h = F.relu(F.conv2d(h, layer.weight.double(), layer.bias.double(), stride=stride))
        h = F.relu(F.linear(h.flatten(1), torso.hidden.weight.double(), torso.hidden.bias.double()))
        return F.linear(h, network.head.q.weight.double(), network.head.q.bias.double())

    value = x.double().requires_grad_()
    q = oracle(value)
    action = q.argmax(1)
    expected = torch.autograd.grad(q.gather(1, action[:, None]).sum(), value)[0]
    gradient = input_gradient(network, x)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-3, atol=1e-7)
    # And the oracle's own derivative, at the entries where it is largest.
    for index in expected.abs().flatten().topk(20).indices.tolist():
        step = torch.zeros_like(value).flatten()
        step[index] = 1e-4
        up, down = (oracle(value + s * step.view_as(value)).detach() for s in (1, -1))
        sample = index // value[0].numel()
        slope = (up - down)[sample, action[sample]] / 2e-4
        assert math.isclose(slope, float(expected.flatten()[index]), rel_tol=1e-3)
    # As floats 0..1 it is the same network: 255 times the gradient per grey level.
    per_one = input_gradient(network, x.float() / 255, action)
    torch.testing.assert_close(per_one, 255 * gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["bytes only", "always", "never"])
def test_the_float_form_has_the_q_of_the_bytes(kind):
    torch.manual_seed(5)
    network = Bytes(kind)
    x = torch.randint(0, 256, (3, 2, 3), dtype=torch.uint8)
    floats, unit = float_form(network, x)
    assert unit == (1 / 255 if kind == "bytes only" else 1.0)
    torch.testing.assert_close(network(floats), network(x))


# --- what it takes, and what it leaves alone ------------------------------------------------------


@pytest.mark.parametrize("of", ["q", "loss"])
@pytest.mark.parametrize("training", [True, False])
def test_parameters_modes_and_buffers_stay_as_they_are(of, training):
    network = small_conv().train(training)
    network.norm.train(not training)  # modes may differ between modules
    target = copy.deepcopy(network).train()
    t = transition((2, 7, 9))
    before = [copy.deepcopy(net.state_dict()) for net in (network, target)]
    modes = [[m.training for m in net.modules()] for net in (network, target)]
    own = {k: t.pop(k) for k in ("reward", "discount", "next_observation")} if of == "q" else {}
    more = {} if own else {"target_network": target}
    kept = {name: value.clone() for name, value in t.items()}
    gradient = input_gradient(network, **t, of=of, **more)
    assert not gradient.requires_grad
    assert modes == [[m.training for m in net.modules()] for net in (network, target)]
    for net, state in zip((network, target), before, strict=True):
        assert all(p.grad is None and p.requires_grad for p in net.parameters())
        for name, value in net.state_dict().items():
            assert torch.equal(value, state[name]), name
    assert all(torch.equal(t[name], value) and not value.requires_grad
               for name, value in kept.items())  # fmt: skip


def test_modes_come_back_after_an_error():
    class Broken(nn.Linear):
        def forward(self, x):
            raise RuntimeError("broken")

    network = Broken(2, 2).train()
    with pytest.raises(ConfigError, match=r"does not take .* \(RuntimeError: broken\)"):
        input_gradient(network, torch.zeros(1, 2))
    assert network.training


def test_every_sample_stands_alone_even_with_batch_norm():
    network, t = small_conv().train(), transition((2, 7, 9))
    whole = input_gradient(network, t["observation"], t["action"])
    for i in range(4):
        alone = input_gradient(network, t["observation"][i : i + 1], t["action"][i : i + 1])
        torch.testing.assert_close(alone[0], whole[i])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode):
    network = nn.Linear(3, 2)
    with mode():
        x, action = torch.randn(2, 3), torch.tensor([1, 0])
        gradient = input_gradient(network, x, action)
        more = {"reward": torch.ones(2), "discount": torch.ones(2), "next_observation": x + 1}
        assert input_gradient(network, x, action, of="loss", **more).shape == (2, 3)
    assert torch.equal(gradient, network.weight.detach()[[1, 0]])


def test_a_policy_a_learner_and_numpy():
    network = make_network((4,), 2, hidden_sizes=(8,))
    learner = Learner(network, device="cpu")
    gradients_before = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    of_learner = input_gradient(learner.network, x)
    assert isinstance(of_learner, np.ndarray) and of_learner.shape == (3, 4)
    assert np.array_equal(of_learner, input_gradient(learner.policy(), x))
    of_tensor = input_gradient(learner.policy(), torch.from_numpy(x))
    assert isinstance(of_tensor, torch.Tensor)
    assert np.array_equal(of_learner, of_tensor.numpy())
    for parameter, before in zip(network.parameters(), gradients_before, strict=True):
        assert (parameter.grad is None) == (before is None)
    frozen = Policy(copy.deepcopy(network).requires_grad_(False).eval())
    assert np.array_equal(of_learner, input_gradient(frozen, x))


def test_the_public_name():
    assert fastdqn.input_gradient is input_gradient


T = {"reward": torch.ones(2), "discount": torch.ones(2), "next_observation": torch.ones(2, 3)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"of": "value"}, "of = 'value'"),
        ({"loss": "l1"}, "loss = 'l1'"),
        ({"of": "loss", **T}, "needs action"),
        ({"of": "loss", "action": torch.tensor([0, 1])}, "needs reward"),
        ({"reward": torch.ones(2)}, "reward is only for of = 'loss'"),
        ({"target_network": nn.Linear(3, 2)}, "target_network is only for"),
        ({"action": torch.tensor([0])}, r"shape \(1,\)"),
        ({"action": torch.tensor([0, 2])}, r"\[0, 2\] leaves 0..1"),
        ({"action": torch.tensor([-1, 0])}, "leaves 0..1"),
        ({"of": "loss", "action": torch.tensor([0, 1]), **T, "reward": torch.ones(2, 1)}, "shape"),
        ({"observation": torch.ones(2, 3, dtype=torch.int64)}, "torch.int64 has no gradient"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, words):
    arguments = {"observation": torch.ones(2, 3), **arguments}
    with pytest.raises(ConfigError, match=words):
        input_gradient(nn.Linear(3, 2), **arguments)


# --- perturbation maps ----------------------------------------------------------------------------


def naive_map(network, frame, at_rows, at_columns, mask_sigma, blur_sigma):
    """Eq. 1 and 2 of Greydanus 2018, position by position, blurring pixel by pixel. [I, J]."""
    frame = frame.double().numpy()
    height, width = frame.shape[-2:]

    def bump(distance, sigma):
        return math.exp(-0.5 * (distance / sigma) ** 2)

    blurred = np.zeros_like(frame)
    for y in range(height):
        for x in range(width):
            weights = np.array([[bump(y - v, blur_sigma) * bump(x - u, blur_sigma)
                                 for u in range(width)] for v in range(height)])  # fmt: skip
            blurred[..., y, x] = (frame * weights).sum((-2, -1)) / weights.sum()
    q = network(torch.tensor(frame[None]))[0].detach().numpy()
    result = np.zeros((len(at_rows), len(at_columns)))
    for i, row in enumerate(at_rows):
        for j, column in enumerate(at_columns):
            mask = np.array([[bump(math.hypot(y - row, x - column), mask_sigma)
                              for x in range(width)] for y in range(height)])  # fmt: skip
            phi = frame * (1 - mask) + blurred * mask
            changed = network(torch.tensor(phi[None]))[0].detach().numpy()
            result[i, j] = 0.5 * ((q - changed) ** 2).sum()
    return result


@pytest.mark.parametrize("batch_size", [7, 256])
def test_the_map_is_that_of_a_loop_over_positions(batch_size):
    network = small_conv()
    frames = transition((2, 7, 9), batch=2)["observation"]
    saliency = perturbation_saliency(
        network.train(), frames, stride=1, mask_sigma=1.5, blur_sigma=1.0, batch_size=batch_size
    )
    assert network.training and saliency.shape == (2, 7, 9)
    for frame, found in zip(frames, saliency, strict=True):
        expected = naive_map(plain(network), frame, range(7), range(9), 1.5, 1.0)
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-9, atol=1e-12)
    assert saliency.min() >= 0 and saliency.max() > 1e-6


def test_a_stride_tries_fewer_positions_and_is_bilinear_between_them():
    network, frames = small_conv(), transition((2, 7, 9), batch=1)["observation"]
    sigmas = {"mask_sigma": 1.5, "blur_sigma": 1.0}
    coarse = perturbation_saliency(network, frames, stride=2, **sigmas)
    exact = perturbation_saliency(network, frames, stride=1, **sigmas)
    torch.testing.assert_close(coarse[:, ::2, ::2], exact[:, ::2, ::2])
    torch.testing.assert_close(coarse[:, 1, ::2], (coarse[:, 0, ::2] + coarse[:, 2, ::2]) / 2)
    assert positions(84, 5).tolist() == pytest.approx([83 * k / 17 for k in range(18)])
    assert positions(1, 5).tolist() == [0.0]
    assert positions(7, 2).tolist() == [0.0, 2.0, 4.0, 6.0]


class Region(nn.Module):
    """Q = (mean of a corner, 0): blind to everything else."""

    def forward(self, x):
        corner = x.float()[..., 20:30, 5:15].flatten(1).mean(1) / 255
        return torch.stack((corner, torch.zeros_like(corner)), dim=1)


def test_a_network_that_looks_at_one_region_has_its_map_there():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 4, 60, 50), dtype=torch.uint8, generator=generator)
    saliency = perturbation_saliency(Region(), frames, stride=3, mask_sigma=2.0)
    for one in saliency:
        y, x = divmod(int(one.argmax()), 50)
        assert 18 <= y < 32 and 3 <= x < 17
        near = torch.zeros(60, 50, dtype=torch.bool)
        near[8:42, :27] = True  # six sigmas of the mask around the region
        assert one[~near].max() < 1e-6 * one.max()
    gradient = input_gradient(Region(), frames)
    outside = gradient.clone()
    outside[..., 20:30, 5:15] = 0
    assert outside.abs().max() == 0
    assert torch.allclose(gradient[..., 20:30, 5:15], torch.tensor(1 / (255 * 400)))


def test_a_smooth_picture_has_no_map():
    saliency = perturbation_saliency(Region(), torch.full((1, 1, 40, 40), 200, dtype=torch.uint8))
    assert saliency.max() < 1e-12


def test_numpy_in_numpy_out():
    frames = np.random.default_rng(0).integers(0, 256, (1, 2, 40, 36), np.uint8)
    network = make_network((40, 36), 3, frame_stack=2, hidden_sizes=(16,))
    saliency = perturbation_saliency(Policy(network), frames, stride=10)
    assert isinstance(saliency, np.ndarray)
    assert saliency.shape == (1, 40, 36) and saliency.dtype == np.float32
    assert saliency.max() > 0


@pytest.mark.parametrize(
    ("frames", "changes", "words"),
    [
        (torch.zeros(2, 5), {}, "no pictures"),
        (torch.zeros(1, 8, 8), {"stride": 0}, "stride = 0"),
        (torch.zeros(1, 8, 8), {"mask_sigma": -1.0}, "mask_sigma"),
        (torch.zeros(1, 8, 8), {"blur_sigma": math.nan}, "blur_sigma"),
    ],
)
def test_maps_of_nonsense_are_refused(frames, changes, words):
    with pytest.raises(ConfigError, match=words):
        perturbation_saliency(nn.Flatten(), frames, **changes)

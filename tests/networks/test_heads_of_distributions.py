"""Heads that make a distribution for each action: the order of their numbers, and their Q."""

import math

import pytest
import torch
from helpers import menu_oracle
from helpers.head_details import of_head

from fastdqn.errors import ConfigError
from fastdqn.networks.draws import Draw
from fastdqn.networks.heads import DuelingHead, LinearHead
from fastdqn.networks.make import make_network
from fastdqn.networks.values import CategoricalValues, QuantileValues, ScalarValues, midpoints

CPU = torch.device("cpu")
SMALL = {
    "hidden_sizes": (6,), "atoms": 5, "value_min": -2.0, "value_max": 4.0, "quantiles": 4,
    "iqn_policy_samples": 3, "iqn_cosines": 2,
}  # fmt: skip
NUMBERS = {"c51": 5, "qr": 4, "iqn": 3}


def make(head, **options):
    torch.manual_seed(0)
    return make_network((3,), 2, head=head, **of_head(head, {**SMALL, **options}))


def frames(batch=4):
    return torch.randn((batch, 3), generator=torch.Generator().manual_seed(0))


# --- numbers and Q -------------------------------------------------------------------------------


def test_q_of_atoms_by_hand():
    values = CategoricalValues(-1.0, 3.0, 3)  # -1, 1, 3
    assert values.support(CPU).tolist() == [-1.0, 1.0, 3.0]
    log3 = math.log(3)
    output = torch.tensor([[[0.0, 0.0, 0.0], [0.0, -1e4, log3]], [[50.0, 50.0, 50.0]] * 2])
    # Means of (1/3, 1/3, 1/3) and (1/4, 0, 3/4); logits count up to a constant.
    assert values.q_values(output).flatten().tolist() == pytest.approx([1, 2, 1, 1], rel=1e-6)


def test_q_of_quantiles_by_hand():
    output = torch.tensor([[[0.0, 1.0, 5.0], [1.0, -1.0, 3.0]]])
    assert QuantileValues(3).q_values(output).tolist() == [[2.0, 1.0]]
    assert midpoints(4, CPU).tolist() == [0.125, 0.375, 0.625, 0.875]


def test_the_atoms_of_the_paper():
    found = CategoricalValues().support(CPU)
    assert found.dtype == torch.float32 and len(found) == 51
    expected = menu_oracle.atoms(-10.0, 10.0, 51)
    assert found.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert found[0] == -10 and found[-1] == 10


@pytest.mark.parametrize(
    ("low", "high", "atoms", "said"),
    [
        (1.0, 1.0, 2, "must be below value_max"),
        (1.0, 1.0 + 1e-12, 2, "leaves 2 atoms up to value_max = .* no room in float32; lower it"),
        (1.0, 1.000004, 51, "leaves 51 atoms"),
        (1e10, 1e10 + 1, 2, "leaves 2 atoms"),
        (0.0, 5e-324, 2, "leaves 2 atoms"),
        (-1e300, 1e300, 2, "value_min = -1e.300 is out of range"),
        (0.0, 1e31, 2, "value_max = 1e.31 is out of range"),
    ],
)
def test_atoms_that_float32_does_not_tell_apart_are_refused(low, high, atoms, said):
    with pytest.raises(ConfigError, match=said):
        CategoricalValues(low, high, atoms)


@pytest.mark.parametrize(
    ("low", "high", "atoms"), [(1.0, 1.00001, 51), (-1e30, 1e30, 65_536), (0.0, 1e-20, 3)]
)
def test_atoms_that_are_allowed_differ(low, high, atoms):
    support = CategoricalValues(low, high, atoms).support(CPU)
    assert (support.diff() > 0).all() and support.isfinite().all()


@pytest.mark.parametrize("batch", [1, 4])
def test_q_of_atoms_is_the_formula(batch):
    values = CategoricalValues(-2.0, 5.0, 7)
    output = torch.randn(batch, 3, 7, dtype=torch.float64) * 3
    z = menu_oracle.atoms(-2.0, 5.0, 7)
    expected = [[menu_oracle.expectation(logits, z) for logits in row] for row in output.tolist()]
    for row, wanted in zip(values.q_values(output).tolist(), expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-6, abs=1e-6)


# --- heads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [None, 1, 4])
@pytest.mark.parametrize("batch", [1, 5])
def test_the_numbers_of_an_action_lie_side_by_side(numbers, batch):
    torch.manual_seed(0)
    head = LinearHead(6, 3, numbers).double()
    x = torch.randn(batch, 6, dtype=torch.float64)
    output = head(x)
    assert output.shape == ((batch, 3) if numbers is None else (batch, 3, numbers))
    flat = output.reshape(batch, -1)
    for row, features in zip(flat.tolist(), x, strict=True):
        assert row == pytest.approx((head.q.weight @ features + head.q.bias).tolist(), rel=1e-9)


def test_dueling_by_hand():
    head = DuelingHead(2, 2, 3)
    with torch.no_grad():
        head.value.weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        head.value.bias.zero_()
        head.advantage.weight.copy_(torch.tensor([[1.0], [0.0], [2.0], [3.0], [4.0], [0.0]]))
        head.advantage.bias.zero_()
    # V = (1, 2, 3), A = (1, 0, 2) and (3, 4, 0), of means (2, 2, 1)
    assert head(torch.tensor([[1.0, 1.0]])).tolist() == [[[0.0, 0.0, 4.0], [2.0, 4.0, 2.0]]]
    # Halves are apart: V of the first feature, A of the second.
    assert head(torch.tensor([[1.0, 0.0]])).tolist() == [[[1.0, 2.0, 3.0]] * 2]
    assert head(torch.tensor([[0.0, 1.0]])).tolist() == [[[-1.0, -2.0, 1.0], [1.0, 2.0, -1.0]]]


@pytest.mark.parametrize("numbers", [None, 1, 4])
@pytest.mark.parametrize("actions", [1, 3])
def test_dueling_is_the_formula_number_by_number(numbers, actions):
    torch.manual_seed(0)
    head = DuelingHead(6, actions, numbers).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    output = head(x).reshape(5, actions, -1)
    value = torch.nn.functional.linear(x[:, :3], head.value.weight, head.value.bias).tolist()
    advantage = torch.nn.functional.linear(x[:, 3:], head.advantage.weight, head.advantage.bias)
    for b in range(5):
        rows = advantage[b].reshape(actions, -1).tolist()
        for found, wanted in zip(output[b], menu_oracle.dueling(value[b], rows), strict=True):
            assert found.tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    means = output.mean(1)  # of all actions V remains
    torch.testing.assert_close(means, torch.tensor(value, dtype=torch.float64))


def test_what_all_actions_share_is_not_in_the_order_of_their_q():
    head = DuelingHead(6, 3, 4)
    x = torch.randn(5, 6)
    before = head(x)
    with torch.no_grad():
        head.advantage.bias.copy_(head.advantage.bias + torch.randn(4).repeat(3))
    torch.testing.assert_close(head(x), before, rtol=1e-4, atol=1e-5)


def test_the_parts_of_a_dueling_head_of_atoms_are_joined_before_their_softmax():
    network = make("c51", dueling=True)
    x = frames()
    with torch.no_grad():
        features = network.torso(x)
        value = network.head.value(features[:, :6])
        advantage = network.head.advantage(features[:, 6:]).reshape(4, 2, 5)
        p = (value[:, None] + advantage - advantage.mean(1, keepdim=True)).softmax(2)
        expected = (p * torch.linspace(-2, 4, 5)).sum(2)
        torch.testing.assert_close(network.q_values(network(x)), expected, rtol=1e-5, atol=1e-5)


# --- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("head", NUMBERS)
def test_outputs_have_actions_before_numbers(head, batch, dueling):
    network = make(head, dueling=dueling)
    output = network(frames(batch))
    assert output.shape == (batch, 2, NUMBERS[head]) and output.dtype == torch.float32
    q = network.q_values(output)
    assert q.shape == (batch, 2)
    if head != "c51":
        torch.testing.assert_close(q, output.mean(2))
    alone = torch.cat([network(frames(batch)[i : i + 1]) for i in range(batch)])
    torch.testing.assert_close(output, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", NUMBERS)
def test_of_no_observations_there_are_no_outputs(head):
    assert make(head)(frames(0)).shape == (0, 2, NUMBERS[head])


def test_values_are_those_of_the_head():
    assert make("scalar").values == ScalarValues()
    assert make("c51").values == CategoricalValues(-2.0, 4.0, 5)
    assert make("qr").values == QuantileValues(4)
    assert make("iqn").values == QuantileValues(None)


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("samples", [1, 5])
def test_an_implicit_network_is_its_parts_fraction_by_fraction(dueling, samples):
    network = make("iqn", dueling=dueling, hidden_sizes=(7, 6)).double()
    g = torch.Generator().manual_seed(1)
    x, tau = frames().double(), torch.rand((4, samples), generator=g, dtype=torch.float64)
    output = network(x, {"tau": tau})
    assert output.shape == (4, 2, samples)
    weight, bias = (p.tolist() for p in network.embedding.linear.parameters())
    with torch.no_grad():
        body = network.torso.body(x)
        for b in range(4):
            for n in range(samples):
                cosines = menu_oracle.cosine_features(tau[b, n].item(), weight, bias, 1)
                features = body[b] * torch.tensor(cosines, dtype=torch.float64)
                z = network.head(network.torso.to_hidden(features.unsqueeze(0)))
                torch.testing.assert_close(output[b, :, n], z[0], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("cvar", "low", "high"), [(1.0, 1 / 6, 5 / 6), (0.3, 0.05, 0.25)])
def test_without_fractions_it_acts_by_midpoints_up_to_cvar(cvar, low, high):
    network = make("iqn", iqn_cvar=cvar)
    tau = torch.tensor([[low, (low + high) / 2, high]]).expand(4, -1)
    torch.testing.assert_close(network(frames()), network(frames(), {"tau": tau}))
    assert network.acting_shapes(4) == {"tau": Draw("uniform", (4, 3), cvar)}
    # What is learned is the whole distribution.
    assert network.random_shapes(4, 9) == {"tau": Draw("uniform", (4, 9))}
    assert network.random_shapes(4) == {"tau": Draw("uniform", (4, 3))}


def test_gradients_are_those_of_finite_differences():
    for head in NUMBERS:
        network = make(head, dueling=True).double()
        tau = {"tau": torch.rand((2, 3), generator=torch.Generator().manual_seed(0)).double()}
        x = frames(2).double().requires_grad_()
        randoms = tau if head == "iqn" else None
        assert torch.autograd.gradcheck(lambda x, n=network, r=randoms: n.q_values(n(x, r)), (x,))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"head": "c52"}, "head = 'c52' must be one of scalar, c51, qr, iqn"),
        ({"head": "c51", "atoms": 1}, "atoms = 1 is out of range"),
        ({"head": "c51", "value_min": 4.0}, r"value_min = 4\.0 must be below value_max = 4\.0"),
        ({"head": "qr", "quantiles": 0}, "quantiles = 0 is out of range"),
        ({"head": "qr", "quantiles": 2.5}, r"quantiles = 2\.5"),
        ({"head": "iqn", "iqn_cvar": 0.0}, r"iqn_cvar = 0"),
        ({"head": "iqn", "iqn_cosines": 0}, "iqn_cosines = 0"),
        ({"head": "iqn", "iqn_policy_samples": "8"}, "iqn_policy_samples = '8'"),
        ({"head": "qr", "noisy": 1}, "noisy = 1"),
        ({"head": "qr", "noisy_sigma": -0.5}, r"noisy_sigma = -0\.5"),
        ({"head": "qr", "quantile": 8}, "quantile is no argument of make_network"),
    ],
)
def test_what_makes_no_head_is_refused_in_one_sentence(options, said):
    with pytest.raises(ConfigError, match=said):
        make(**options)

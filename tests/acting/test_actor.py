"""Epsilon-greedy: a coin for every env, frequencies as they should be, actions always in range."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fastdqn.acting import exploration, exploration_numba
from fastdqn.acting.actor import Actor
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.networks.forward import forward_q
from fastdqn.networks.make import make_network

pytestmark = pytest.mark.usefixtures("both_ways")

ALMOST_ONE = 1 - 2.0**-24


def plain_epsilon_greedy(q, epsilon, coin, choice):
    """One env."""
    if coin < epsilon:
        return min(int(choice * len(q)), len(q) - 1)
    return max(range(len(q)), key=lambda a: (q[a], -a))


class Table(nn.Module):
    """Q values that are the observation itself."""

    def forward(self, observation):
        return observation


def chi_square(counts, expected):
    return sum((c - e) ** 2 / e for c, e in zip(counts, expected, strict=True))


def chi_square_limit(freedom):
    """Exceeded by chance once in a million (Wilson and Hilferty 1931)."""
    return freedom * (1 - 2 / (9 * freedom) + 4.753424 * math.sqrt(2 / (9 * freedom))) ** 3


# --- the function --------------------------------------------------------------------------------


def epsilon_greedy(*arguments):
    """Torch and Numba say the same, whatever is asked."""
    actions = exploration.epsilon_greedy(*arguments)
    twin = exploration_numba.epsilon_greedy(*arguments)
    assert actions.dtype == twin.dtype and torch.equal(actions, twin)
    return actions


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("actions", [1, 2, 18])
def test_against_a_loop(epsilon, actions):
    g = torch.Generator().manual_seed(0)
    q, uniform = torch.randn(200, actions, generator=g), torch.rand(2, 200, generator=g)
    got = epsilon_greedy(q, epsilon, uniform)
    assert got.dtype == torch.int64 and got.shape == (200,)
    rows = zip(q.tolist(), *uniform.tolist(), strict=True)
    assert got.tolist() == [
        plain_epsilon_greedy(values, epsilon, coin, choice) for values, coin, choice in rows
    ]


def test_every_env_has_its_own_coin():
    q = torch.tensor([[0.0, 1.0, 0.0]]).expand(4, 3)
    uniform = torch.tensor([[0.1, 0.9, 0.1, 0.9], [0.9, 0.9, 0.0, 0.0]])
    assert epsilon_greedy(q, 0.5, uniform).tolist() == [2, 1, 0, 1]


def test_every_env_has_its_own_epsilon():
    q = torch.tensor([[0.0, 1.0, 0.0]]).expand(4, 3)
    uniform = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.9, 0.9, 0.9, 0.9]])
    epsilon = torch.tensor([0.0, 0.4, 0.6, 1.0])
    assert epsilon_greedy(q, epsilon, uniform).tolist() == [1, 1, 2, 2]


def test_a_chance_counts_in_the_precision_of_the_coins():
    """A coin that is the chance, rounded, is no hit: float64 would call every second one a hit."""
    chance = torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    uniform = torch.stack((chance.float(), torch.full((500,), ALMOST_ONE)))
    assert (chance.float() < chance).any()
    assert not epsilon_greedy(torch.tensor([[1.0, 0.0]]).expand(500, 2), chance, uniform).any()


@pytest.mark.parametrize("actions", [1, 2, 3, 6, 18, 1000, 2**20 + 1])
@pytest.mark.parametrize("edge", [0.0, 2.0**-24, ALMOST_ONE, 1.0])
def test_actions_are_in_range_whatever_the_uniform_number(actions, edge):
    q = torch.zeros(3, actions)
    uniform = torch.tensor([[0.0, edge, 1.0], [edge] * 3])
    got = epsilon_greedy(q, 1.0, uniform)
    assert ((got >= 0) & (got < actions)).all()
    assert got[0].item() == min(int(np.float32(edge) * np.float32(actions)), actions - 1)


def test_a_value_that_is_no_number_counts_as_the_largest():
    """As torch has it, whatever does the work; it is noticed elsewhere."""
    nan = math.nan
    q = torch.tensor([[1.0, nan, 2.0], [nan, 1.0, nan], [3.0, 2.0, 3.0]])
    assert epsilon_greedy(q, 0.0, torch.ones(2, 3)).tolist() == [1, 0, 0]


def test_epsilon_zero_is_greedy_even_at_a_coin_of_zero():
    q = torch.tensor([[0.0, 1.0]])
    assert epsilon_greedy(q, 0.0, torch.zeros(2, 1)).item() == 1


def test_epsilon_one_is_never_greedy():
    q = torch.tensor([[0.0, 9.0]])
    assert epsilon_greedy(q, 1.0, torch.tensor([[ALMOST_ONE], [0.0]])).item() == 0


def test_epsilon_greedy_makes_no_graph():
    q = torch.randn(2, 3, requires_grad=True)
    assert not epsilon_greedy(q, 0.5, torch.rand(2, 2)).requires_grad


# --- the actor -----------------------------------------------------------------------------------


def test_frequencies():
    n, actions, epsilon, turns = 8, 5, 0.3, 5000
    actor = Actor(Table(), n, seed=1)
    actor.epsilon.fill_(epsilon)
    best = [env % actions for env in range(n)]
    q = torch.zeros(n, actions)
    q[range(n), best] = 1.0
    drawn = torch.stack([actor.act(q) for _ in range(turns)])
    for env in range(n):
        counts = np.bincount(drawn[:, env].numpy(), minlength=actions)
        expected = [turns * epsilon / actions] * actions
        expected[best[env]] += turns * (1 - epsilon)
        assert chi_square(counts, expected) < chi_square_limit(actions - 1)
    # The coins of the envs are independent: the number of envs off the greedy action is binomial.
    # One coin for the whole batch would put most of it at 0.
    p = epsilon * (1 - 1 / actions)
    off = np.bincount((drawn != torch.tensor(best)).sum(1).numpy(), minlength=n + 1)
    expected = [turns * math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    off, expected = [*off[:6], off[6:].sum()], [*expected[:6], sum(expected[6:])]
    assert min(expected) > 5
    assert chi_square(off, expected) < chi_square_limit(6)
    together = [turns * (1 - p), *[0.0] * 5, turns * p]  # what one coin would give
    assert chi_square(together, expected) > chi_square_limit(6)


def test_frequencies_of_an_epsilon_per_env():
    actor = Actor(Table(), 3, seed=2)
    actor.epsilon = torch.tensor([0.0, 0.5, 1.0])
    q = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    drawn = torch.stack([actor.act(q) for _ in range(4000)])
    other = drawn.sum(dim=0).tolist()
    assert other[0] == 0
    assert chi_square([other[1], 4000 - other[1]], [1000, 3000]) < chi_square_limit(1)
    assert chi_square([other[2], 4000 - other[2]], [2000, 2000]) < chi_square_limit(1)


def test_epsilon_starts_at_one_and_is_changed_in_place():
    actor = Actor(Table(), 2)
    epsilon = actor.epsilon
    assert epsilon.shape == () and epsilon.item() == 1.0
    epsilon.fill_(0.0)
    q = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert all(actor.act(q).tolist() == [1, 0] for _ in range(50))


def test_the_seed_alone_decides():
    q = torch.zeros(4, 6)
    state = torch.get_rng_state()
    one, two, other = (Actor(Table(), 4, seed=seed) for seed in (3, 3, 4))
    rows = [[actor.act(q).tolist() for _ in range(20)] for actor in (one, two, other)]
    assert rows[0] == rows[1] != rows[2]
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is not touched


def test_state_round_trip():
    q = torch.zeros(4, 6)
    actor = Actor(Table(), 4, seed=3)
    actor.epsilon.fill_(0.7)
    for _ in range(5):
        actor.act(q)
    state = {name: tensor.clone() for name, tensor in actor.state_dict().items()}
    wanted = [actor.act(q).tolist() for _ in range(1000)]
    other = Actor(Table(), 4, seed=99)
    address = other.epsilon.data_ptr()
    other.load_state_dict(state)
    assert other.epsilon.data_ptr() == address and other.epsilon.item() == pytest.approx(0.7)
    assert [other.act(q).tolist() for _ in range(1000)] == wanted


def test_the_state_holds_one_chance_or_one_for_each_env():
    ladder = Actor(Table(), 3)
    ladder.epsilon = torch.tensor([0.1, 0.2, 0.4])
    one = Actor(Table(), 3)
    one.load_state_dict(ladder.state_dict())
    assert torch.equal(one.epsilon, ladder.epsilon)
    one.epsilon.fill_(0.0)
    assert ladder.epsilon.min() > 0  # each has its own
    one.load_state_dict(Actor(Table(), 3).state_dict())
    assert one.epsilon.shape == () and one.epsilon.item() == 1.0
    with pytest.raises(CheckpointError, match=r"epsilon has shape \[3\]"):
        Actor(Table(), 2).load_state_dict(ladder.state_dict())


def test_forward_q_is_float32_and_without_gradient():
    torch.manual_seed(0)
    network = make_network((36, 36), 3, frame_stack=2, hidden_sizes=(16,))
    observation = torch.randint(0, 256, (2, 2, 36, 36), dtype=torch.uint8)
    with torch.no_grad():
        plain, lowered = (forward_q(network, observation, bf16) for bf16 in (False, True))
    assert plain.dtype == lowered.dtype == torch.float32
    torch.testing.assert_close(lowered, plain, rtol=0.05, atol=0.02)
    assert not torch.equal(lowered, plain)
    assert not Actor(network, 2).act(observation).requires_grad


def test_a_head_that_is_no_q_goes_through_q_values():
    class TwoQuantiles(nn.Module):
        def forward(self, observation):
            return observation.view(-1, 2, 2)  # [B, A, quantiles]

        def q_values(self, output):
            return output.mean(dim=-1)

    actor = Actor(TwoQuantiles(), 1)
    actor.epsilon.fill_(0.0)
    # means 5 and 3; flat, the largest is the third
    assert actor.act(torch.tensor([[5.0, 5.0, 6.0, 0.0]])).tolist() == [0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match="device = 'cuda' is not there"):
        Actor(make_network((4,), 2), 3, device="cuda")

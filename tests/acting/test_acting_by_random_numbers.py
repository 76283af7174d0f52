"""Acting with noise and by quantile fractions: whose numbers, how many, and none in evaluation."""

import pytest
import torch

from fastdqn.acting.actor import Actor
from fastdqn.acting.policy import Policy
from fastdqn.networks.make import make_network

N, ACTIONS = 6, 5


def network_of(**changes):
    torch.manual_seed(3)
    return make_network((4,), ACTIONS, hidden_sizes=(8,), **changes).eval()


def one_observation(rows=N):
    return torch.linspace(-1, 1, 4).expand(rows, 4).contiguous()


def what_was_given(network):
    """The random numbers of each forward to come."""
    given = []
    network.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs.get("randoms")), with_kwargs=True
    )
    return given


def greedy(network, mode="eager", seed=1):
    actor = Actor(network, N, mode=mode, seed=seed, compile_backend="aot_eager")
    actor.epsilon = 0.0
    return actor


def test_every_env_has_noise_of_its_own():
    network = network_of(noisy=True, noisy_sigma=20.0)
    given = what_was_given(network)
    actions = greedy(network).act(one_observation()).tolist()
    (noise,) = filter(None, given)  # an actor tries a new network without
    assert {name: tuple(x.shape) for name, x in noise.items()} == {
        "torso.layers.0.in": (N, 4), "torso.layers.0.out": (N, 8),
        "head.q.in": (N, 8), "head.q.out": (N, ACTIONS),
    }  # fmt: skip
    assert len(set(actions)) > 1  # of one observation
    rows = [
        network(one_observation(1), {name: x[i : i + 1] for name, x in noise.items()})
        for i in range(N)
    ]
    assert torch.cat(rows).argmax(1).tolist() == actions


def test_the_noise_is_the_actors_and_new_at_every_step():
    network = network_of(noisy=True, noisy_sigma=20.0)
    one, again, other = greedy(network), greedy(network), greedy(network, seed=2)
    seen = [
        [actor.act(one_observation()).tolist() for _ in range(5)] for actor in (one, again, other)
    ]
    assert seen[0] == seen[1] != seen[2]
    assert len(set(map(tuple, seen[0]))) > 1
    later = greedy(network)
    later.load_state_dict(one.state_dict())
    assert later.act(one_observation()).tolist() == one.act(one_observation()).tolist()


def test_evaluation_has_neither_noise_nor_chance():
    for changes in ({"noisy": True, "noisy_sigma": 20.0}, {"head": "iqn"}):
        network = network_of(**changes)
        given = what_was_given(network)
        actions = Policy(network).act(one_observation())
        assert set(given) == {None} and len(set(actions.tolist())) == 1


def test_a_network_without_random_numbers_draws_a_coin_and_an_action():
    actor = greedy(network_of(head="c51", dueling=True))
    g = torch.Generator().manual_seed(1)
    actor.act(one_observation())
    torch.rand((2, N), generator=g)
    assert torch.equal(actor.generator.get_state(), g.get_state())


@pytest.mark.parametrize("cvar", [1.0, 0.25])
def test_fractions_to_act_by_are_of_each_env_and_end_at_cvar(cvar):
    network = network_of(head="iqn", iqn_policy_samples=16, iqn_cvar=cvar)
    given = what_was_given(network)
    for actor in (greedy(network), greedy(network, seed=2)):
        actor.act(one_observation())
    taus = torch.stack([numbers["tau"] for numbers in filter(None, given)])
    assert taus.shape == (2, N, 16)
    assert taus.min() >= 0
    assert 0.9 * cvar < taus.max() < cvar
    assert taus.unique().numel() == taus.numel()
    # An update draws from the whole of [0, 1), also to choose an action by.
    assert network.random_shapes(3, 7)["tau"] == ("uniform", (3, 7), 1.0)


def test_risk_is_shunned():
    """Of two actions that one is taken which cannot be bad, where the worst quarter counts."""
    fractions = []

    class Gamble(torch.nn.Module):
        """Action 0 is 1 for sure; action 1 is -9 in the worst tenth, and otherwise 2.3."""

        def forward(self, features):
            tau = fractions[-1].flatten()
            return torch.stack((torch.ones_like(tau), torch.where(tau < 0.1, -9.0, 2.3)), dim=1)

    for cvar, wanted in ((1.0, 1), (0.25, 0)):
        network = network_of(head="iqn", iqn_policy_samples=20, iqn_cvar=cvar)
        network.head = Gamble()
        network.embedding.register_forward_pre_hook(lambda _, args: fractions.append(args[0]))
        assert Policy(network).act(one_observation(1)).tolist() == [wanted]


@pytest.mark.parametrize("head", ["iqn", "scalar"])
def test_compiled_it_acts_as_eager(head):
    network = network_of(head=head, noisy=True, noisy_sigma=20.0)
    acted = [
        [actor.act(one_observation()).tolist() for _ in range(3)]
        for actor in (greedy(network), greedy(network, "compile"))
    ]
    assert acted[0] == acted[1]
